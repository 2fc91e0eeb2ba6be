"""Call the predicates of a project: only True and False count as answers."""

import functools
import inspect
from collections.abc import Callable
from logging import Logger, getLogger
from reprlib import repr as shorten
from typing import Any

from ..exceptions import ConfigurationError

log: Logger = getLogger("alligator")


class Predicate:
    """A function of a project that must return a `bool`; any other answer counts as None.

    Truthiness is not enough: a redirect, a coroutine that was not awaited and the tuple
    ``(False, "why")`` are all truthy. The first answer that is no bool is logged, with the function
    and the answer. *name* is the argument that *func* was passed as. A coroutine function is rejected
    unless the caller *awaits* its result and then passes it to `judge`.
    """

    def __init__(self, name: str, func: Callable[..., Any], *, awaits: bool = False) -> None:
        if not callable(func):
            raise ConfigurationError(f"{name} must be a function, not {shorten(func)}.")
        self.name = name
        self.func = func
        self.is_async: bool = is_coroutine_function(func)
        if self.is_async and not awaits:
            raise ConfigurationError(
                f"{name} must be a plain function here, because there is no event loop; "
                f"{describe(func)} is a coroutine function."
            )
        self._has_warned = False

    def __call__(self, *given: Any) -> bool | None:
        return self.judge(self.func(*given))

    def judge(self, answer: object) -> bool | None:
        """Return *answer* if it is a `bool`, else None."""
        if answer is True or answer is False:
            return answer
        if inspect.iscoroutine(answer):
            answer.close()  # otherwise Python warns that it was never awaited
        if not self._has_warned:
            self._has_warned = True
            log.error(
                "%s: %s returned %s, which counts as no. Return True or False.",
                self.name,
                describe(self.func),
                f"{_printable(shorten(answer))}, a {type(answer).__qualname__}",
            )
        return None


def is_coroutine_function(func: Any) -> bool:
    """Return whether calling *func* creates a coroutine; also for callable objects and partials."""
    while isinstance(func, functools.partial):
        func = func.func
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(type(func), "__call__", None)  # noqa: B004 - that of its class
    )


def describe(func: Any) -> str:
    """Return a name of *func* for logs and errors."""
    while isinstance(func, functools.partial):
        func = func.func
    name = getattr(func, "__qualname__", None)
    if not isinstance(name, str):
        return _printable(shorten(func))
    return f"{getattr(func, '__module__', '?')}.{name}"


def _printable(text: str) -> str:
    return text.encode("unicode_escape").decode()
