"""The helpers of Alligator 1.0 under their old names; see `payload.functions` for the new ones."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .exceptions import UnknownModuleError
from .payload.functions import load


def determine_module(func: Callable[..., Any]) -> str:
    """Return the name of the module that defines *func*."""
    return func.__module__


def determine_name(func: Callable[..., Any]) -> str:
    """Return the name of *func*, or of its class if it has none."""
    return str(getattr(func, "__name__", type(func).__name__))


def import_module(module_name: str) -> ModuleType:
    """Import a module and return it; raises `UnknownModuleError`."""
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise UnknownModuleError(str(error)) from error


def import_attr(module_name: str, attr_name: str) -> Any:
    """Import an attribute of a module; raises `UnknownModuleError` or `UnknownCallableError`."""
    return load(module_name, attr_name)
