"""Run what a coroutine function returned, so that it is a task like any other."""

from collections.abc import Callable, Coroutine
from contextvars import copy_context
from threading import Thread
from types import CoroutineType
from typing import Any

from .exceptions import TaskTimeout


def finished(result: Any, timeout: float | None = None) -> Any:
    """Return what a function returned, or what that comes to when it is a coroutine."""
    return _finish(result, timeout) if isinstance(result, CoroutineType) else result


def _finish(coroutine: Coroutine[Any, Any, Any], timeout: float | None) -> Any:
    """Run *coroutine* to its end, in an event loop of its own."""
    import asyncio  # a program without coroutines does not pay for it

    async def bounded() -> Any:
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await coroutine
        except TimeoutError as error:
            if limit.expired():
                raise TaskTimeout(f"it took longer than {timeout:g} seconds") from error
            raise

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(bounded())
    # A loop runs in this thread already, and loops do not nest.
    return _elsewhere(lambda: _finish(coroutine, timeout))


def _elsewhere(call: Callable[[], Any]) -> Any:
    """Make the call in a thread of its own, in this context, and wait for it."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=copy_context().run, args=(target,), name="alligator-coroutine")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
