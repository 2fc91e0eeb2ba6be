"""Outcomes of tasks, as arguments of the step script."""

import json
from collections import defaultdict
from collections.abc import Iterable

from ...constants import MAX_TASKS
from ..base import Lease, Limit, Message, Outcome, bounded
from ..unique import Unique


def with_keys(delay: int | str, unique: Unique | None, limit_key: str | None) -> str:
    """Return *delay*, as the script of a push reads it, with the keys that the task has."""
    words = [str(delay)]
    if limit_key is not None:
        words += "k", limit_key
    if unique is not None:
        how = "r" if unique.replace else "s" if unique.until_start else "d"
        least = max(1, round(bounded(unique.seconds) * 1e3)) if unique.seconds > 0 else 0
        words += how, str(least), unique.key
    return "\x1f".join(words)


def pack_follow_ups(messages: Iterable[Message]) -> list[str | int]:
    """Return follow-ups as arguments of the script of their push."""
    return [
        word
        for each in messages
        for word in (
            *(each.queue_name, each.task_id, each.data, each.priority),
            each.limit_key or "",
        )
    ]


def pack_outcomes(outcomes: Iterable[Outcome], names: list[str]) -> list[str | int]:
    """Return *outcomes* as arguments; append their queues to *names* if these are missing."""
    places = {name: place for place, name in enumerate(names, 1)}
    acked: defaultdict[int, list[Lease]] = defaultdict(list)
    fenced: list[str | int] = []
    released: list[tuple[str | int, ...]] = []
    for verdict, lease, delay, data, reason, traceback in outcomes:
        if lease.queue_name not in places:
            names.append(lease.queue_name)
            places[lease.queue_name] = len(names)
        place = places[lease.queue_name]
        if verdict == "ack":
            acked[place].append(lease)
            continue
        task = (verdict, place, lease.task_id, lease.token)
        if verdict == "retry":
            fenced += *task, microseconds(delay), data or ""
        elif verdict == "dead":
            fenced += *task, json.dumps([reason, traceback])
        elif verdict == "expired":
            fenced += *task, json.dumps([reason, traceback]), data or ""
        else:
            released.append((*task, microseconds(delay), data or ""))
    acks: list[str | int] = []
    for place, leases in acked.items():
        for start in range(0, len(leases), MAX_TASKS):
            some = leases[start : start + MAX_TASKS]
            fences = [each.token for each in some]
            if len({*fences}) == 1:  # those of one step, unless they were leased before
                del fences[1:]
            acks += "ack", place, len(some), len(fences), *[each.task_id for each in some], *fences
    # Each released task goes to the head of its queue, so the first of them must be the last here.
    return [*acks, *fenced, *(word for words in reversed(released) for word in words)]


def pack_lease(prefix: str, lease: Lease) -> str:
    """Return a lease as the canceled ones have it; *prefix* is that of the key of its queue."""
    return f"{prefix}{lease.queue_name}\x1f{lease.task_id}\x1f{lease.token}"


def pack_limit(limit: Limit | None) -> str:
    """Return the limit of a queue as the scripts keep it; an empty text for none."""
    if limit is None:
        return ""
    return f"{limit.at_once or 0} {limit.starts or 0} {microseconds(limit.seconds)}"


def microseconds(seconds: float) -> int:
    """Return a duration as the scripts take it."""
    return round(bounded(seconds) * 1e6)
