"""What a store keeps about schedules: their definitions, and the last tick of each."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from ..constants import LONG_COMMIT_ID
from .records import Duplicates, Message


class Announcement(NamedTuple):
    """A schedule, as a worker announces it."""

    name: str
    about: str
    """Its definition as JSON, for display."""
    ttl: float
    """For how many seconds the store keeps the record if no worker announces the schedule again."""


class ScheduleRecord(NamedTuple):
    """What a store knows about a schedule."""

    name: str
    about: str
    last: int
    """The moment of its last tick, as a Unix timestamp; before the first one, that of its first
    announcement. No tick of this moment or an earlier one is queued any more."""
    ran: int
    """The moment of the last tick that was queued; 0 if there was none."""
    seen_ago: float
    """Seconds since a worker announced it, by the store's clock."""


class ScheduleStore:
    """The part of a `Client` for schedules; these methods are those of a store that keeps none.

    For each schedule a store keeps `ScheduleRecord.last`, which never decreases. A tick is queued only
    if its moment is later. So each tick is queued once, even if many workers push it, or push it late.
    After an outage, each worker knows which ticks are missing.
    """

    remembers_ticks: ClassVar[bool] = False
    """Whether the store keeps the last tick of each schedule, as described here."""

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        """See `Client.push_many`."""
        raise NotImplementedError

    def announce_schedules(
        self, schedules: Sequence[Announcement], now: int
    ) -> Sequence[int | None]:
        """Record that a worker keeps *schedules*; return the `ScheduleRecord.last` of each.

        If a schedule is new to the store, its `last` becomes *now*, a Unix timestamp of the worker's
        clock. A store that keeps no schedules returns None for each.
        """
        return [None for _ in schedules]

    def push_tick(self, name: str, moment: int, message: Message) -> bool:
        """Queue the tick of the schedule *name* at *moment*; return whether this call has queued it.

        If `ScheduleRecord.last` is *moment* or later, nothing happens. Otherwise it becomes *moment*,
        in one round trip and atomically with the push. After a `BackendUnavailable` it is unknown
        whether the tick is queued; the call can be repeated. A schedule that the store does not know is
        recorded. A store that keeps no schedules recognises a repeated tick by the id of its commit.
        """
        commit_id = f"{LONG_COMMIT_ID}tick {name} {moment}"
        return self.push_many([message], commit_id=commit_id, undo=False) is None

    def schedules(self) -> Sequence[ScheduleRecord]:
        """Return the schedules that workers have announced, by name."""
        return []

    def forget_schedule(self, name: str) -> bool:
        """Forget a schedule; return whether there was one of that name.

        If a worker still keeps it, its next announcement makes it a new one.
        """
        return False


UNANNOUNCED_SECONDS = 86_400.0
"""How long a store keeps a schedule that it knows only from a tick."""
