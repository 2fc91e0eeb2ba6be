"""Get the result of a function that may have returned a coroutine or another awaitable."""

from collections.abc import Coroutine
from functools import partial
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType
from typing import Any, TypeVar

from ..exceptions import InvalidOption, NotRunnable, TaskFailed

T = TypeVar("T")

# The flags of `inspect`, which takes longer to import than most of Alligator.
GENERATOR = 0x20
COROUTINE = 0x80
ITERABLE_COROUTINE = 0x100
ASYNC_GENERATOR = 0x200


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never waits, without an event loop.

    One coroutine function can then serve callers with and without an event loop: it waits only if its
    caller has a loop.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    except RuntimeError as error:
        # Python converts a StopIteration, for instance that of a task that runs inline.
        if isinstance(error.__cause__, StopIteration):
            raise error.__cause__ from None
        raise
    coroutine.close()
    raise AssertionError(f"{coroutine!r} waits, but there is no event loop")


def is_generator_function(func: object) -> bool:
    """Return whether calling *func* creates a generator, without running any of its body."""
    flags = _flags(func)
    return bool(flags & (GENERATOR | ASYNC_GENERATOR)) and not flags & ITERABLE_COROUTINE


def _flags(func: object) -> int:
    while isinstance(func, partial):
        func = func.func
    func = getattr(func, "__func__", func)  # for a method
    if not isinstance(func, FunctionType | type):
        func = getattr(type(func), "__call__", None)  # noqa: B004 - a callable object
    return func.__code__.co_flags if isinstance(func, FunctionType) else 0


def check_runs(what: str, func: object) -> None:
    """Raise `InvalidOption` if *func* is a generator function; *what* is the subject of the message."""
    if is_generator_function(func):
        raise InvalidOption(
            f"{what} is a generator function: calling it creates a generator and runs none of its "
            "body. Use a function that loops over the generator."
        )


def check_is_plain(what: str, func: object) -> None:
    """Raise `InvalidOption` if *func* is a generator function or a coroutine function."""
    check_runs(what, func)
    if runs_on_loop(func):
        raise InvalidOption(
            f"{what} is a coroutine function, which is not awaited here. Use a plain function, or "
            "start a task in it."
        )


def await_result(result: Any, timeout: float | None = None) -> Any:
    """Return *result*, or if it is awaitable, its own result.

    *timeout* is in seconds and bounds the awaitable only. Raises `TaskTimeout`, `NotRunnable`, or
    `TaskFailed` if *result* is a generator, whose body has not run.
    """
    if not is_awaitable(result):
        return result
    from .event_loops import (
        finish,  # loads asyncio: slow, and unused in a program without coroutines
    )

    try:
        return finish(result, timeout)
    except NotRunnable:
        if isinstance(result, CoroutineType):
            result.close()  # otherwise Python warns that it was never awaited
        raise


def is_awaitable(result: Any) -> bool:
    """Return whether *result* is to be awaited; raise `TaskFailed` if it is a generator."""
    if result is None or isinstance(result, PLAIN):
        return False
    if isinstance(result, GeneratorType):
        if not result.gi_code.co_flags & ITERABLE_COROUTINE:
            raise TaskFailed(NOT_RUN.format("a generator"))
        return True
    if isinstance(result, AsyncGeneratorType):
        raise TaskFailed(NOT_RUN.format("an asynchronous generator"))
    return hasattr(type(result), "__await__")


def runs_on_loop(func: object) -> bool:
    """Return whether calling *func* creates a coroutine, so that it belongs on an event loop."""
    if isinstance(func, FunctionType):
        return bool(func.__code__.co_flags & COROUTINE)
    return bool(_flags(func) & COROUTINE)


PLAIN = (str, int, float, list, dict)
"""The types of most results."""

NOT_RUN = "the function returned {}, whose body has not run: loop over it in the task"
