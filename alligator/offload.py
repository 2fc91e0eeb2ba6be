"""Wait for something that blocks without stopping the event loop."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

THREADS = 32
"""As many calls can wait for stores that do not answer; that of a commit for at most two seconds."""

# A pool of our own: asyncio's is small, and the application may keep it busy for longer than a
# commit may take.
_pool: ThreadPoolExecutor | None = None


def _forget() -> None:
    global _pool
    _pool = None  # its threads stayed with the parent


os.register_at_fork(after_in_child=_forget)


async def offload(call: Callable[[], T]) -> T:
    """Make *call* in a thread, in a copy of this context, and wait for its end whatever happens.

    When the waiting coroutine is cancelled, the call is waited for all the same, so that nobody is
    left with half of it; then the cancellation goes on.
    """
    future = _begin(call)
    cancelled = await _end(future)
    if cancelled is not None:
        future.exception()  # seen, though not raised
        raise cancelled
    return future.result()


async def outlast(call: Callable[[], T]) -> T:
    """Be `offload`, but for a cancellation, which is left to the caller's `asyncio.Task.cancelling`.

    For those on whom others wait: the outcome is not to be lost.
    """
    future = _begin(call)
    await _end(future)
    return future.result()


def _begin(call: Callable[[], T]) -> asyncio.Future[T]:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(THREADS, thread_name_prefix="alligator")
    loop = asyncio.get_running_loop()
    return loop.run_in_executor(_pool, copy_context().run, call)


async def _end(future: asyncio.Future[T]) -> asyncio.CancelledError | None:
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled
