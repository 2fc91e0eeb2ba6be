"""The function of a task: its name, by which a worker imports it, and the arguments that it takes."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from importlib import import_module
from inspect import Parameter
from sys import maxsize
from time import monotonic
from types import FunctionType, MethodType
from typing import Any

from .._runtime.coroutines import check_runs
from .._runtime.failures import describe
from .._runtime.signatures import signature
from ..constants import MAX_WRAPPERS
from ..exceptions import (
    InvalidOption,
    NotImportable,
    PayloadError,
    UnknownCallableError,
    UnknownModuleError,
    WrongArguments,
)
from .hints import Hint, hint_of

VAR_POSITIONAL = 0x04
VAR_KEYWORD = 0x08

MAX_SHAPES = 100
"""How many kinds of calls of a function are remembered."""

MAX_HINTS = 100
"""How many annotations of a function are kept."""

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
    found = _imported(module, name)
    if type(found) is FunctionType:
        return found  # the usual case, which must be quick
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
    found = _imported(module, name)
    if found is not None:
        return found
    found = _import(module)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except Exception as error:  # __getattr__ of a module may raise anything
            raise UnknownCallableError(f"{module} has no {name}") from error
    return found


def _imported(module: str, name: str) -> Any:
    """Return the attribute of a module that has been imported to its end; otherwise None."""
    imported = sys.modules.get(module)
    if getattr(getattr(imported, "__spec__", None), "_initializing", False) is True:
        return None
    return getattr(imported, name, None)


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


class Callee:
    """A function and its parameters."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func: Callable[..., Any] = unwrapped(func)
        """What a worker calls; unwrapped if *func* is a task object of another library."""
        if not callable(self.func):
            raise InvalidOption(f"A task calls a function, not {func!r}.")
        check_runs(_name(self.func), self.func)
        self.positional: Sequence[str] = []
        """The names of its positional parameters."""
        self._only_positional = 0
        """The number of those that cannot be given by name."""
        self._keyword_only: Sequence[str] = []
        self._needed: Sequence[str] = []
        """The keyword-only parameters without a default."""
        self._takes_any_keyword = True
        self.least: int = 0
        self.most: int = maxsize
        """The number of positional arguments that it takes without keyword arguments."""
        self._read()
        positional: Sequence[str] = self.positional
        self._places: dict[str, int] = {name: i for i, name in enumerate(positional)}
        for name in positional[: self._only_positional]:
            del self._places[name]
        self._places |= dict.fromkeys(self._keyword_only, maxsize)
        self._fitting: set[tuple[Any, ...]] = set()
        """Calls that fitted: how many positional arguments each had, and the names of its others."""
        self._hints: dict[int | str, Hint] = {}

    @property
    def name(self) -> str:
        """The name of the function, as ``package.module.name``."""
        return _name(self.func)

    @cached_property
    def location(self) -> tuple[str, str]:
        """What `locate` returns for the function."""
        return locate(self.func)

    def name_at(self, place: int | str) -> str:
        """Return the name of the parameter at a position, or of that name."""
        if isinstance(place, str):
            return place
        return self.positional[place] if place < len(self.positional) else f"argument {place + 1}"

    def hint(self, place: int | str) -> Hint:
        """Return the annotation of the parameter at a position, or of that name."""
        found = self._hints.get(place)
        if found is None:
            found = hint_of(self.func, place)
            if found.is_evaluated and len(self._hints) < MAX_HINTS:  # **kwargs have any names
                self._hints[place] = found
        return found

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise `WrongArguments` when the function does not take these arguments."""
        shape = (len(args), *kwargs)
        if shape in self._fitting:
            return
        if self._fits(len(args), kwargs):
            if len(self._fitting) < MAX_SHAPES:
                self._fitting.add(shape)
            return
        takes = ", ".join([*self.positional, *self._keyword_only])
        try:
            expected = signature(self.func, follow_wrapped=False)
            takes = ", ".join(expected.parameters)
            expected.bind(*args, **kwargs)
        except Exception as error:
            raise WrongArguments(
                f"{_name(self.func)}({takes}) cannot be called with these arguments: {error}."
            ) from None

    def _fits(self, number: int, kwargs: Mapping[str, Any]) -> bool:
        if number > self.most:
            return False
        for name in kwargs:
            place = self._places.get(name, -1)
            if place < number and (place >= 0 or not self._takes_any_keyword):
                return False  # given twice, or unknown
        if number < self.least:
            if number < self._only_positional:
                return False
            for name in self.positional[number : self.least]:
                if name not in kwargs:
                    return False
        return not self._needed or all(name in kwargs for name in self._needed)

    def _read(self) -> None:
        func, bound = self.func, 0
        if isinstance(func, MethodType) and isinstance(func.__func__, FunctionType):
            func, bound = func.__func__, 1
        if isinstance(func, FunctionType) and "__signature__" not in func.__dict__:
            self._read_code(func, bound)
        else:
            self._read_signature()

    def _read_code(self, func: FunctionType, bound: int) -> None:
        # Ten times as fast as `inspect`.
        code = func.__code__
        names = code.co_varnames
        count = code.co_argcount
        self.positional = names[bound:count]
        self._only_positional = max(0, code.co_posonlyargcount - bound)
        self._keyword_only = names[count : count + code.co_kwonlyargcount]
        defaults = func.__kwdefaults__ or {}
        self._needed = [name for name in self._keyword_only if name not in defaults]
        self._takes_any_keyword = bool(code.co_flags & VAR_KEYWORD)
        self.least = max(0, count - bound - len(func.__defaults__ or ()))
        if not code.co_flags & VAR_POSITIONAL:
            self.most = len(self.positional)

    def _read_signature(self) -> None:
        try:
            # A wrapper may take other arguments than the function that it wraps.
            parameters = signature(self.func, follow_wrapped=False).parameters.values()
        except Exception:  # some builtins have none, and a custom one may raise anything
            return
        kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        positional = [each for each in parameters if each.kind in kinds]
        by_name = [each for each in parameters if each.kind is Parameter.KEYWORD_ONLY]
        self.positional = [each.name for each in positional]
        self._only_positional = sum(each.kind is kinds[0] for each in positional)
        self._keyword_only = [each.name for each in by_name]
        self._needed = [each.name for each in by_name if each.default is Parameter.empty]
        found = {each.kind for each in parameters}
        self._takes_any_keyword = Parameter.VAR_KEYWORD in found
        self.least = sum(each.default is Parameter.empty for each in positional)
        if Parameter.VAR_POSITIONAL not in found:
            self.most = len(positional)


_cached = lru_cache(maxsize=4096)(Callee)


def callee_of(func: Callable[..., Any]) -> Callee:
    """Return the `Callee` of *func*; raises `InvalidOption` if a call would run nothing."""
    try:
        return _cached(func)
    except TypeError:  # not hashable
        return Callee(func)


def _name(func: Callable[..., Any]) -> str:
    while isinstance(func, partial):
        func = func.func
    module = getattr(func, "__module__", None) or "?"
    return f"{module}.{getattr(func, '__qualname__', type(func).__name__)}"
