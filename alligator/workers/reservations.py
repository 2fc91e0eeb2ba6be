"""What a worker has reserved and not started, and the outcomes that its store does not know yet."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from logging import Logger, getLogger
from time import perf_counter
from typing import Any, Protocol

from .._runtime.coroutines import runs_on_loop
from .._runtime.failures import describe
from ..backends.base import Lease, Outcome, Running, Step
from ..exceptions import BackendError, BackendUnavailable
from ..execution.attempt import Attempt
from ..execution.lease_ends import LeaseEnds, clock
from ..gator import Gator
from ..payload.envelope import name_in
from ..tasks import Task
from .outcome_log import log_canceled, log_skipped
from .places import Places
from .timings import Timings

BATCH_SECONDS = 0.005
"""Tasks are reserved in batches that run for about this many seconds."""

log: Logger = getLogger("alligator")


class DispatchingWorker(Protocol):
    """The attributes and methods of a worker that its loop and its dispatcher use."""

    gator: Gator
    log: Logger
    threads: "list[Reservations]"
    lease_ends: LeaseEnds
    places: Places
    keep_running: bool
    burst: bool
    isolate: bool
    max_tasks: int
    max_lost: int
    lease_for: float
    nap_time: float
    unrunnable_after: float
    blocking_after: float
    tasks_complete: int

    @property
    def queue_names(self) -> list[str]: ...

    def note(self, done: Attempt, lease: Lease, holder: "Reservations") -> None:
        """Count and log the outcome of a task that *holder* had reserved."""
        ...

    def result(self, result: Any) -> None:
        """Handle what a task returned."""
        ...

    def check_and_run_task(self) -> bool:
        """Run the next task, if there is one; return whether it ran and succeeded."""
        ...


class Reservations(ABC):
    """Makes steps: reserves tasks, and reports outcomes to the store until it knows them.

    One thread calls `_step`. Others may append outcomes and take reserved tasks at any time: both
    move single items between deques, so they need no lock.
    """

    def __init__(
        self,
        gator: Gator,
        queue_names: Sequence[str],
        lease_for: float,
        max_lost: int,
        lease_ends: LeaseEnds | None = None,
    ) -> None:
        self.gator = gator
        self.queue_names = queue_names
        self.lease_for = lease_for
        self.max_lost = max_lost
        self.lease_ends: LeaseEnds = lease_ends or LeaseEnds(lease_for)
        self.until: float = 0.0
        """When the leases that it reserved last end, by `clock`, unless they are extended."""
        self.idle: bool = True
        """Whether the last step returned no task."""
        self.timings: dict[str, Timings] = {}
        """How long tasks waited and ran, by queue; other threads may read it at any time."""
        self.granted: int = 0
        """How many tasks the `TaskLimit` of its worker still allows it to run."""
        self._batch: deque[Lease] = deque()
        self._outcomes: deque[Outcome] = deque()
        self._deadlines: dict[Lease, float] = {}
        """By lease: until when an outcome that the store refused is reported again."""

    # For the supervisor and the heartbeat, which have threads of their own.

    @property
    @abstractmethod
    def reserved(self) -> int:
        """How many tasks it has reserved and not started."""

    @property
    @abstractmethod
    def is_occupied(self) -> bool:
        """Whether it has a task, or an outcome to report, or may reserve tasks right now."""

    @property
    @abstractmethod
    def is_stuck(self) -> bool:
        """Whether it will run no more tasks."""

    @abstractmethod
    def running_tasks(self) -> list[Running]:
        """Return the tasks that run right now, as they are shown to people; not more than some."""

    @abstractmethod
    def leases(self) -> list[Lease]:
        """Return the leases of its running and its reserved tasks."""

    @abstractmethod
    def is_busy_for(self, seconds: float) -> bool:
        """Return whether its reserved tasks have been waiting for more than *seconds*."""

    @abstractmethod
    def running_for(self, seconds: float) -> Lease | None:
        """Return the lease of a task that has been running for more than *seconds*."""

    @abstractmethod
    def overrun(self) -> Lease | None:
        """Return a task that has exceeded its timeout by far; each task only once."""

    @abstractmethod
    def cancel(self, leases: Sequence[Lease]) -> None:
        """End those runs of *leases* that are here, because they were canceled."""

    @abstractmethod
    def release_reserved(self) -> None:
        """Release the tasks that were reserved and not started, so that other workers can run them."""

    @abstractmethod
    def release_all(self) -> None:
        """Release the running tasks, too."""

    def report_outcomes(self) -> None:
        """Report the outcomes that the store does not know yet."""
        if self._outcomes:
            self._step(0)

    def _skip(self, lease: Lease) -> None:
        """Do not start a task whose lease may have ended; release it if no other worker has it."""
        if lease in self.lease_ends.canceled:
            log_canceled(log, lease)
            return
        if self.gator.client.guards_releases:
            self._outcomes.append(Outcome("release", lease))
        self.lease_ends.skipped += 1
        log_skipped(log, lease)

    def _note_times(self, lease: Lease, waited: float, done: Attempt) -> None:
        """Note how long a task waited after it was reserved, and how long it ran."""
        if done.task is None or done.outcome.verdict in ("release", "expired"):
            return
        timings = self.timings.get(lease.queue_name)
        if timings is None:
            timings = self.timings[lease.queue_name] = Timings()
        timings.latency.add(lease.waited + waited)
        timings.run.add(done.seconds)

    def _step(self, limit: int) -> Step:
        outcomes: list[Outcome] = []
        while self._outcomes:  # the supervisor may take some at the same time
            try:
                outcomes.append(self._outcomes.popleft())
            except IndexError:
                break
        try:
            step = self._call_store(limit, outcomes)
        except Exception as error:
            if outcomes and (_is_refusal(error) or (limit and self._is_overdue(outcomes))):
                return self._step_one_by_one(limit, outcomes)
            self._outcomes.extendleft(reversed(outcomes))
            raise
        except BaseException:
            self._outcomes.extendleft(reversed(outcomes))
            raise
        if self._deadlines:
            self._deadlines.clear()
        return step

    def _call_store(self, limit: int, outcomes: Sequence[Outcome]) -> Step:
        asked = clock()
        step = self.gator.client.step(
            self.queue_names if limit else (),
            limit,
            outcomes=outcomes,
            lease_for=self.lease_for,
            max_lost=self.max_lost,
        )
        if limit:
            self.until = self.lease_ends.end_of(asked)
        return step

    def _wait_then_step(self, pause: float) -> Step:
        """Sleep until there may be a task, and reserve it; at most *pause* seconds.

        Only one task: the store counts it as leased even if this process loses its connection now.
        """
        asked = clock()
        step = self.gator.client.wait_then_step(
            self.queue_names, pause, 1, lease_for=self.lease_for, max_lost=self.max_lost
        )
        self.until = self.lease_ends.end_of(asked)
        return step

    # An outcome that the store refuses must not block this thread.

    def _step_one_by_one(self, limit: int, outcomes: Sequence[Outcome]) -> Step:
        """Reserve tasks, then report each of *outcomes* alone; drop those that are refused."""
        waiting = deque(outcomes)
        kept: dict[Outcome, Exception] = {}
        step = Step()
        try:
            if limit:
                step = self._call_store(limit, ())  # raises if the outcomes are not the cause
            while waiting:
                outcome = waiting[0]
                error = self._report(outcome)
                waiting.popleft()
                if error is None:
                    continue
                if limit and (_is_refusal(error) or self._is_overdue([outcome])):
                    self._drop(outcome, error)
                else:
                    kept[outcome] = error
                if not _is_refusal(error):
                    break  # the store may be unreachable now
        except BaseException:
            self._batch.extend(step.leases)
            raise
        finally:
            self._outcomes.extendleft(reversed([*waiting, *kept]))
        if not limit:
            for error in kept.values():
                raise error
        return step

    def _report(self, outcome: Outcome) -> Exception | None:
        """Report *outcome* alone; return the error, if any."""
        try:
            self._call_store(0, [outcome])
        except Exception as error:
            return error
        return None

    def _is_overdue(self, outcomes: Sequence[Outcome]) -> bool:
        """Return whether one of them was refused for *lease_for* seconds, so that its lease expired."""
        now = perf_counter()
        ends = [self._deadlines.setdefault(each.lease, now + self.lease_for) for each in outcomes]
        return min(ends) <= now

    def _drop(self, outcome: Outcome, error: Exception) -> None:
        verdict, lease = outcome.verdict, outcome.lease
        self._deadlines.pop(lease, None)
        name = name_in(lease.data)
        log.error(
            "dropped the outcome %r of task %s (%s) in queue %s, because %s refuses it: %s. The task "
            "may run again when its lease expires",
            verdict,
            lease.task_id,
            name,
            lease.queue_name,
            self.gator.store,
            describe(error),
            extra={"task_id": lease.task_id, "task": name},
        )


def _is_refusal(error: BaseException) -> bool:
    """Return whether the store refused the request and would refuse it again."""
    return isinstance(error, BackendError) and not isinstance(error, BackendUnavailable)


def can_run_on_loop(gator: Gator, task: Task) -> bool:
    """Return whether *task* calls a coroutine function and no subclass runs it in its own way."""
    return (
        runs_on_loop(task.func)
        and type(gator).run is Gator.run
        and type(task).run is Task.run
        and type(task)._call is Task._call
    )
