"""Await with a time limit that ends by cancellation, which the awaited code cannot swallow."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from ..exceptions import TaskTimeout

T = TypeVar("T")

REPEAT_SECONDS = 1.0
"""After how many seconds code that handled the cancellation is cancelled again."""


async def await_within(seconds: float | None, awaitable: Awaitable[T]) -> T:
    """Return the result of *awaitable*; raise `TaskTimeout` if it takes longer than *seconds*.

    It is cancelled at its next ``await``, and again as long as it continues. If it ends too late, it has
    failed, also if it returned a result.
    """
    if seconds is None:
        return await awaitable
    limit = _Limit(seconds)
    try:
        result = await awaitable
    except BaseException as error:
        if limit.end() and not limit.is_cancelled_from_outside:
            raise limit.error() from error
        raise
    finally:
        limit.end()
    if limit.is_over:
        raise limit.error()
    return result


class _Limit:
    """Cancels the current task after *seconds*, and again until `end`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._requests = 0
        self._has_ended = False
        self._began = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._cancel)
        self.is_over = False
        """Whether the code ended too late."""
        self.is_cancelled_from_outside = False
        """Whether other code has cancelled the task, too."""

    def _cancel(self) -> None:
        self._requests += 1
        self._task.cancel()
        self._timer = self._loop.call_later(REPEAT_SECONDS, self._cancel)

    def end(self) -> bool:
        """End the limit; return whether it had cancelled the task."""
        if not self._has_ended:
            self._has_ended = True
            self._timer.cancel()
            self.is_over = self._loop.time() - self._began >= self._seconds
            for _ in range(self._requests):
                self._task.uncancel()
            self.is_cancelled_from_outside = self._task.cancelling() > self._before
        return self._requests > 0

    def error(self) -> TaskTimeout:
        return TaskTimeout(f"the task took longer than {self._seconds:g} seconds")
