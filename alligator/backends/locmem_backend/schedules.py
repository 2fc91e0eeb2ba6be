"""The schedules in memory, and the last tick of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..base import Announcement, ScheduleRecord
from ..schedules import UNANNOUNCED_SECONDS


@dataclass(slots=True)
class _Schedule:
    about: str
    last: int
    ran: int
    seen: float
    gone: float


class Schedules:
    """The schedules of one store. It has no lock: the caller holds that of the store.

    *now* is a time of the monotonic clock.
    """

    def __init__(self) -> None:
        self._found: dict[str, _Schedule] = {}

    def announce(self, schedules: Sequence[Announcement], moment: int, now: float) -> list[int]:
        """Record *schedules*, and return the last tick of each: *moment* for a new one."""
        self._forget_old(now)
        for name, about, ttl in schedules:
            found = self._found.setdefault(name, _Schedule(about, moment, 0, now, now))
            found.about, found.seen, found.gone = about, now, now + ttl
        return [self._found[each.name].last for each in schedules]

    def tick(self, name: str, moment: int, now: float) -> bool:
        """Record a tick; return False if it is not later than the last one."""
        self._forget_old(now)
        new = _Schedule("", 0, 0, now, now + UNANNOUNCED_SECONDS)
        found = self._found.setdefault(name, new)
        if found.last >= moment:
            return False
        found.last = found.ran = moment
        return True

    def records(self, now: float) -> list[ScheduleRecord]:
        """Return the schedules, by name."""
        self._forget_old(now)
        return [
            ScheduleRecord(name, found.about, found.last, found.ran, now - found.seen)
            for name, found in sorted(self._found.items())
        ]

    def forget(self, name: str, now: float) -> bool:
        """Forget a schedule; return whether there was one."""
        self._forget_old(now)
        return self._found.pop(name, None) is not None

    def _forget_old(self, now: float) -> None:
        self._found = {name: found for name, found in self._found.items() if found.gone > now}
