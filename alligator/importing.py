"""From a function to the name a worker finds it by, and back."""

import sys
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

from .exceptions import NotImportable, UnknownCallableError, UnknownModuleError


def locate(func: Callable[..., Any]) -> tuple[str, str]:
    """Name *func* as ``(module, dotted name)``, as any other process could import it.

    Raises `NotImportable`, saying what to do about it, for whatever has no such name.

    >>> from random import choice
    >>> locate(choice)
    ('random', 'choice')
    """
    try:
        return _locate(func)
    except TypeError as error:  # not hashable, so not cached
        if isinstance(error, NotImportable):
            raise
        return _locate.__wrapped__(func)


@lru_cache(maxsize=4096)
def _locate(func: Callable[..., Any]) -> tuple[str, str]:
    module = getattr(func, "__module__", None)
    names = (getattr(func, "__qualname__", None), getattr(func, "__name__", None))
    owner = getattr(func, "__self__", None)
    if isinstance(owner, type):  # a class method, which may be inherited from another module
        module, names = owner.__module__, (f"{owner.__qualname__}.{names[1]}", names[1])
    if not isinstance(module, str) or not isinstance(names[0], str):
        raise NotImportable(
            f"{func!r} is an object without a name of its own; a task is a function that can be "
            "imported. Wrap the call in a function at the top of a module."
        )
    if module == "__main__":
        raise NotImportable(
            f"{names[0]} was defined in the program that was started (__main__), where no worker "
            "can import it from. Move it to a module of its own and import it from there."
        )
    for name in names:
        if isinstance(name, str) and _find(module, name) == func:
            return module, name
    raise NotImportable(f"{module}.{names[0]} {_why(func, str(names[0]))}")


def _find(module: str, name: str) -> Any:
    try:
        return load(module, name)
    except (UnknownModuleError, UnknownCallableError):
        return None


def _why(func: Callable[..., Any], name: str) -> str:
    if "<lambda>" in name:
        return "is a lambda: give it a name with def, at the top of a module."
    if "<locals>" in name:
        return "is defined inside a function: move it to the top of its module."
    if getattr(func, "__self__", None) is not None:
        return (
            "is a method of an instance, which would stay behind: make it a function "
            "that is given what it needs (an id, say) and finds the rest itself."
        )
    return (
        "is not what an import of that name gives: was it replaced, or wrapped by a decorator "
        "that keeps the original's name? Pass the function that the module holds."
    )


def load(module: str, name: str) -> Any:
    """Import what ``module`` holds at the dotted *name*.

    Raises `UnknownModuleError` when the module cannot be imported, for whatever reason, and
    `UnknownCallableError` when it holds nothing of that name.
    """
    # What is imported already is there, unless another thread is only just importing it.
    found: Any = getattr(sys.modules.get(module), name, None)
    if found is not None:
        return found
    try:
        found = import_module(module)
    except (Exception, SystemExit) as error:  # an import runs code, which may raise anything
        raise UnknownModuleError(f"cannot import {module}: {error}") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise UnknownCallableError(f"{module} has no {name}") from error
    return found
