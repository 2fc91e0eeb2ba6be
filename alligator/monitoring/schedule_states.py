"""The schedules of a store: which there are, when each ran last, and when it runs next."""

import json
from collections.abc import Iterator, Mapping
from time import time
from typing import Any, NamedTuple

from ..backends.base import ScheduleRecord
from ..schedules.moments import MAX_INTERVAL, describe_next
from .stores import Store

MAX_SCHEDULES = 200
"""How many schedules of a store are shown."""

LATE_SECONDS = 60.0
"""How many seconds a tick may be late, or the last one in the future, before this is a warning."""

SHOWN_SECONDS = 86_400.0
"""For how many seconds a skipped tick is a warning, unless the schedule runs again earlier."""

ANNOUNCED_SECONDS = 120.0
"""If no worker has announced a schedule for so many seconds, no worker keeps it."""


class ScheduleState(NamedTuple):
    """A schedule at one moment."""

    name: str
    definition: str = ""
    """The cron expression, or ``every 30 s``; empty if the store does not have it."""
    zone: str | None = None
    function: str = ""
    queue: str = ""
    catch_up: float | None = None
    ran: int | None = None
    """The moment of its last tick, as a Unix timestamp; None before the first."""
    due: int | None = None
    """The moment of the next tick; in the past if that is late. None if it is unknown."""
    missed: int | None = None
    """The moment of the first tick since the last one that is too late to be caught up."""
    seen_ago: float | None = None
    """Seconds since a worker announced it; None if none did."""
    is_here: bool = False
    """Whether a gator of this process defines it, so that it can be run from here."""

    @property
    def is_kept(self) -> bool:
        """Whether a worker keeps it."""
        return self.seen_ago is not None and self.seen_ago <= ANNOUNCED_SECONDS

    def problem(self, now: float) -> str:
        """Return what is wrong with it, as a sentence without its end; empty if nothing is."""
        if self.seen_ago is None:
            return "has been announced by no worker: start latergator with --app"
        if self.ran is not None and self.ran > now + LATE_SECONDS:
            return (
                f"has a last tick that is {self.ran - now:,.0f} s in the future: set the clocks of the "
                "workers"
            )
        due = self.due if self.missed is None else self.missed
        if due is None or due >= now - LATE_SECONDS:
            return ""
        if not self.is_kept:
            why = "no worker keeps it; if it was removed, latergator schedules forget ends this warning"
        elif self.missed is None:
            why = "the log of the workers says why"
        elif due < now - SHOWN_SECONDS:
            return ""
        else:
            why = "no worker was there in time, so that tick was skipped"
        return f"should have run {now - due:,.0f} s ago: {why}"


def find_schedules(store: Store) -> list[ScheduleState] | None:
    """Return the schedules of *store*, and those of its gators, by name.

    None if the store keeps no schedules.
    """
    if not store.client.remembers_ticks:
        return None
    own = {name for gator in store.gators for name in gator.schedules}
    found = {each.name: _state(each, own) for each in store.client.schedules()}
    found |= {state.name: state for state in _unannounced(store) if state.name not in found}
    return [found[name] for name in sorted(found)][:MAX_SCHEDULES]


def _unannounced(store: Store) -> Iterator[ScheduleState]:
    for gator in store.gators:
        for schedule in gator.schedules.values():
            moments = schedule.moments
            yield ScheduleState(
                *(schedule.name, moments.definition, moments.zone),
                *(schedule.function, schedule.queue_name, schedule.catch_up),
                due=moments.next(int(time())),
                is_here=True,
            )


def _state(record: ScheduleRecord, own: set[str]) -> ScheduleState:
    about = _read(record.about)
    definition, zone = _text(about.get("definition")), _text(about.get("zone")) or None
    given = about.get("catch_up")
    catch_up = given if isinstance(given, int | float) and 0 <= given <= MAX_INTERVAL else None
    due, missed = describe_next(definition, zone, record.last), None
    if due is not None and catch_up is not None and (skipped := int(time() - catch_up) - 1) >= due:
        due, missed = describe_next(definition, zone, skipped), due
    return ScheduleState(
        record.name,
        definition,
        zone,
        _text(about.get("function")),
        _text(about.get("queue")),
        catch_up,
        ran=record.ran or None,
        due=due,
        missed=missed,
        seen_ago=record.seen_ago,
        is_here=record.name in own,
    )


def _read(text: str) -> Mapping[str, Any]:
    """Return the definition of a schedule; anyone who can write to the store may have changed it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
