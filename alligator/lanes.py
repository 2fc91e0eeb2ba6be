"""What one thread of a worker has in hand: reserved, running, and finished but not yet reported."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from time import perf_counter, time

from .attempts import Attempt, attempt
from .backends.base import Lease, Outcome, Running, Step
from .backends.figures import LATENCY, RUN
from .gator import Gator
from .histogram import Histogram
from .tasks import name_in, timeout_in

BATCH_SECONDS = 0.005
"""As many tasks are reserved at once as take about this long, so that none waits for others."""

MAX_WAIT = 5.0
"""The longest wait for a store without asking it again: a wake-up can be lost with its process."""

OVERRUN_SECONDS = 30.0
"""How long a task may go on after its timeout before somebody is told."""

NAP = 0.1
"""The wait of a lane that was never used, because a subclass takes its tasks in another way."""


class Timings:
    """How long the tasks of a queue waited and ran in one lane."""

    def __init__(self) -> None:
        self.run: Histogram = Histogram()
        self.latency: Histogram = Histogram()

    def figures(self) -> Counter[str]:
        """Write it as figures for a store."""
        return Counter({**self.run.figures(RUN), **self.latency.figures(LATENCY)})


class Lane:
    """One thread's share of a worker.

    Its own thread calls `next`, `run` and `wait`. The worker's watch may call the others at any
    moment from another thread: both only ever move single items from one deque to another.
    """

    def __init__(
        self,
        gator: Gator,
        queue_names: Sequence[str],
        lease_for: float,
        max_lost: int,
        run: Callable[[Lease], Attempt] | None = None,
    ) -> None:
        self.gator = gator
        self._run = run or (lambda lease: attempt(gator, lease))
        self.queue_names = queue_names
        self.lease_for = lease_for
        self.max_lost = max_lost
        self.idle: bool = True
        """Whether the store had nothing when it was last asked."""
        self.timings: dict[str, Timings] = {}
        """How long the tasks of each queue took; others may read it at any moment."""
        self._reserved = self._began = 0.0
        self._ran = 0
        """How many tasks were run since the store was last asked."""
        self._running: Lease | None = None
        self._batch: deque[Lease] = deque()
        self._outcomes: deque[Outcome] = deque()
        self._limit = 1
        self._average = BATCH_SECONDS
        self._pause = NAP
        self._is_used = False
        """Whether `next` was called since the last wait."""
        self._is_told = False
        """Whether the last wait has found out what `next` would."""
        self._looked_at: Lease | None = None
        self._timeout: float | None = None

    @property
    def doing(self) -> Running | None:
        """Tell what runs right now."""
        running, began = self._running, self._began
        if running is None:
            return None
        since = time() - (perf_counter() - began)
        return Running(running.task_id, name_in(running.data), since)

    def next(self, limit: int) -> Lease | None:
        """Take the next task in hand; ask the store for up to *limit* when there is none."""
        self._is_used = True
        try:
            return self._batch.popleft()
        except IndexError:
            pass
        if self._outcomes or not self._is_told:
            self._keep(self._step(self._room(limit)))
        self._is_told = False
        try:
            return self._batch.popleft()
        except IndexError:
            return None

    def run(self, lease: Lease) -> Attempt:
        """Run it; the store is told with the next step."""
        self._began = start = perf_counter()
        self._running = lease
        try:
            done = self._run(lease)
        except BaseException:  # not the task's doing: ^C, or no process to run it in
            self._outcomes.append(Outcome("release", lease))
            raise
        finally:
            self._running = None
        self._outcomes.append(done.outcome)
        self._ran += 1
        if done.task is not None:
            timings = self.timings.get(lease.queue_name)
            if timings is None:
                timings = self.timings[lease.queue_name] = Timings()
            timings.latency.add(lease.waited + start - self._reserved)
            timings.run.add(done.seconds)
        return done

    def wait(self, nap_time: float) -> None:
        """Sleep until there may be something to do; one task may be in hand then, for `next`."""
        client = self.gator.client
        pause = min(self._pause, MAX_WAIT if client.wakes else nap_time, self.lease_for)
        if pause <= 0:
            return
        if not self._is_used:  # a subclass takes its tasks in another way, and would leave it lying
            client.wait(self.queue_names, pause)
            return
        self._is_used = False
        began = perf_counter()
        # One, for the store counts it as taken if this process is cut off while it sleeps.
        step = client.wait_then_step(
            self.queue_names, pause, 1, lease_for=self.lease_for, max_lost=self.max_lost
        )
        if perf_counter() - began > self.lease_for:
            # This process was frozen, perhaps after the step: another may have run it since.
            self._outcomes.extend(Outcome("release", lease) for lease in step.leases)
            step = Step((), 0.0)
        self._keep(step)
        self._is_told = True

    def settle(self) -> None:
        """Tell the store what it has not been told yet."""
        if self._outcomes:
            self._step(0)

    def give_back(self) -> None:
        """Let others have what was not begun."""
        while self._batch:
            try:
                self._outcomes.append(Outcome("release", self._batch.popleft()))
            except IndexError:
                break
        self.settle()

    def give_up(self) -> None:
        """Let others have what is not finished either."""
        running = self._running  # it may end meanwhile
        if running is not None:
            self._outcomes.append(Outcome("release", running))
        self.give_back()

    def held(self) -> list[Lease]:
        """List what is leased to it."""
        running = self._running
        return [*([] if running is None else [running]), *self._batch.copy()]

    def is_busy_for(self, seconds: float) -> bool:
        """Whether it has been running the same task for longer than that."""
        return self._running is not None and perf_counter() - self._began > seconds

    def running_for(self, seconds: float) -> Lease | None:
        """Return the task that it has been running for longer than that."""
        running = self._running
        return running if running is not None and self.is_busy_for(seconds) else None

    @property
    def is_stuck(self) -> bool:
        """Whether it runs a task that has not heeded its timeout for long."""
        running = self.running_for(OVERRUN_SECONDS)
        timeout = None if running is None else timeout_in(running.data)
        return timeout is not None and self.is_busy_for(timeout + OVERRUN_SECONDS)

    def overrun(self) -> Lease | None:
        """Return the task that has gone on for long after its timeout; each only once."""
        running = self.running_for(OVERRUN_SECONDS)
        if running is None:
            return None
        if running is not self._looked_at:
            self._looked_at = running
            self._timeout = timeout_in(running.data)
        if self._timeout is None or not self.is_busy_for(self._timeout + OVERRUN_SECONDS):
            return None
        self._timeout = None
        return running

    def _keep(self, step: Step) -> None:
        self._reserved = perf_counter()
        self._ran = 0
        self._batch.extend(step.leases)
        self._pause = step.pause
        self.idle = not step.leases

    def _room(self, limit: int) -> int:
        """Choose how many tasks to reserve: few when they are long, twice as many each time at most."""
        if self._ran:
            took = (perf_counter() - self._reserved) / self._ran
            self._average += (took - self._average) * min(1.0, self._ran / 8)
        fitting = int(BATCH_SECONDS / max(self._average, 1e-6))
        self._limit = max(1, min(fitting, self._limit * 2, limit))
        return self._limit

    def _step(self, limit: int) -> Step:
        outcomes: list[Outcome] = []
        while self._outcomes:  # the watch may be taking some at the same time
            try:
                outcomes.append(self._outcomes.popleft())
            except IndexError:
                break
        try:
            return self.gator.client.step(
                self.queue_names if limit else (),
                limit,
                outcomes=outcomes,
                lease_for=self.lease_for,
                max_lost=self.max_lost,
            )
        except BaseException:
            self._outcomes.extendleft(reversed(outcomes))
            raise
