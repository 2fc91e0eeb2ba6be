"""The contract of a store: what every backend does.

A task is in one of four states: *scheduled* (not due yet), *ready*, *leased* (a worker has it, and it
is hidden from others until the lease ends) or *dead* (kept until somebody retries or drops it). A
worker talks to a store with one call, `Client.step`, which reports the outcomes of its last tasks and
reserves the next ones. All other methods that move a single task are written here in terms of it.

**Ids.** An id identifies at most one task that *waits*, which means that it is ready or scheduled. A
push of an id that waits does nothing, and the call reports it. A leased or dead task with that id
blocks nothing: it and the new one exist side by side. If a leased task returns to its queue while a
newer one of its id waits there, both run. `lease` and `cancel` by id then act on the newer one,
`retry_dead` and `drop_dead` on the one that died last.

**Leases.** Each lease has a token that no other lease of that id ever has. What a worker reports
about a task counts only for the run that it was given. Only an ack may be late: it removes its own
task, and never a newer one of the same id, in whatever state that task is now.

**Lost workers.** If a lease ends without an outcome, this counts against its task only if the task
was reserved alone, because it is unknown which task of a batch was running. The tasks of such a batch
become *suspects*. A suspect, like every task that was lost, is always leased alone: a step that finds
one returns only that, or stops before it. So a task that kills its workers harms no other.

Durations are seconds, measured by the store's own clock: no backend compares the clocks of two
machines. `DeadLetter.died_at`, which people look at, is a Unix timestamp.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from time import monotonic, time
from typing import ClassVar

from ..constants import (
    AT_LEAST_ONCE,
    COMMIT_SECONDS,
    DEAD_LIMIT,
    DEAD_SECONDS,
    LEASE_SECONDS,
    MAX_LOST,
)
from ..exceptions import AlligatorException, BackendError
from .canceling import Canceled, CancelStore
from .limits import KeyStats, Limit, LimitStore
from .records import (
    Commit,
    DeadLetter,
    Duplicates,
    Lease,
    Message,
    Outcome,
    Peeked,
    Pushed,
    Scheduled,
    Step,
    Verdict,
    bounded,
    memory_of,
)
from .redaction import redact
from .schedules import Announcement, ScheduleRecord, ScheduleStore
from .stats import COUNTERS, STATES, Figures, QueueStats, Running, Sample, WorkerInfo

# A backend imports the contract from here, also the records that other modules define.
__all__ = [
    "Announcement",
    "Canceled",
    "Client",
    "Commit",
    "DeadLetter",
    "Duplicates",
    "Figures",
    "KeyStats",
    "Lease",
    "Limit",
    "Message",
    "Outcome",
    "Peeked",
    "Pushed",
    "QueueStats",
    "Running",
    "Sample",
    "ScheduleRecord",
    "Scheduled",
    "Step",
    "Verdict",
    "WorkerInfo",
    "bounded",
    "memory_of",
    "redact",
]


class Client(ScheduleStore, LimitStore, CancelStore, ABC):
    """A store of tasks.

    Constructing one opens no connection; the first use does. Threads may share it, and a forked child
    may continue to use it: the child opens its own connections. Errors of the store are `BackendError`,
    and `BackendUnavailable` if the store cannot be reached or does not answer in time.
    """

    delivery: ClassVar[str] = AT_LEAST_ONCE
    wakes: ClassVar[bool] = True
    """Whether a push ends a `wait`. A store that cannot wake its workers is polled."""
    groups_commits: ClassVar[bool] = False
    """Whether `push_commits` costs little more than one `push_many`, so that grouping is worthwhile."""
    guards_releases: ClassVar[bool] = True
    """Whether a late ``release`` does nothing if another worker has the task, or has run it."""
    blocking: ClassVar[bool] = True
    """Whether a push may wait for a disk or a network, so that an event loop must not call it."""
    has_priorities: ClassVar[bool] = False  # whether `step` reserves by the priorities of tasks
    can_peek: ClassVar[bool] = False  # whether `peek` can list the tasks
    keeps_keys: ClassVar[bool] = False  # whether messages may have unique keys
    keeps_follow_ups: ClassVar[bool] = False  # whether messages may follow the others of a commit
    keeps_limit_keys: ClassVar[bool] = False  # whether messages may have limit keys
    lists_workers: ClassVar[bool] = True
    """Whether `workers` lists the workers that called `beat`; if not, an empty list means nothing."""
    known_stats: ClassVar[Collection[str]] = (*STATES, "oldest", "paused", "limited", *COUNTERS)
    """The fields of `QueueStats` that the store knows; the others are 0 and mean nothing."""
    limitations: ClassVar[Sequence[str]] = ()
    """The parts of this contract that the store cannot keep, as sentences; health shows them."""
    commit_seconds: float = COMMIT_SECONDS
    """How long a push may take in total, in seconds from the call."""
    dead_limit: int | None = DEAD_LIMIT
    """How many dead letters this client keeps on a queue; None for any number."""
    dead_seconds: float = DEAD_SECONDS
    """For how many seconds it keeps them."""
    scope: str = ""
    """What signatures are bound to: the kind of store and its set of queues; equal on all hosts."""

    def __init__(self, conn_string: str) -> None:
        self.conn_string = conn_string

    # The methods that a store implements.

    @abstractmethod
    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        """Put *messages* on their queues: all of them or none, in one round trip.

        Returns the positions in *messages* of duplicates, None for none: tasks that were not queued,
        because their id waits on their queue, or a task there holds their `Unique` key. Those with
        `Message.follows` are queued later: see `alligator.backends.follow_ups`.

        The tasks of one call, at most `MAX_TASKS`, are reserved in their order if all are ready at
        once. With a *commit_id* the call is idempotent: a repetition within five minutes does nothing
        and returns the same, even if the tasks have run. If this raises, nothing is queued.

        *undo* False is for an id that somebody chose, as for an outbox row. Others may push under it,
        so a failed push is settled by repeating it, and is never undone: after a `BackendUnavailable`
        the tasks may be queued. It ignores an earlier `abort`; its id is remembered for `memory_of`.
        """

    @abstractmethod
    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        """Undo the push of that *commit_id*, or refuse it if it arrives later.

        Removes the tasks that this push has added and that no worker has reserved yet. A task that
        was reserved stays, even while it waits for its retry; so does any other with the same id. A
        push under that commit id raises `BackendError` from then on, unless its *undo* is False.
        """

    @abstractmethod
    def step(
        self,
        queue_names: Sequence[str],
        limit: int,
        *,
        outcomes: Sequence[Outcome] = (),
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        """Apply *outcomes* and reserve up to *limit* tasks, in one round trip and atomically.

        In this order: the outcomes are applied, on any queues. Expired leases of *queue_names* are
        reclaimed: their tasks are ready again, or dead if reserved alone and lost *max_lost* times.
        Tasks are reserved from the first of *queue_names* that has ready ones, then from the next; in a
        queue by priority, then by turns of `Message.limit_key`, then the one due for longest first; a
        suspect alone. *limit* 0 reserves none. A paused queue gives none, one with a `Limit` what that
        allows.

        For each task that dies, up to two of the oldest dead letters of its queue are dropped if
        there are more than `dead_limit`, or if they are older than `dead_seconds`.
        """

    @abstractmethod
    def wait(self, queue_names: Sequence[str], timeout: float) -> None:
        """Sleep until a task may have arrived, at most *timeout* seconds, without polling.

        May return early. Never sleeps through a push that came after the last `step` found nothing. It
        may ignore scheduled tasks and leases: the caller limits *timeout* to `Step.pause`.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """End each `wait` of this process, and the next of each thread; signal handlers may call it."""

    @abstractmethod
    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        """Extend *leases* to *lease_for* seconds from now; return those that are already lost."""

    @abstractmethod
    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        """Reserve a waiting task by its id; None if there is none. A release restores its time."""

    @abstractmethod
    def len(self, queue_name: str) -> int:
        """Return the number of tasks that wait: ready and scheduled."""

    @abstractmethod
    def drop_all(self, queue_name: str) -> None:
        """Drop every ready and scheduled task of the queue."""

    @abstractmethod
    def queue_names(self) -> list[str]:
        """Return the sorted names of the queues that hold tasks or ever did."""

    @abstractmethod
    def stats(self, queue_name: str) -> QueueStats:
        """Return the numbers of a queue, at a cost that does not grow with its length."""

    def stats_of(self, queue_names: Sequence[str]) -> list[QueueStats]:
        """Return the `stats` of each queue, in as few round trips as the store allows."""
        return [self.stats(name) for name in queue_names]

    @abstractmethod
    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        """Return the dead letters of the queue, the latest first."""

    @abstractmethod
    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        """Make the latest dead task of that id ready again, with `lost` 0; False if there is none."""

    @abstractmethod
    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        """Drop the latest dead task of that id; False if there is none."""

    @abstractmethod
    def beat(self, worker: WorkerInfo, ttl: float) -> None:
        """Record that *worker* is alive; forget it if *ttl* seconds pass without a call (0: now)."""

    @abstractmethod
    def workers(self) -> list[WorkerInfo]:
        """Return the workers that are known to be alive."""

    def note(
        self, figures: Figures, queue_names: Sequence[str] = (), *, report_id: str | None = None
    ) -> None:
        """Add *figures* to the sums, and take a sample of each of *queue_names*, atomically.

        Figures that are repeated under their *report_id*, because no reply came, count once: the
        store remembers the id for as long as that of a commit.
        A sample is taken if the current ten seconds have none; those of the last 15 minutes are kept.
        A store that cannot keep them does nothing.
        """

    def figures(self, queue_name: str) -> Mapping[str, int] | None:
        """Return the sums of the figures of a queue; None from a store that keeps none."""
        return None

    def history(self, queue_name: str) -> Sequence[Sample] | None:
        """Return the samples of the queue, the oldest first; None from a store that keeps none."""
        return None

    def register_queues(self, queue_names: Sequence[str]) -> None:
        """Register the queues that the program uses: `ping` and `warnings` check these, too."""

    @abstractmethod
    def ping(self) -> None:
        """Check that the store would accept a push; raise `BackendError` with the reason if not."""

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        """Return the scheduled tasks, the next first; none from a store that cannot list them."""
        return []

    def peek(self, queue_name: str) -> Iterator[Peeked]:
        """Yield the ready, scheduled and dead tasks of the queue, in any order, without reserving them.

        Reads some at a time, to save memory. A task whose state changes meanwhile may be missing or
        be yielded twice. Raises `BackendError` if the store cannot list its tasks.
        """
        raise BackendError(f"{self.address} cannot list the tasks that wait in it.")

    def warnings(self) -> list[str]:
        """Return what in the store's configuration could lose tasks, as sentences."""
        return []

    def exists(self) -> bool:
        """Return whether the store exists. Asking does not create it; the first use may."""
        return True

    def tables_sql(self) -> str | None:
        """Return the SQL that creates the store's tables; None from a store that has none to print."""
        return None

    def close(self) -> None:
        """Close the connections. A later use opens new ones."""

    # The methods that have a default in terms of these.

    def wait_then_step(
        self,
        queue_names: Sequence[str],
        timeout: float,
        limit: int,
        *,
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        """Call `wait`, then `step`, in one round trip if possible; interrupted, it may return tasks."""
        self.wait(queue_names, timeout)
        return self.step(queue_names, limit, lease_for=lease_for, max_lost=max_lost)

    def reserve(
        self, queue_name: str, *, limit: int = 1, lease_for: float = LEASE_SECONDS
    ) -> Sequence[Lease]:
        """Reserve the ready tasks that have been due for longest, for *lease_for* seconds."""
        return self.step([queue_name], limit, lease_for=lease_for).leases

    def ack(self, lease: Lease) -> None:
        """Report that the task is done."""
        self.step((), 0, outcomes=[Outcome("ack", lease)])

    def nack(self, lease: Lease, *, delay: float = 0.0, data: str | None = None) -> None:
        """Report that the attempt failed; the task runs again after *delay* seconds."""
        self.step((), 0, outcomes=[Outcome("retry", lease, delay, data)])

    def release(self, lease: Lease) -> None:
        """Return a task that was not started to its queue."""
        self.step((), 0, outcomes=[Outcome("release", lease)])

    def dead_letter(self, lease: Lease, *, reason: str, traceback: str = "") -> None:
        """Move the task to the dead letters."""
        self.step((), 0, outcomes=[Outcome("dead", lease, 0.0, None, reason, traceback)])

    def push_commits(self, commits: Sequence[Commit]) -> Sequence[Pushed]:
        """Push each of *commits* as `push_many` does; return for each what that returned or raised.

        A store that can do so makes one trip for all; it ends by the earliest of their deadlines.
        """
        outcomes: list[Pushed] = []
        for commit in commits:
            more = {} if commit.undo else {"undo": False}
            try:
                outcomes.append(self.push_many(commit.messages, commit_id=commit.commit_id, **more))
            except AlligatorException as error:
                outcomes.append(error)
        return outcomes

    async def apush_commits(self, commits: Sequence[Commit]) -> Sequence[Pushed]:
        """Asynchronous version of `push_commits`; a cancellation waits for the outcome."""
        from .._runtime.threads import run_to_end  # loads asyncio, which many programs do not need

        return await run_to_end(lambda: self.push_commits(commits))

    def deadline_of(self, commits: Sequence[Commit]) -> float:
        """Return the deadline of a trip with *commits*, on the monotonic clock."""
        deadlines = [commit.deadline for commit in commits if commit.deadline is not None]
        return min(deadlines, default=monotonic() + self.commit_seconds)

    # The calls of Alligator 1.0 that those above do not cover already.

    def push(
        self, queue_name: str, task_id: str, data: str, delay_until: float | None = None
    ) -> str:
        """Put one task on its queue, due at the Unix timestamp *delay_until*; return its id."""
        delay = 0.0 if delay_until is None else max(0.0, delay_until - time())
        self.push_many([Message(queue_name, task_id, data, delay)])
        return task_id

    def old_tasks(self, queue_name: str) -> int:
        """Return how many tasks of Alligator 1.0, which this version does not read, the queue has."""
        return 0

    def pop(self, queue_name: str) -> str | None:
        """Remove the next task from the queue and return its data: at-most-once."""
        return self._take(self.reserve(queue_name))

    def get(self, queue_name: str, task_id: str) -> str | None:
        """Remove that task from the queue and return its data: at-most-once."""
        lease = self.lease(queue_name, task_id)
        return self._take([lease] if lease else ())

    def _take(self, leases: Sequence[Lease]) -> str | None:
        for lease in leases:
            self.ack(lease)
            return lease.data
        return None

    @property
    def address(self) -> str:
        """The DSN without its secrets, and with an absolute path: for logs and error messages."""
        return redact(self.conn_string)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.address}>"
