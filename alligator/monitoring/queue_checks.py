"""Checks of the queues of one store against their limits."""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf
from typing import NamedTuple

from ..backends.base import KeyStats, QueueStats
from ..constants import PASS, WARN
from .entries import Checks, Entries, join_names
from .stores import Store

MAX_QUEUES = 100
"""How many queues are listed one by one: first those with a warning."""

MAX_DEAD = 10_000
"""How many dead tasks a queue may have before it is a warning."""


class Limits(NamedTuple):
    """How full a queue may be before it is a warning; both functions take its name."""

    seconds: Callable[[str], float]
    tasks: Callable[[str], int | None]
    names: Collection[str] = ()
    """The queues with limits of their own."""


class MeasuredQueue(NamedTuple):
    """A queue and what was measured of it."""

    name: str
    stats: QueueStats
    dropped: int = 0
    """How many of its tasks were dropped in the last 15 minutes."""
    keys: KeyStats | None = None
    """Its limit keys, if its oldest ready task has waited for too long."""


def check_queues(
    store: Store, queues: Sequence[MeasuredQueue], known: int, limits: Limits, entries: Entries
) -> Checks:
    """Return the checks of *queues*, of which the store has *known*; the most urgent come first."""
    own = {*store.own_queues}
    found = [(queue, _find_faults(queue, limits)) for queue in queues]
    found.sort(key=lambda pair: (not any(pair[1].values()), pair[0].name not in own))
    checks: Checks = {}
    for queue, faults in found[:MAX_QUEUES]:
        checks |= _describe(queue, faults, store.client.known_stats, entries)
    unlisted = sum(any(faults.values()) for _, faults in found[MAX_QUEUES:])
    return checks | _check_coverage(len(queues), known, unlisted, entries)


def _find_faults(queue: MeasuredQueue, limits: Limits) -> dict[str, str]:
    """Return what is wrong with a queue, by measurement; empty texts when all is well."""
    name, stats, dropped, keys = queue
    seconds, tasks = limits.seconds(name), limits.tasks(name)
    faults = {"depth": "", "oldestAge": "", "dead": "", "dropped": "", "paused": "", "limited": ""}
    if stats.unreadable:
        fields = ", ".join(stats.unreadable)
        faults["depth"] = f"{name}: the store has something that is not a number for {fields}"
    elif tasks is not None and stats.ready > tasks:
        faults["depth"] = f"{name} has {stats.ready:,} ready tasks, more than {tasks:,}"
    if stats.paused:
        end = "until it is resumed" if stats.paused == inf else f"for {stats.paused:,.0f} s more"
        faults["paused"] = f"{name} is paused {end}; ready tasks: {stats.ready:,}"
    elif stats.oldest > seconds:
        waited = f"the oldest ready task of {name} has waited for {stats.oldest:,.0f} s"
        limited = f"{stats.limited:,} wait for its limit" if stats.limited else ""
        faults["oldestAge"] = "; ".join(filter(None, [waited, limited, _waiting_keys(keys)]))
    if stats.dead > MAX_DEAD:
        faults["dead"] = f"{name} has {stats.dead:,} dead tasks: retry or drop them"
    if dropped:
        count = "1 task" if dropped == 1 else f"{dropped:,} tasks"
        faults["dropped"] = f"{count} of {name} dropped in the last 15 minutes"
    return faults


def _waiting_keys(keys: KeyStats | None) -> str:
    """Return which keys wait for their limits; an empty text if none does."""
    if keys is None or not keys.limited:
        return ""
    count = (
        "1 key waits for its limit"
        if keys.limited == 1
        else f"{keys.limited:,} keys wait for their limits"
    )
    return f"{count}: {join_names(keys.names, keys.limited)}"


def _describe(
    queue: MeasuredQueue, faults: Mapping[str, str], reported: Collection[str], entries: Entries
) -> Checks:
    """Return the checks of one queue, of those numbers that its store has *reported*."""
    measured: dict[str, tuple[float, str]] = {
        "depth": (queue.stats.ready, "tasks"),
        "oldestAge": (round(queue.stats.oldest, 3), "s"),
    }
    if "dead" in reported:
        measured["dead"] = (queue.stats.dead, "tasks")
    if "dropped" in reported:
        measured["dropped"] = (queue.dropped, "tasks")
    if queue.stats.limit is not None:
        measured["limited"] = (queue.stats.limited, "tasks")
    if queue.stats.paused:
        measured["paused"] = (queue.stats.ready, "tasks")
    return {
        f"queue/{queue.name}:{what}": [
            entries.warn_if(faults[what], observedValue=value, observedUnit=unit)
        ]
        for what, (value, unit) in measured.items()
    }


def _check_coverage(measured: int, known: int, unlisted: int, entries: Entries) -> Checks:
    """Return a check if not all queues are listed; *unlisted* counts warnings not shown."""
    missing = known - measured
    if missing <= 0 and known <= MAX_QUEUES:
        return {}
    output = f"{min(measured, MAX_QUEUES):,} of {known:,} queues are listed"
    if unlisted:
        output += f"; {unlisted:,} more have a warning"
    if missing > 0:
        output += f"; {missing:,} were not measured, as there was no time"
    status = WARN if missing > 0 or unlisted else PASS
    entry = entries.make(status, output, observedValue=measured, observedUnit="queues")
    return {"queues:measured": [entry]}
