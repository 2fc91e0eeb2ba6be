"""Run awaitables on an event loop that lives longer than one of them, from threads without a loop.

Clients, pools and locks of asyncio belong to the loop that used them first. So a process runs all of
its coroutines on one loop, if possible: on that of the caller that waits for them, or of the worker;
otherwise on a loop in a background thread.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar, copy_context
from threading import Event, Lock, Thread
from typing import Any, TypeVar

from ..exceptions import NotRunnable
from .cancellation import await_within
from .forks import register_fork_hooks
from .home_loop import Runs, home
from .log import log

T = TypeVar("T")

CHECK_SECONDS = 1.0
"""Interval at which a thread that waits for a coroutine checks that its loop has not ended."""

END_SECONDS = 5.0
"""How long the tasks of a loop may take to end after they were cancelled, when the loop is closed."""


_blocked: ContextVar[tuple[asyncio.AbstractEventLoop, ...]] = ContextVar(
    "alligator_blocked_loops", default=()
)
"""The loops that wait, without running anything, for the code of this context."""


class LoopOfCaller:
    """The running event loop of a coroutine that waits for a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def run(self, awaitable: Awaitable[T], timeout: float | None = None) -> T:
        return _run_on(self.loop, awaitable, timeout)


class BackgroundLoop:
    """An event loop in a thread of its own, which is started when it is first used.

    *make* creates the loop. A forked child starts a new one.
    """

    def __init__(
        self,
        name: str = "alligator-loop",
        make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self._name = name
        self._make = make
        self.after_fork_in_child()
        register_fork_hooks(self)

    def after_fork_in_child(self) -> None:
        """Forget the loop: its thread exists only in the parent."""
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closing = False
        self.thread: Thread | None = None
        """The thread of the loop."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        return self._loop

    def start(self) -> asyncio.AbstractEventLoop:
        """Return the event loop, which runs. Raises `NotRunnable` without a thread or descriptor."""
        loop = self._loop
        if loop is not None:
            return loop
        with self._lock:
            if self._loop is not None:
                return self._loop
            try:
                loop = self._make()
            except OSError as error:  # for example, no file descriptor is available
                raise NotRunnable(f"no event loop can be created: {error}") from error
            thread = Thread(target=self._work, args=(loop,), name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                loop.close()
                raise NotRunnable(f"no thread can be started: {error}") from error
            self._is_closing = False
            self._loop, self.thread = loop, thread
            return loop

    def run(self, awaitable: Awaitable[T], timeout: float | None = None) -> T:
        return _run_on(self.start(), awaitable, timeout)

    def close(self, seconds: float = END_SECONDS) -> bool:
        """Cancel what runs on the loop, and close it; return False if it has not ended in time."""
        with self._lock:
            loop, thread = self._loop, self.thread
            self._loop = self.thread = None
        if loop is None or thread is None:
            return True
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._stop, loop, seconds)
        thread.join(seconds + CHECK_SECONDS)
        return not thread.is_alive()

    def _stop(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._is_closing = True
        ending = loop.create_task(_end_tasks(seconds))
        ending.add_done_callback(lambda _: loop.stop())

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while True:
                try:
                    loop.run_forever()
                    break
                except BaseException as error:  # SystemExit in an asyncio task of a task's function
                    if self._is_closing:
                        break
                    log.error(
                        "%s was raised outside of a task's function, on the event loop, which continues",
                        type(error).__name__,
                        exc_info=error,
                    )
        finally:
            with suppress(BaseException):
                loop.close()


class LoopOfThread:
    """An event loop that runs in the calling thread, and only while something is awaited."""

    def __init__(self, make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop):
        self._make = make
        self._runner: asyncio.Runner | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        return None if self._runner is None else self._runner.get_loop()

    def run(self, awaitable: Awaitable[T], timeout: float | None = None) -> T:
        self.start()
        assert self._runner is not None
        return self._runner.run(await_within(timeout, awaitable), context=copy_context())

    def start(self) -> asyncio.AbstractEventLoop:
        """Return the event loop. Raises `NotRunnable` without a free descriptor."""
        if self._runner is None:
            # With a factory, Runner does not change the thread's current loop.
            runner = asyncio.Runner(loop_factory=self._make)
            try:
                runner.get_loop()
            except OSError as error:
                raise NotRunnable(f"no event loop can be created: {error}") from error
            self._runner = runner
        return self._runner.get_loop()

    def close(self) -> None:
        """Cancel what is left on the loop, and close it."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None


_of_process = BackgroundLoop("alligator-background-loop")
"""Runs the coroutines of threads for which no other loop is known."""


def finish(awaitable: Awaitable[T], timeout: float | None = None) -> T:
    """Return the result of *awaitable*, on the loop of this context; this thread waits for it.

    Raises `TaskTimeout` after *timeout* seconds, and `NotRunnable` if nothing was run.
    """
    running = _running_loop()
    blocked = _blocked.get() if running is None else (*_blocked.get(), running)
    token = None if running is None else _blocked.set(blocked)
    try:
        for runs in (home.get(), _of_process):
            if runs is not None and not _is_blocked(runs, blocked):
                return runs.run(awaitable, timeout)
        apart = BackgroundLoop("alligator-coroutine")
        try:
            return apart.run(awaitable, timeout)
        finally:
            apart.close()
    finally:
        if token is not None:
            _blocked.reset(token)


def _is_blocked(runs: Runs, blocked: tuple[asyncio.AbstractEventLoop, ...]) -> bool:
    loop = runs.loop
    return loop is not None and (loop in blocked or loop.is_closed())


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _run_on(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[T], timeout: float | None) -> T:
    """Return the result of *awaitable*, which runs on *loop* in a copy of this context."""
    call = _Call(loop, await_within(timeout, awaitable))
    try:
        loop.call_soon_threadsafe(call.start, context=copy_context())
    except RuntimeError as error:
        call.coroutine.close()
        raise NotRunnable(f"the event loop has ended: {error}") from error
    try:
        while not call.ended.wait(CHECK_SECONDS):
            if loop.is_closed() or not loop.is_running():
                raise RuntimeError("the event loop ended while a thread waited for its coroutine")
    except BaseException:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(call.cancel)
        raise
    raised = call.error
    if raised is not None:
        try:
            raise raised
        finally:
            del raised, call.error  # otherwise its traceback refers to itself
    result: T = call.result
    return result


class _Call:
    """A coroutine that runs on a loop, and for whose result a thread waits."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]
    ) -> None:
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self.coroutine = coroutine
        self.ended = Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._run())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            self.result = await self.coroutine
        except BaseException as error:
            self.error = error
        finally:
            self.ended.set()


async def _end_tasks(seconds: float) -> None:
    """Cancel all other tasks of this loop, and wait for them; then end its generators and threads."""
    loop = asyncio.get_running_loop()
    with suppress(Exception):
        async with asyncio.timeout(seconds):
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            await loop.shutdown_asyncgens()
            await loop.shutdown_default_executor()
