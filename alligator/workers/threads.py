"""The state of one worker thread: its reserved tasks, its running task, its unreported outcomes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import Context
from threading import get_ident
from time import perf_counter, time
from typing import Protocol, TypeVar

from ..backends.base import Lease, Outcome, Running, Step
from ..exceptions import NotRunnable
from ..execution.attempt import Attempt, HandedOver, LeaseEnded, attempt
from ..execution.lease_ends import LeaseEnds
from ..gator import Gator
from ..payload.envelope import name_in, timeout_in
from ..tasks import Task, running_in_context
from .backlog import Reserved
from .cancellations import mark_canceled
from .reservations import BATCH_SECONDS, Reservations

MAX_WAIT = 5.0
"""The longest wait before the store is asked again. A process that dies can take a wake-up with it."""

BURST_WAIT = 0.5
"""The longest wait in a burst, in seconds: running tasks may start new ones."""

OVERRUN_SECONDS = 30.0
"""How long a task may exceed its timeout before this is logged."""

FIRST_PAUSE = 0.1
"""The wait before the first step, and of a subclass that does not call `WorkerThread.next`."""

T = TypeVar("T")


class Feed(Protocol):
    """Reserves tasks for all threads of a worker, and reports their outcomes."""

    def accept(self, leases: Iterable[Lease], until: float, outcomes: Iterable[Outcome]) -> None:
        """Take over the *leases* of a thread, which end at *until*, and its unreported *outcomes*."""
        ...

    def take(self, thread: "WorkerThread") -> Reserved | None:
        """Return a task for *thread* to run; None if there is none.

        The thread has a place from then on, until it calls `take` again.
        """
        ...

    def wait_for_plain(self, seconds: float) -> bool:
        """Sleep until `take` may return a task; return False if it never will again."""
        ...

    def leave(self, thread: "WorkerThread") -> None:
        """Give back the place of *thread*, which ends."""
        ...


class WorkerThread(Reservations):
    """The tasks and outcomes of one thread of a worker.

    The thread itself calls `next`, `run` and `wait`. The supervisor may call the other methods at any
    time from its own thread. This needs no lock: both move single items between deques.
    """

    def __init__(
        self,
        gator: Gator,
        queue_names: Sequence[str],
        lease_for: float,
        max_lost: int,
        run: "Callable[[Lease, Task | None, WorkerThread], Attempt] | None" = None,
        lease_ends: LeaseEnds | None = None,
    ) -> None:
        super().__init__(gator, queue_names, lease_for, max_lost, lease_ends)
        self._run: Callable[[Lease, Task | None, WorkerThread], Attempt] = run or (
            lambda lease, task, _: attempt(gator, lease, task=task, holds=self.holds)
        )
        self.context: Context | None = None
        """The context in which its task runs."""
        self._ident = get_ident()
        self.feed: Feed | None = None
        """What reserves tasks in place of this thread; None as long as it does so itself."""
        self.is_fed: bool = False
        """Whether it already takes its tasks from the feed."""
        self.has_place: bool = False
        """Whether it occupies one of the places that the feed gives away."""
        self._task: Task | None = None
        """The task that the feed has read already."""
        self._reserved = self._began = self._reported_at = 0.0
        self._ran = 0
        """How many tasks it has run since the last step."""
        self._running: Lease | None = None
        self._limit = 1
        self._average = BATCH_SECONDS
        self._pause = FIRST_PAUSE
        self._is_used = False
        """Whether `next` was called since the last wait."""
        self._has_stepped = False
        """Whether `wait` has made the step that `next` would make."""
        self._checked: Lease | None = None
        """The long task whose timeout `overrun` has read last."""
        self._timeout: float | None = None

    @property
    def running_task(self) -> Running | None:
        """The task that runs right now, as it is shown to people."""
        running, began = self._running, self._began
        if running is None:
            return None
        since = time() - (perf_counter() - began)
        return Running(running.task_id, name_in(running.data), since, running.queue_name)

    def running_tasks(self) -> list[Running]:
        """Return the task that runs right now, in a list."""
        running = self.running_task
        return [] if running is None else [running]

    @property
    def reserved(self) -> int:
        """How many tasks it has reserved and not started."""
        return len(self._batch)

    @property
    def is_occupied(self) -> bool:
        """Whether it has a task, or an outcome to report, or may reserve tasks right now."""
        return bool(
            not self.is_fed or self.has_place or self._running or self._batch or self._outcomes
        )

    def next(
        self, limit: int, grant: Callable[["WorkerThread", int], int] | None = None
    ) -> Lease | None:
        """Return the next reserved task; if there is none, reserve up to *limit* in one step.

        *grant* is called with the number of tasks to reserve, and returns how many are allowed.
        """
        self._is_used = True
        if self.feed is not None:
            return self._take_from(self.feed)
        try:
            return self._batch.popleft()
        except IndexError:
            pass
        if self._outcomes or not self._has_stepped:
            room = self._room(limit)
            self._take_over(self._step(room if grant is None else grant(self, room)))
        self._has_stepped = False
        try:
            return self._batch.popleft()
        except IndexError:
            return None

    def _take_from(self, feed: Feed) -> Lease | None:
        """Return the next task of *feed*, after it took over what this thread had reserved."""
        self.is_fed = True
        item = feed.take(self)
        if item is None or self._batch or self._began - self._reported_at > BATCH_SECONDS:
            self._reported_at = self._began
            feed.accept(taken_from(self._batch), self.until, taken_from(self._outcomes))
        self.idle = item is None
        if item is None:
            return None
        lease, self._task, self._reserved, until = item
        self.until: float = until
        return lease

    def leave(self) -> None:
        """Reserve no more tasks."""
        self.is_fed = True
        if self.feed is not None:
            self.feed.leave(self)

    def holds(self, lease: Lease) -> bool:
        """Return whether the lease of its task is known to hold."""
        return self.lease_ends.holds(lease, self.until)

    def lease_end(self, lease: Lease) -> float:
        """Return until when the lease of its task is known to hold, by `clock`."""
        return self.lease_ends.until(lease, self.until)

    def run(self, lease: Lease) -> Attempt | None:
        """Run the task of *lease*; the next step reports its outcome to the store.

        Returns None if the task was handed over, to run elsewhere, or if its lease has ended.
        """
        self._began = start = perf_counter()
        self._running = lease
        task, self._task = self._task, None
        try:
            done = self._run(lease, task, self)
        except HandedOver:
            return None
        except LeaseEnded:
            self._skip(lease)
            return None
        except BaseException as error:
            # Ctrl-C, or no process for the task. After an internal error, the lease is kept until it
            # expires, and the delivery counts as lost. Otherwise a task that always causes such an
            # error would be repeated forever.
            if isinstance(error, NotRunnable) or not isinstance(error, Exception):
                self._outcomes.append(Outcome("release", lease))
            raise
        finally:
            self._running = None
        self._outcomes.append(done.outcome)
        self._ran += 1
        self._note_times(lease, start - self._reserved, done)
        return done

    def wait(self, nap_time: float, longest: float = MAX_WAIT) -> None:
        """Sleep until there may be a task; it may already be reserved for `next` then."""
        client = self.gator.client
        pause = min(self._pause, longest if client.wakes else nap_time, self.lease_for / 2)
        if pause <= 0:
            return
        if not self._is_used:  # a subclass takes its tasks in another way and would not run it
            client.wait(self.queue_names, pause)
            return
        self._is_used = False
        self._take_over(self._wait_then_step(pause))
        self._has_stepped = True

    def cancel(self, leases: Sequence[Lease]) -> None:
        """Mark its task as canceled if it is of *leases*; if it has a timeout, interrupt it, too."""
        running, context = self._running, self.context
        task = None if context is None else context.get(running_in_context)
        if running not in leases or task is None or self._running is not running:
            return
        mark_canceled(task)
        if task.timeout is not None:
            from .._runtime.timeouts import end_call  # loads ctypes

            end_call(self._ident, lambda: self._running is running)

    def release_reserved(self) -> None:
        """Release the tasks that were reserved and not started, so that other workers can run them."""
        while self._batch:
            try:
                self._outcomes.append(Outcome("release", self._batch.popleft()))
            except IndexError:
                break
        self.report_outcomes()

    def release_all(self) -> None:
        """Release the running task, too."""
        running = self._running  # read once: the task may end at any time
        if running is not None:
            self._outcomes.append(Outcome("release", running))
        self.release_reserved()

    def leases(self) -> list[Lease]:
        """Return the leases of its running and its reserved tasks."""
        running = self._running
        return [*([] if running is None else [running]), *self._batch.copy()]

    def seconds(self) -> float:
        """Return for how long its last task has run, or is running."""
        return perf_counter() - self._began

    def is_busy_for(self, seconds: float) -> bool:
        """Return whether its task has been running for more than *seconds*."""
        return self._running is not None and perf_counter() - self._began > seconds

    def running_for(self, seconds: float) -> Lease | None:
        """Return the lease of its task if that has been running for more than *seconds*."""
        running = self._running
        return running if running is not None and self.is_busy_for(seconds) else None

    @property
    def is_stuck(self) -> bool:
        """Whether its task has exceeded its timeout by more than `OVERRUN_SECONDS`."""
        running = self.running_for(OVERRUN_SECONDS)
        timeout = None if running is None else timeout_in(running.data)
        return timeout is not None and self.is_busy_for(timeout + OVERRUN_SECONDS)

    def overrun(self) -> Lease | None:
        """Return a task that has exceeded its timeout by `OVERRUN_SECONDS`; each task only once."""
        running = self.running_for(OVERRUN_SECONDS)
        if running is None:
            return None
        if running is not self._checked:
            self._checked = running
            self._timeout = timeout_in(running.data)
        if self._timeout is None or not self.is_busy_for(self._timeout + OVERRUN_SECONDS):
            return None
        self._timeout = None
        return running

    def _take_over(self, step: Step) -> None:
        self._reserved = perf_counter()
        self._ran = 0
        self._batch.extend(step.leases)
        self._pause = step.pause
        self.idle: bool = not step.leases

    def _room(self, limit: int) -> int:
        """Return how many tasks to reserve: what fits `BATCH_SECONDS`, at most twice the last number."""
        if self._ran:
            took = (perf_counter() - self._reserved) / self._ran
            self._average += (took - self._average) * min(1.0, self._ran / 8)
        fitting = int(BATCH_SECONDS / max(self._average, 1e-6))
        self._limit = max(1, min(fitting, self._limit * 2, limit))
        return self._limit


def taken_from(items: deque[T]) -> Iterator[T]:
    """Remove and yield all of *items*, from which another thread may remove some, too."""
    while items:
        try:
            item = items.popleft()
        except IndexError:
            break
        yield item
