"""Convert a function to the name by which a worker imports it, and back."""

import sys
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import import_module
from time import monotonic
from typing import Any

from .._runtime.failures import describe
from ..exceptions import NotImportable, PayloadError, UnknownCallableError, UnknownModuleError

MAX_WRAPPERS = 10

REST = 10
"""A failed import is not repeated for this many times its duration, because it may be expensive."""

MAX_REST = 60.0

MAX_FAILED = 1_000

_failed: dict[str, tuple[float, str]] = {}
"""The modules whose last import failed: the time of the next attempt, and the reason."""


def locate(func: Callable[..., Any]) -> tuple[str, str]:
    """Return the module and the dotted name by which any process can import *func*.

    Raises `NotImportable`, which says what to do, if there is no such name.

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
        if isinstance(name, str) and unwrapped(_find(module, name)) == func:
            return module, name
    raise NotImportable(f"{module}.{names[0]} {_why(func, str(names[0]))}")


def _find(module: str, name: str) -> Any:
    # Look in the module before importing it: if another thread is importing it, waiting for that
    # thread could be a deadlock, and the function is already defined.
    found = getattr(sys.modules.get(module), name, None)
    try:
        return load(module, name) if found is None else found
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


def unwrapped(found: Any) -> Any:
    """Return the function of a task object of another library, which itself has no name.

    Such an object has its function in ``func`` or ``__wrapped__``. A partial is returned as it is:
    it has arguments of its own.
    """
    for _ in range(MAX_WRAPPERS):
        if isinstance(found, partial) or isinstance(getattr(found, "__qualname__", None), str):
            break
        inner = _attribute(found, "func") or _attribute(found, "__wrapped__")
        if not callable(inner):
            break
        found = inner
    return found


def _attribute(found: object, name: str) -> object:
    """Return an attribute that exists; a mock would create one of any name."""
    is_there = name in getattr(found, "__dict__", ()) or hasattr(type(found), name)
    return getattr(found, name, None) if is_there else None


def find_function(module: str, name: str) -> Callable[..., Any]:
    """Import the function that a payload names; raises `PayloadError`."""
    if not (_is_dotted(module) and _is_dotted(name)):
        raise PayloadError(f"{module!r:.80} and {name!r:.80} do not name a function")
    found = unwrapped(load(module, name))
    if not callable(found):
        raise UnknownCallableError(f"{module}.{name} is not a function")
    func: Callable[..., Any] = found
    return func


@lru_cache(maxsize=4096)
def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def load(module: str, name: str) -> Any:
    """Import a module and return its attribute at the dotted *name*.

    A module that another thread is importing is waited for. Raises `UnknownModuleError` when the
    module cannot be imported, for whatever reason, and `UnknownCallableError` when it holds nothing
    of that name.
    """
    imported = sys.modules.get(module)
    found: Any = getattr(imported, name, None)
    if found is not None and not _is_half_imported(imported):
        return found
    found = _import(module)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except Exception as error:  # __getattr__ of a module may raise anything
            raise UnknownCallableError(f"{module} has no {name}") from error
    return found


def _is_half_imported(module: object) -> bool:
    return getattr(getattr(module, "__spec__", None), "_initializing", False) is True


def _import(module: str) -> Any:
    until, reason = _failed.get(module, (0.0, ""))
    if monotonic() < until:
        raise UnknownModuleError(reason)
    began = monotonic()
    try:
        found = import_module(module)
    except (Exception, SystemExit) as error:  # an import runs code, which may raise anything
        reason = f"cannot import {module}: {describe(error)}"
        now = monotonic()
        if len(_failed) >= MAX_FAILED:
            _failed.clear()
        _failed[module] = now + min((now - began) * REST, MAX_REST), reason
        raise UnknownModuleError(reason) from error
    _failed.pop(module, None)
    return found
