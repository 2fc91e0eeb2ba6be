"""The event loop of a worker, and the lifespan of its gator, which is entered on it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from contextvars import Context, copy_context
from typing import Any

from .._runtime.event_loops import BackgroundLoop, LoopOfThread
from .._runtime.failures import describe
from .._runtime.home_loop import home
from ..exceptions import ConfigurationError
from ..gator import Gator
from ..tasks import lifespan_state

LEAVE_SECONDS = 5.0
"""How long the end of a lifespan may take at least."""

CLOSE_SECONDS = 1.0
"""How long what tasks have left on the loop may take to end after it was cancelled."""

WAIT_SECONDS = 0.1
"""Interval at which a worker that enters its lifespan checks whether it was stopped."""


def loop_maker(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the function that makes an event loop of that *kind*: ``asyncio`` or ``uvloop``."""
    if kind == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make


class WorkerEventLoop(BackgroundLoop):
    """The event loop on which a worker runs its coroutines, from its first task to its last."""

    def __init__(
        self, gator: Gator, log: logging.Logger, kind: str, stop_worker: Callable[[], None]
    ) -> None:
        super().__init__("alligator-worker-loop", loop_maker(kind))
        self._gator = gator
        self._log = log
        self._stop_worker = stop_worker
        self._lifespan: _Lifespan | None = None
        self.has_lost_lifespan: bool = False
        """Whether the lifespan has ended although the worker had not left it."""

    def enter(self, go_on: Callable[[], bool]) -> bool:
        """Enter the lifespan; return False if that failed, or if *go_on* returned False meanwhile."""
        if self._gator.lifespan is None:
            return True
        lifespan = _Lifespan(self._gator.lifespan)
        try:
            lifespan.start(self.start())
            while not _is_done(lifespan.entered, WAIT_SECONDS):
                if not go_on():
                    self._log.info("stopped while its lifespan was starting; no task was taken")
                    return False
            lifespan.entered.result()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self._log.error(
                "the lifespan of this worker cannot start: %s. This worker ends and takes no task",
                describe(error),
                exc_info=error,
            )
            return False
        self._lifespan = lifespan
        lifespan.left.add_done_callback(lambda _: self._note_end(lifespan))
        return True

    def _note_end(self, lifespan: "_Lifespan") -> None:
        """Stop the worker if the lifespan has ended before `leave`: its clients are closed."""
        if self._lifespan is lifespan and (error := lifespan.failure()) is not None:
            self._lifespan = None
            self.has_lost_lifespan = True
            self._log.error(
                "the lifespan of this worker has ended: %s. This worker takes no more tasks, and stops",
                describe(error),
                exc_info=error,
            )
            self._stop_worker()

    def leave(self, seconds: float) -> None:
        """Leave the lifespan, which may take *seconds*; then close the loop."""
        lifespan, self._lifespan = self._lifespan, None
        loop = self.loop
        if lifespan is not None and loop is not None:
            seconds = max(seconds, LEAVE_SECONDS)
            try:
                loop.call_soon_threadsafe(lifespan.leave)
                if not _is_done(lifespan.left, seconds):
                    raise TimeoutError(f"it took longer than {seconds:g} seconds")
                lifespan.left.result()
            except BaseException as error:
                self._log.error(
                    "the lifespan of this worker did not end as it should: %s",
                    describe(error),
                    exc_info=error,
                )
        if not self.close(CLOSE_SECONDS):
            self._log.warning(
                "coroutines still run although they were cancelled; the worker ends without them"
            )

    def bind(self) -> None:
        """Make the lifespan's state, and this loop, those of the current context."""
        home.set(self)
        lifespan_state.set(None if self._lifespan is None else self._lifespan.entered.result())

    def context(self) -> Context:
        """Return a context with the lifespan's state, in which coroutines start."""
        context = copy_context()
        context.run(self.bind)
        return context


class IsolatedLoop(LoopOfThread):
    """The event loop of a process for isolated tasks, with the lifespan of its gator."""

    def __init__(self, gator: Gator, kind: str) -> None:
        super().__init__(loop_maker(kind))
        self._lifespan = None if gator.lifespan is None else _Lifespan(gator.lifespan)

    def enter(self) -> None:
        """Enter the lifespan; raises what fails in it."""
        if self._lifespan is not None:
            self._lifespan.start(self.start())
            self.run(asyncio.wrap_future(self._lifespan.entered, loop=self.start()))
            lifespan_state.set(self._lifespan.entered.result())

    def lifespan_failure(self) -> BaseException | None:
        """Return why the lifespan has ended although it was not left; None as long as it lasts."""
        return None if self._lifespan is None else self._lifespan.failure()

    def leave(self) -> None:
        """Leave the lifespan, and close the loop."""
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            lifespan.leave()
            self.run(asyncio.wrap_future(lifespan.left, loop=self.start()), LEAVE_SECONDS)
        self.close()


class _Lifespan:
    """The lifespan of one worker: entered and left by the same task of the event loop."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._leaving: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self.entered: Future[Any] = Future()
        """Its result is what the lifespan has yielded."""
        self.left: Future[None] = Future()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the task that enters it."""

        def start() -> None:
            self._task = loop.create_task(self._run())

        loop.call_soon_threadsafe(start)

    def failure(self) -> BaseException | None:
        """Return why it has ended although it was not left; None as long as it lasts.

        For example, a task group in it ends it when one of its tasks fails.
        """
        if not self.left.done():
            return None
        return self.left.exception() or RuntimeError("it was cancelled")

    def leave(self) -> None:
        """Leave it; only for the thread of the loop."""
        if self._leaving is not None:
            self._leaving.set()

    async def _run(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                manager = self._make()
                if isinstance(manager, AbstractAsyncContextManager):
                    state = await stack.enter_async_context(manager)
                elif isinstance(manager, AbstractContextManager):
                    state = stack.enter_context(manager)
                else:
                    raise _not_a_manager(manager)
                self._leaving = asyncio.Event()
                self.entered.set_result(state)
                await self._leaving.wait()
        except BaseException as error:
            (self.left if self.entered.done() else self.entered).set_exception(error)
        else:
            self.left.set_result(None)


def _not_a_manager(given: object) -> ConfigurationError:
    if isinstance(given, Coroutine):
        given.close()  # otherwise Python warns that it was never awaited
    return ConfigurationError(
        f"lifespan must return a context manager, not {given!r:.80}. Decorate the function with "
        "contextlib.asynccontextmanager"
    )


def _is_done(future: "Future[Any]", seconds: float) -> bool:
    return bool(wait([future], seconds).done)
