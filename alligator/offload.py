"""Wait for something that blocks without stopping the event loop."""

import asyncio
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

THREADS = 32
"""As many commits can wait for a store that does not answer; each for at most two seconds."""

# A pool of our own: asyncio's is small, and the application may keep it busy for longer than a
# commit may take.
_pool: ThreadPoolExecutor | None = None


def _forget() -> None:
    global _pool
    _pool = None  # its threads stayed with the parent


os.register_at_fork(after_in_child=_forget)


def start(call: Callable[[], T]) -> Future[T]:
    """Begin to make *call* in a thread; raise `RuntimeError` when there can be none."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(THREADS, thread_name_prefix="alligator")
    return _pool.submit(call)


async def offload(call: Callable[[], T]) -> T:
    """Make *call* in a thread, in a copy of this context, and wait for its end whatever happens.

    When the waiting coroutine is cancelled, the call is waited for all the same, so that nobody is
    left with half of it; then the cancellation goes on.
    """
    future = asyncio.wrap_future(start(partial(copy_context().run, call)))
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # seen, though not raised
        raise cancelled
    return future.result()


class Outcome(asyncio.Future[None]):
    """A future that a thread settles; whoever waits for it does so to the end.

    When the waiting task is cancelled, it stays until the outcome is there; the cancellation then
    hits its next await.
    """

    def cancel(self, msg: object = None) -> bool:
        """Refuse, so that asyncio notes the cancellation for later."""
        return False

    def tell(self, outcomes: "Sequence[Outcome]") -> None:
        """Settle *outcomes*, all of one event loop, from any thread."""
        with suppress(RuntimeError):  # its event loop is closed
            self.get_loop().call_soon_threadsafe(_settle, outcomes)

    def __await__(self) -> Generator[Any, None, None]:
        task = asyncio.current_task(self.get_loop())
        try:
            yield from super().__await__()
        except asyncio.CancelledError:
            if task is None or not self.done():
                raise
            task.uncancel()
            task.cancel()


def _settle(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if not outcome.done():
            outcome.set_result(None)
