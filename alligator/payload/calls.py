"""Check the arguments of a call against the signature of its function."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from sys import maxsize
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from .._runtime.coroutines import check_runs
from ..exceptions import InvalidOption, WrongArguments
from .functions import unwrapped

if TYPE_CHECKING:
    from .hints import Hint

VAR_POSITIONAL = 0x04
VAR_KEYWORD = 0x08

MAX_HINTS = 100
"""How many annotations of a function are kept."""


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
        self._is_plain = self.least <= self.most and not self._needed
        self._hints: dict[int | str, Hint] = {}

    @property
    def name(self) -> str:
        """The name of the function, as ``package.module.name``."""
        return _name(self.func)

    def name_at(self, place: int | str) -> str:
        """Return the name of the parameter at a position, or of that name."""
        if isinstance(place, str):
            return place
        return self.positional[place] if place < len(self.positional) else f"argument {place + 1}"

    def hint(self, place: int | str) -> "Hint":
        """Return the annotation of the parameter at a position, or of that name."""
        found = self._hints.get(place)
        if found is None:
            from .hints import hint_of  # loads inspect

            found = hint_of(self.func, place)
            if found.is_evaluated and len(self._hints) < MAX_HINTS:  # **kwargs have any names
                self._hints[place] = found
        return found

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise `WrongArguments` when the function does not take these arguments."""
        if not kwargs and self._is_plain and self.least <= len(args) <= self.most:
            return
        if self._fits(len(args), kwargs):
            return
        from .._runtime.signatures import signature  # loads inspect

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
        # Ten times as fast as `inspect`, whose import also takes long.
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
        from inspect import Parameter

        from .._runtime.signatures import signature

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
