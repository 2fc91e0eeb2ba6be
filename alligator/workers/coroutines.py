"""The coroutine tasks that run on the event loop of a worker."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext, suppress
from contextvars import Context
from threading import Condition
from time import perf_counter, time

from .._runtime.failures import describe
from .._runtime.log import log
from ..backends.base import Lease, Outcome, Running
from ..execution.attempt import Attempt, postpone
from ..execution.coroutines import Stopped, attempt_coroutine, run_coroutine
from ..execution.lease_ends import LeaseEnds
from ..gator import Gator
from ..payload.envelope import name_in
from ..tasks import Task
from ..telemetry.propagation import NOTHING, running
from .backlog import Backlog, Reserved
from .cancellations import mark_canceled
from .places import Places

FLUSH_SECONDS = 0.005
"""How long an outcome may wait for others, to be reported with them."""

MAX_SHOWN = 100
"""How many running coroutines a worker lists at most; the oldest ones."""


class CoroutineRunner:
    """Runs coroutine tasks on an event loop, as many at once as there are places.

    Its methods are called by the thread of the loop, unless they say otherwise.
    """

    def __init__(
        self,
        gator: Gator,
        loop: asyncio.AbstractEventLoop,
        context: Context,
        places: Places,
        lease_ends: LeaseEnds,
        skip: Callable[[Lease], None],
        end: Callable[[Lease, float, Attempt | None], None],
        flush: Callable[[], None],
        plain_waits: Callable[[], bool],
    ) -> None:
        self._gator = gator
        self._loop = loop
        self._context = context
        self._places = places
        self._lease_ends = lease_ends
        self._skip = skip
        self._end = end
        self._flush_outcomes = flush
        self._plain_waits = plain_waits
        self._running: dict[Lease, tuple[asyncio.Task[None], float, Task]] = {}
        self._flush_at: asyncio.Handle | None = None
        self._flushes_soon = False
        self._changed = Condition()
        self.waiting: Backlog = Backlog()
        """The coroutines that wait for a place."""
        self.is_filling: bool = False
        """Whether a task may have left `waiting` that is not among the running ones yet."""
        self.is_stopping: bool = False

    # For other threads.

    def submit(self, tasks: Iterable[Reserved]) -> None:
        """Start *tasks* as soon as there are places; any thread may call this."""
        self.waiting.add(tasks)
        self.fill_soon()

    def fill_soon(self) -> None:
        """Start what waits, if there are places; any thread may call this."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._fill)

    def leases(self) -> list[Lease]:
        """Return the leases of the running coroutines; any thread may call this."""
        return list(self._running)

    def oldest(self) -> list[tuple[Lease, float]]:
        """Return the coroutines that have run for the longest, and for how many seconds."""
        now = perf_counter()
        found = []
        for lease in list(self._running)[:MAX_SHOWN]:
            entry = self._running.get(lease)
            if entry is not None:
                found.append((lease, now - entry[1]))
        return found

    def shown(self) -> list[Running]:
        """Return the coroutines that have run for the longest, as they are shown to people."""
        now = time()
        return [
            Running(lease.task_id, name_in(lease.data), now - seconds, lease.queue_name)
            for lease, seconds in self.oldest()
        ]

    def cancel(self, leases: Sequence[Lease]) -> None:
        """Cancel the coroutines of *leases*, which do not fail; any other thread may call this."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cancel_soon, leases)

    def cancel_all(self, seconds: float) -> None:
        """Cancel what runs, and wait up to *seconds* for it; any other thread may call this."""
        self.is_stopping = True
        with suppress(RuntimeError):
            # In the next turn: a coroutine that is cancelled before it begins would not end by `run`.
            self._loop.call_soon_threadsafe(self._loop.call_soon, self._cancel_all)
        with self._changed:
            self._changed.wait_for(lambda: not self._running, seconds)

    # On the loop.

    def _cancel_all(self) -> None:
        for job, *_ in list(self._running.values()):
            job.cancel()

    def _cancel_soon(self, leases: Iterable[Lease]) -> None:
        # In the next turn all of these have begun: see `cancel_all`.
        self._loop.call_soon(self._cancel, [lease for lease in leases if lease in self._running])

    def _cancel(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            if lease in self._running:
                job, _, task = self._running[lease]
                mark_canceled(task)
                job.cancel()

    def _fill(self) -> None:
        while self.waiting.tasks and not self.is_stopping and self._places.take_for_coroutine():
            if not self._start_next():
                break

    def _start_next(self) -> bool:
        """Start the next task in a place that was taken for it; give the place back if none waits."""
        self.is_filling = True
        try:
            reserved = self.waiting.take()
            if reserved is None:  # another thread has released it
                self._places.give_back_coroutine()
                return False
            self._start(reserved)
            return True
        finally:
            self.is_filling = False

    def _start(self, reserved: Reserved) -> None:
        lease = reserved.lease
        began = perf_counter()
        running = self.run(lease, reserved.task, began - reserved.at, reserved.until)
        try:
            job = asyncio.Task(running, loop=self._loop, context=self._context.copy())
        except BaseException as error:  # MemoryError
            running.close()
            self._finish(lease, 0.0, postpone(self._gator, lease, error))
            return
        self._running[lease] = job, began, reserved.task

    async def run(self, lease: Lease, task: Task, waited: float, until: float) -> None:
        """Run one task to its end, if its lease still holds; the `LoopWatch` recognises this code."""
        done: Attempt | None = None
        try:
            if not self._lease_ends.holds(lease, until):
                self._skip(lease)
                return
            done = await attempt_coroutine(self._gator, lease, task, self._run_once)
        except Stopped as stopped:
            done = Attempt(Outcome("release", lease), None, stopped.__cause__)
        except BaseException as error:
            log.error("this worker failed: %s", describe(error), exc_info=error)
        finally:
            # After an internal error, the lease is kept until it expires.
            self._finish(lease, waited, done)

    def _run_once(self, task: Task) -> Awaitable[Task]:
        gator = self._gator
        span = running(task) if gator.tracing else NOTHING
        if span is NOTHING and gator.task_context is nullcontext:
            return run_coroutine(task, self._stops)
        return self._run_inside(task, span)

    async def _run_inside(self, task: Task, span: AbstractContextManager[object]) -> Task:
        context = self._gator.task_context()
        try:
            if isinstance(context, AbstractAsyncContextManager):
                async with context:
                    with span:
                        return await run_coroutine(task, self._stops)
            with context, span:
                return await run_coroutine(task, self._stops)
        except Stopped:
            raise
        except BaseException as error:
            if self.is_stopping or task.canceled:  # the task has not failed: it was cancelled
                raise Stopped from error
            raise

    def _stops(self) -> bool:
        return self.is_stopping

    def _finish(self, lease: Lease, waited: float, done: Attempt | None) -> None:
        self._running.pop(lease, None)
        try:
            self._end(lease, waited, done)
        finally:
            self._pass_place_on()
        waiting = self.waiting
        waiting.moved_at = perf_counter()
        if self.is_stopping and not self._running:
            with self._changed:
                self._changed.notify_all()
        if not waiting.tasks:
            if not self._flushes_soon:  # once for all coroutines that end in this turn of the loop
                self._flushes_soon = True
                self._loop.call_soon(self._flush)
        elif self._flush_at is None:
            self._flush_at = self._loop.call_later(FLUSH_SECONDS, self._flush)

    def _pass_place_on(self) -> None:
        """Use the place of a coroutine that has ended for the next one, or give it back."""
        places = self._places
        may_start = not (self.is_stopping or (places.total and self._plain_waits()))
        if not (self.waiting.tasks and may_start):
            places.give_back_coroutine()
        elif self._start_next() and places.total and places.free():
            self._fill()  # plain tasks have left places, too

    def _flush(self) -> None:
        self._flushes_soon = False
        if self._flush_at is not None:
            self._flush_at.cancel()
            self._flush_at = None
        self._flush_outcomes()
