"""What a store of tasks must do: the contract that every backend keeps.

A task is in one of four states: *scheduled* (its time has not come), *ready*, *leased* (a worker
has it, hidden from others until the lease ends) or *dead* (kept for people to look at). A worker
talks to a store with one call, `Client.step`, which says what became of its last tasks and
reserves the next; everything else that moves a single task is written here in terms of it.

Durations are seconds, relative to the store's own clock: no backend compares the clocks of two
machines. A moment that people look at (`DeadLetter.died_at`) is a Unix timestamp.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from math import inf
from time import time
from typing import ClassVar, Literal, NamedTuple

from ..constants import AT_LEAST_ONCE, DEAD_LIMIT, DEAD_SECONDS, LEASE_SECONDS, MAX_LOST
from ..exceptions import AlligatorException
from .figures import Figures, QueueStats, Running, Sample, WorkerInfo

__all__ = [
    "Client",
    "Commit",
    "DeadLetter",
    "Figures",
    "Lease",
    "Message",
    "Outcome",
    "QueueStats",
    "Running",
    "Sample",
    "Scheduled",
    "Step",
    "Verdict",
    "WorkerInfo",
    "redact",
]


class Message(NamedTuple):
    """One task on its way into a store."""

    queue_name: str
    task_id: str
    data: str
    delay: float = 0.0
    """Seconds from its arrival until it is ready."""


class Commit(NamedTuple):
    """Tasks that belong together: all of them are put on their queues, or none is."""

    messages: Sequence[Message]
    commit_id: str | None = None
    """What a repeated push of them is known by."""


class Lease(NamedTuple):
    """The right to a task until a time: what `reserve` gives to a worker."""

    queue_name: str
    task_id: str
    data: str
    token: int = 0
    """The fence: a store refuses to retry or bury a task under a token that is not its current."""
    lost: int = 0
    """How many workers had this task and were not heard of again."""
    waited: float = 0.0
    """For how many seconds it had been ready when it was reserved."""


Verdict = Literal["ack", "retry", "release", "dead"]


class Outcome(NamedTuple):
    """What became of a leased task.

    ``ack``: it is done; honoured even when the lease has expired, for the work is done.
    ``retry``: it failed, and is to run again after *delay*, with *data* in place of its payload.
    ``release``: it was not begun, and goes back as it was, to its place; no attempt is counted.
    ``dead``: it goes to the dead letters with *reason* and *traceback*; its payload is kept.

    All but ``ack`` are fenced: after the lease was lost to another worker they do nothing.
    """

    verdict: Verdict
    lease: Lease
    delay: float = 0.0
    data: str | None = None
    reason: str = ""
    traceback: str = ""


class Step(NamedTuple):
    """What a worker is given by one round trip."""

    leases: Sequence[Lease] = ()
    pause: float = inf
    """When *leases* is empty: seconds until a scheduled task is due or a lease ends."""


class Scheduled(NamedTuple):
    """A task whose time has not come."""

    queue_name: str
    task_id: str
    data: str
    due_in: float
    """Seconds until it is ready."""


class DeadLetter(NamedTuple):
    """A task that will not run again by itself."""

    queue_name: str
    task_id: str
    data: str
    reason: str
    traceback: str
    died_at: float


class Client(ABC):
    """A store of tasks.

    Making one connects to nothing; the first use does. It may be shared between threads, and a
    forked child may go on using it: the child opens connections of its own. Trouble with the
    store is raised as `BackendError`, and as `BackendUnavailable` when the store cannot be reached
    or does not answer in time.
    """

    delivery: ClassVar[str] = AT_LEAST_ONCE
    wakes: ClassVar[bool] = True
    """Whether a push ends a `wait`; a store that cannot wake anybody is looked at time and again."""
    gathers: ClassVar[bool] = False
    """Whether `push_commits` costs little more than one `push_many`, so that gathering pays."""
    blocking: ClassVar[bool] = True
    """Whether a push may wait for a disk or a network, so that an event loop must not make it."""
    sees_workers: ClassVar[bool] = True
    """Whether `workers` lists those that said they live; else none being listed means nothing."""
    tells: ClassVar[Collection[str]] = QueueStats._fields
    """The fields of `QueueStats` that it knows; the others are 0, and mean nothing."""
    limits: ClassVar[Sequence[str]] = ()
    """What of this contract the store cannot keep, in sentences for people; health shows them."""
    dead_limit: int = DEAD_LIMIT
    """How many dead this client leaves on a queue."""
    dead_seconds: float = DEAD_SECONDS
    """For how long it leaves them there."""

    def __init__(self, conn_string: str) -> None:
        self.conn_string = conn_string

    # What a store must do.

    @abstractmethod
    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        """Put *messages* on their queues: all of them or none, in one round trip.

        Tasks of one call that are ready at once are reserved in the order given. At most
        `MAX_TASKS`. A task whose id the queue holds already (in any state) is not put there twice,
        nor changed. With a *commit_id* the whole call is idempotent: repeated within five minutes
        under the same id it does nothing, even when the tasks have run in between. When this
        raises, nothing is queued now nor will be.
        """

    @abstractmethod
    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        """Undo the push of that *commit_id*, or refuse it should it still arrive.

        Tasks that a worker has taken already stay with it. A push under that id raises
        `BackendError` from then on.
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
        """Settle *outcomes* and reserve up to *limit* tasks, in one round trip and atomically.

        In this order: the outcomes (whatever queues they are of); expired leases of *queue_names*
        are reclaimed, their tasks ready again, or dead when they have been lost *max_lost* times;
        tasks are reserved from the first of *queue_names* that has any ready, then the next.
        Within a queue the one that has been due for longest goes first. *limit* 0 only settles.

        For each task that dies, up to two of the oldest dead of its queue are dropped, if they are
        more than `dead_limit` or have been dead for `dead_seconds`.
        """

    @abstractmethod
    def wait(self, queue_names: Sequence[str], timeout: float) -> None:
        """Sleep until a task may have come, at most *timeout* seconds, without polling.

        May return early and for no reason; never sleeps through a push that came after the last
        `step` found nothing. It need not know when a scheduled task is due or a lease ends: whoever
        waits takes the lesser of its own patience and the `pause` of that step as *timeout*.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """End every `wait` that is going on in this process, and the next of each thread.

        Safe to call from a signal handler and from another thread.
        """

    @abstractmethod
    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        """Let *leases* end *lease_for* seconds from now; return those that are lost already."""

    @abstractmethod
    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        """Reserve one task by its id, ready or scheduled; None if it is neither."""

    @abstractmethod
    def cancel(self, queue_name: str, task_id: str) -> str | None:
        """Take a ready or scheduled task off its queue and return its data; None if it is neither."""

    @abstractmethod
    def len(self, queue_name: str) -> int:
        """Count the tasks that wait to be run: ready and scheduled."""

    @abstractmethod
    def drop_all(self, queue_name: str) -> None:
        """Throw away every ready and scheduled task of the queue."""

    @abstractmethod
    def queue_names(self) -> list[str]:
        """Name the queues that hold tasks or ever did, sorted."""

    @abstractmethod
    def stats(self, queue_name: str) -> QueueStats:
        """Measure the queue, at a cost that does not grow with it."""

    @abstractmethod
    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        """List the dead of the queue, the latest first."""

    @abstractmethod
    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        """Make a dead task ready again, its count of lost workers at zero; False if none is."""

    @abstractmethod
    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        """Throw a dead task away; False if none goes by that id."""

    @abstractmethod
    def beat(self, worker: WorkerInfo, ttl: float) -> None:
        """Note that *worker* is alive, and forget it after *ttl* seconds of silence (0: now)."""

    @abstractmethod
    def workers(self) -> list[WorkerInfo]:
        """List the workers that have been heard of."""

    def note(  # noqa: B027 - not every store has a place for it
        self, figures: Figures, queue_names: Sequence[str] = ()
    ) -> None:
        """Add up *figures*, and take a sample of each of *queue_names*, atomically.

        A sample is taken when there is none of the present ten seconds; those of the last quarter
        of an hour are kept. A store that has no place for either does nothing.
        """

    def figures(self, queue_name: str) -> Mapping[str, int] | None:
        """Return the sums of what was noted of the queue; None from a store that keeps none."""
        return None

    def history(self, queue_name: str) -> Sequence[Sample] | None:
        """Return the samples of the queue, the oldest first; None from a store that takes none."""
        return None

    @abstractmethod
    def ping(self) -> None:
        """Ask the store for an answer; raise `BackendError` when it gives none."""

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        """List the tasks whose time has not come, the next first; none where a store cannot."""
        return []

    def warnings(self) -> list[str]:
        """Say what of the store's set-up could lose tasks; nothing when all is well."""
        return []

    def close(self) -> None:  # noqa: B027 - not every store has something to close
        """Let go of connections. A later use opens new ones."""

    # What follows from it.

    def wait_then_step(
        self,
        queue_names: Sequence[str],
        timeout: float,
        limit: int,
        *,
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        """Do `wait`, then `step`: in one round trip where a store can, for an idle worker's next task.

        Whoever is interrupted may still be given tasks, and has to release them.
        """
        self.wait(queue_names, timeout)
        return self.step(queue_names, limit, lease_for=lease_for, max_lost=max_lost)

    def reserve(
        self, queue_name: str, *, limit: int = 1, lease_for: float = LEASE_SECONDS
    ) -> Sequence[Lease]:
        """Take the longest-due ready tasks, hidden from others for *lease_for* seconds."""
        return self.step([queue_name], limit, lease_for=lease_for).leases

    def ack(self, lease: Lease) -> None:
        """Say that the task is done."""
        self.step((), 0, outcomes=[Outcome("ack", lease)])

    def nack(self, lease: Lease, *, delay: float = 0.0, data: str | None = None) -> None:
        """Say that the attempt failed and the task is to run again after *delay* seconds."""
        self.step((), 0, outcomes=[Outcome("retry", lease, delay, data)])

    def release(self, lease: Lease) -> None:
        """Give back a task that was not begun."""
        self.step((), 0, outcomes=[Outcome("release", lease)])

    def dead_letter(self, lease: Lease, *, reason: str, traceback: str = "") -> None:
        """Put the task away for people to look at."""
        self.step((), 0, outcomes=[Outcome("dead", lease, 0.0, None, reason, traceback)])

    def push_commits(
        self, commits: Sequence[Commit], *, waited: float = 0.0
    ) -> list[AlligatorException | None]:
        """Push each of *commits* as `push_many` does, and say what went wrong with each.

        One trip for all where the store can do that. *waited* is how many seconds of the time that a
        push may take have gone by already.
        """
        outcomes: list[AlligatorException | None] = []
        for messages, commit_id in commits:
            try:
                self.push_many(messages, commit_id=commit_id)
                outcomes.append(None)
            except AlligatorException as error:
                outcomes.append(error)
        return outcomes

    async def apush_commits(
        self, commits: Sequence[Commit], *, waited: float = 0.0
    ) -> list[AlligatorException | None]:
        """Be `push_commits`, while the event loop goes on; a cancellation is no reason not to say."""
        # asyncio: a program without coroutines does not pay for it
        from ..offload import outlast

        return await outlast(lambda: self.push_commits(commits, waited=waited))

    # The calls of Alligator 1.0 that those above do not cover already.

    def push(
        self, queue_name: str, task_id: str, data: str, delay_until: float | None = None
    ) -> str:
        """Put one task on its queue, due at the Unix timestamp *delay_until*; return its id."""
        delay = 0.0 if delay_until is None else max(0.0, delay_until - time())
        self.push_many([Message(queue_name, task_id, data, delay)])
        return task_id

    def pop(self, queue_name: str) -> str | None:
        """Take the next task off the queue for good and return its data: at-most-once."""
        return self._take(self.reserve(queue_name))

    def get(self, queue_name: str, task_id: str) -> str | None:
        """Take that task off the queue for good and return its data: at-most-once."""
        lease = self.lease(queue_name, task_id)
        return self._take([lease] if lease else ())

    def _take(self, leases: Sequence[Lease]) -> str | None:
        for lease in leases:
            self.ack(lease)
            return lease.data
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {redact(self.conn_string)}>"


def redact(conn_string: str) -> str:
    """Hide what is secret in a DSN: the password and every value of its query.

    >>> redact("redis://app:s3cret@db.example:6379/0?password=s3cret")
    'redis://app:***@db.example:6379/0?password=***'
    """
    head, mark, query = conn_string.partition("?")
    scheme, slashes, rest = head.partition("://")
    if "@" in query:  # no telling where the password ends: it may hold a question mark
        return f"{scheme}{slashes}***"
    # The last @ ends the credentials: a password may hold one itself, and a slash too.
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    credentials = f"{user}:***" if colon else user
    fields = [
        name + "=***" if eq else "***"
        for name, eq, _ in (f.partition("=") for f in query.split("&") if f)
    ]
    return f"{scheme}{slashes}{credentials}{at}{host}{mark}{'&'.join(fields)}"
