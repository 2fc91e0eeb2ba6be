"""Run blocking calls in threads, so that the event loop continues."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from logging import Logger, getLogger
from threading import Thread, get_ident
from typing import Any, TypeVar

from .event_loops import LoopOfCaller
from .forks import run_in_forked_child
from .home_loop import home

log: Logger = getLogger("alligator")

T = TypeVar("T")

THREADS = 32
"""How many calls can wait at once for stores that do not answer; a commit waits at most two seconds."""

# We use our own pool: asyncio's is small, and the application may keep it busy for longer than a
# commit may take.
_pool: ThreadPoolExecutor | None = None


@run_in_forked_child
def _forget() -> None:
    global _pool
    _pool = None  # its threads stayed with the parent


async def run_in_thread(
    call: Callable[[], T], undo: Callable[[], object] | None = None, *, own_thread: bool = False
) -> T:
    """Return the result of *call*, which runs in a thread, in a copy of this context.

    If the waiting coroutine is cancelled, it ends at once; *call* runs to its end in its thread, and
    *undo* is called after it. With *own_thread* the call does not use the pool. Calls that run a
    project's code need this: such code may wait for other calls, and a pool whose threads wait for
    each other is deadlocked.
    """
    # The coroutines of inline tasks run on the loop that waits for them.
    token = home.set(LoopOfCaller(asyncio.get_running_loop()))
    try:
        future = start_in_thread(call, own_thread=own_thread)
    finally:
        home.reset(token)
    # Awaiting it directly would pass a cancellation on to a call that may not have started.
    waiter = asyncio.wrap_future(future)
    try:
        await asyncio.wait([waiter])
    except BaseException:
        waiter.add_done_callback(_take_error)
        if undo is not None:
            _follow(future, undo)
        raise
    return waiter.result()


async def run_to_end(call: Callable[[], T]) -> T:
    """Return the result of *call*, which runs in a thread; a cancellation does not end the wait.

    For internal tasks whose outcome other coroutines wait for.
    """
    waiter = asyncio.wrap_future(start_in_thread(call))
    while not waiter.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([waiter])
    return waiter.result()


def start_in_thread(call: Callable[[], T], *, own_thread: bool = False) -> "Future[T]":
    """Start *call* in a thread, in a copy of this context, and return its future."""
    global _pool
    run = copy_context().run
    if own_thread:
        future: Future[T] = Future()
        Thread(target=run, args=(_fulfil, future, call), name="alligator-inline").start()
        return future
    if _pool is None:
        _pool = ThreadPoolExecutor(THREADS, thread_name_prefix="alligator")
    return _pool.submit(run, call)


def _take_error(waiter: "asyncio.Future[Any]") -> None:
    """Retrieve the error that no caller waits for: asyncio would log it as never retrieved."""
    if not waiter.cancelled():
        waiter.exception()


def _fulfil(future: "Future[Any]", call: Callable[[], object]) -> None:
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def _follow(future: "Future[Any]", undo: Callable[[], object]) -> None:
    """Call *undo* when *future* is done, in the thread of its call if that is still running."""
    caller = get_ident()

    def follow(_: object) -> None:
        if get_ident() == caller:  # the call had ended before the cancellation
            start_in_thread(undo)
        else:
            undo()

    future.add_done_callback(follow)
