"""The helpers of Alligator 1.0 under their old names; what they do now is in `importing`."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .exceptions import UnknownModuleError
from .importing import load


def determine_module(func: Callable[..., Any]) -> str:
    """Name the module that *func* comes from."""
    return func.__module__


def determine_name(func: Callable[..., Any]) -> str:
    """Name *func*, or the class of an object that has no name."""
    return str(getattr(func, "__name__", type(func).__name__))


def import_module(module_name: str) -> ModuleType:
    """Import a module; raise `UnknownModuleError` when that fails."""
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise UnknownModuleError(str(error)) from error


def import_attr(module_name: str, attr_name: str) -> Any:
    """Import what a module holds; raise also `UnknownCallableError`."""
    return load(module_name, attr_name)
