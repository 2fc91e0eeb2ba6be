"""The records that pass between a store and its callers: messages, leases, outcomes, dead letters."""

from collections.abc import Sequence
from math import inf
from typing import Any, Literal, NamedTuple

from ..constants import COMMIT_MEMORY, LONG_COMMIT_ID, LONG_COMMIT_MEMORY, MAX_SECONDS
from ..exceptions import AlligatorException
from .unique import Unique


class Message(NamedTuple):
    """One task to be pushed."""

    queue_name: str
    task_id: str
    data: str
    delay: float = 0.0
    """Seconds from its arrival until it is ready; `Outcome` says what happens out of range."""
    priority: int = 0
    """One of the values of `LEVELS`. The task keeps it until it is done, also while it is dead."""
    unique: Unique | None = None
    follows: bool = False
    """Whether it is a follow-up, which is queued when the other tasks of its commit are settled."""
    limit_key: str | None = None
    """Whose turns and limit it has: see `alligator.backends.limits`. The task keeps it, like its
    priority."""

    @property
    def more(self) -> tuple[int | Unique | bool | str | None, ...]:
        """What follows the delay where a message is kept; nothing if an older version can read it."""
        if self.limit_key is not None:
            return (self.priority, self.unique, self.follows, self.limit_key)
        if self.follows:
            return (self.priority, self.unique, True)
        if self.unique is not None:
            return (self.priority, self.unique)
        return (self.priority,) if self.priority else ()


def read_more(
    priority: Any = 0, unique: Any = None, follows: Any = False, limit_key: Any = None
) -> tuple[int, Unique | None, bool, str | None]:
    """Return the fields of a message that follow its delay, from `Message.more` as JSON keeps it.

    Raises `TypeError` or `ValueError` if they cannot be read.
    """
    if not isinstance(limit_key, str | None):
        raise TypeError("a limit key is a text")
    if unique is None:
        return int(priority), None, bool(follows), limit_key
    key, until_start, seconds, *replace = unique
    held = Unique(str(key), bool(until_start), float(seconds), bool(any(replace)))
    return int(priority), held, bool(follows), limit_key


Duplicates = Sequence[int]
"""The positions, in a push, of the tasks that were not queued: their id already waits, or, where the
position is a `Held`, another task holds their unique key."""


class Commit:
    """Tasks that belong together: all of them are queued, or none is."""

    outcome: "BaseException | Duplicates | None" = None
    """What its push returned or raised, once it is settled."""
    is_settled: bool = False
    is_abandoned: bool = False
    """Whether its caller no longer waits, so that its tasks must not stay on the queue."""
    future: Any = None
    """What its caller waits on, while the commit waits for a trip."""

    def __init__(
        self,
        messages: Sequence[Message],
        commit_id: str | None = None,
        *,
        undo: bool = True,
        deadline: float | None = None,
    ) -> None:
        self.messages: Sequence[Message] = messages
        self.commit_id: str | None = commit_id
        """A repeated push is recognised by this id."""
        self.undo: bool = undo
        """Whether a failed push is undone. Not if somebody chose the id: see `Client.push_many`."""
        self.deadline: float | None = deadline
        """Until when its push may take, on the monotonic clock; None for `Client.commit_seconds`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.commit_id}: {len(self.messages)} tasks>"


def memory_of(commit_id: str) -> float:
    """Return for how many seconds a store remembers a commit id that the application chose."""
    return LONG_COMMIT_MEMORY if commit_id.startswith(LONG_COMMIT_ID) else COMMIT_MEMORY


class Lease(NamedTuple):
    """The right to run a task until the lease ends: what `reserve` returns to a worker."""

    queue_name: str
    task_id: str
    data: str
    token: int = 0
    """It identifies the push and the run. A store ignores an outcome that carries an outdated token."""
    lost: int = 0
    """How many workers had reserved this task alone and then lost it, without reporting an outcome."""
    waited: float = 0.0
    """For how many seconds it had been ready when it was reserved."""


Pushed = AlligatorException | Duplicates | None
"""The result of a commit: an error, the positions of its duplicates, or None."""

LONGEST_DELAY = MAX_SECONDS
"""The longest delay that every store can keep, in seconds."""

Verdict = Literal["ack", "retry", "release", "dead", "expired"]


class Outcome(NamedTuple):
    """The result of a leased task, which its worker reports to the store.

    ``ack``: the task is done. This counts even if the lease has expired, because the work is done.
    ``retry``: it failed, and runs again after *delay*, with *data* in place of its payload.
    ``release``: it does not count as failed, retried or lost. Without a *delay* it returns to its
    place in the queue, because it was not started. With a *delay* it is scheduled, because a problem
    that is not its fault prevented the run. *data*, if given, replaces its payload.
    ``dead``: it moves to the dead letters with *reason* and *traceback*; its payload is kept.
    ``expired``: it moves to the dead letters with *reason*, because it had not begun in time. This is
    no failed attempt. *data*, if given, replaces its payload.

    All except ``ack`` do nothing if another worker has the task now. A *delay* below 0 or NaN counts
    as 0, one above `LONGEST_DELAY` as `LONGEST_DELAY`.
    """

    verdict: Verdict
    lease: Lease
    delay: float = 0.0
    data: str | None = None
    reason: str = ""
    traceback: str = ""


class Step(NamedTuple):
    """What one call of `Client.step` reserves."""

    leases: Sequence[Lease] = ()
    pause: float = inf
    """If *leases* is empty: seconds until a scheduled task is due or a lease ends."""


class Scheduled(NamedTuple):
    """A task that is not due yet."""

    queue_name: str
    task_id: str
    data: str
    due_in: float
    """Seconds until it is ready."""


class Peeked(NamedTuple):
    """A task that is on a queue."""

    queue_name: str
    task_id: str
    data: str
    state: str
    """``ready``, ``scheduled`` or ``dead``."""


class DeadLetter(NamedTuple):
    """A task that will not run again unless somebody retries it."""

    queue_name: str
    task_id: str
    data: str
    reason: str
    traceback: str
    died_at: float


def bounded(seconds: float) -> float:
    """Return *seconds* as a number that every store can keep, from 0 to `LONGEST_DELAY`."""
    # The order matters: every comparison with NaN is false.
    return min(max(0.0, seconds), LONGEST_DELAY)
