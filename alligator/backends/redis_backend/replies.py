"""The replies of the scripts, as the records of the contract."""

import json
from collections.abc import Sequence
from math import inf
from typing import Any

from ..base import DeadLetter, KeyStats, Lease, Limit, Peeked, QueueStats, Sample, Scheduled, Step
from ..limits import MOST_KEYS
from ..stats import COUNTERS, read_numbers, read_text

ALIAS = "\x1f"
"""What separates id and generation in the key of a task whose id a newer task has."""


def read_step(names: Sequence[str], reply: Any) -> Step:
    """Return the result of a step on the queues of these *names*."""
    first, *queues = reply
    if not queues:
        return Step((), inf if first < 0 else first / 1e6)
    leases: list[Lease] = []
    for place, found, payloads, fences in queues:
        name = names[int(place) - 1]
        keys = found[::2]
        read = [(int(fence), _lost_count(fence)) for fence in fences]
        if len(read) < len(keys):  # all have the same
            read *= len(keys)
        for key, since, data, (token, lost) in zip(keys, found[1::2], payloads, read, strict=True):
            if data is not None:
                waited = (first - float(since)) / 1e6
                leases.append(Lease(name, _id_of(key), data, token, lost, waited))
    return Step(leases)


def read_lease(queue_name: str, task_id: str, reply: Any) -> Lease | None:
    """Return the lease of one task; None if it was not reserved."""
    if not reply:
        return None
    data, fence = reply
    return Lease(queue_name, task_id, data, int(fence), _lost_count(fence))


def read_stats(reply: Sequence[Any]) -> QueueStats:
    """Return the numbers of a queue."""
    ready, waiting, leased, dead, oldest, paused, limit, is_reached, *counts = reply
    counters, unreadable = read_numbers(zip(COUNTERS, counts, strict=True))
    return QueueStats(
        ready=ready,
        scheduled=waiting - ready,
        leased=leased,
        dead=dead,
        oldest=oldest / 1e6,
        paused=inf if paused < 0 else paused / 1e6,
        **counters,
        unreadable=unreadable,
        limit=_read_limit(limit),
        limited=ready if is_reached else 0,
    )


def read_key_limits(words: Sequence[str]) -> dict[str, Limit]:
    """Return the limits of keys, without malformed ones."""
    found = ((key, _read_limit(text)) for key, text in zip(words[::2], words[1::2], strict=True))
    limits = sorted((key, limit) for key, limit in found if limit is not None)
    return dict(limits[:MOST_KEYS])


def read_key_stats(reply: Sequence[Any]) -> KeyStats:
    """Return the stats of the keys of a queue."""
    waiting, limited, names, limits_known, limits = reply
    found = zip(limits[::2], map(_read_limit, limits[1::2]), strict=True)
    known = {key: limit for key, limit in found if limit is not None}
    return KeyStats(waiting, limited, names, known, limits_known)


def _read_limit(text: str) -> Limit | None:
    """Return the limit of a queue, which the store keeps as `pack_limit` writes it."""
    try:
        at_once, starts, span = map(int, text.split())
    except ValueError:  # none, or malformed
        return None
    return Limit(at_once or None, starts or None, span / 1e6)


def read_scheduled(queue_name: str, reply: Sequence[Any]) -> list[Scheduled]:
    """Return the scheduled tasks of a queue."""
    return [
        Scheduled(queue_name, _id_of(key), data, int(due_in) / 1e6)
        for key, due_in, data in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
    ]


def read_peeked(queue_name: str, reply: Sequence[Any]) -> list[Peeked]:
    """Return some of the tasks of a queue."""
    return [
        Peeked(queue_name, _id_of(key), data, state)
        for key, data, state in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
    ]


def read_dead_letters(queue_name: str, reply: Sequence[Any]) -> list[DeadLetter]:
    """Return the dead letters of a queue."""
    letters = []
    for key, died, data, why in zip(reply[::4], reply[1::4], reply[2::4], reply[3::4], strict=True):
        reason, traceback = _read_why(why)
        letters.append(
            DeadLetter(queue_name, _id_of(key), data, reason, traceback, int(died) / 1e6)
        )
    return letters


def read_history(reply: Sequence[Any]) -> list[Sample]:
    """Return the samples of a queue, the oldest first, without malformed ones."""
    samples = (
        _read_sample(age / 1e6, words) for age, words in zip(reply[::2], reply[1::2], strict=True)
    )
    return sorted(
        (sample for sample in samples if sample is not None),
        key=lambda sample: sample.age,
        reverse=True,
    )


def _read_sample(age: float, words: str) -> Sample | None:
    """Return a sample, which may be of an older or a newer Alligator; None if it is malformed."""
    try:
        return Sample(age, *map(int, words.split()[1 : len(Sample._fields)]))
    except (TypeError, ValueError):
        return None


def _read_why(why: str) -> tuple[str, str]:
    """Return reason and traceback of a dead letter, also of a malformed one."""
    try:
        reason, traceback = json.loads(why)
    except (TypeError, ValueError, RecursionError):
        return f"unreadable record: {why:.200}", ""
    return read_text(reason), read_text(traceback)


def _id_of(key: str) -> str:
    """Return the id of the task with that key."""
    return key.partition(ALIAS)[0] if ALIAS in key else key


def _lost_count(fence: str) -> int:
    """Return how often the task with that fence was lost."""
    return int(fence[32:35]) if len(fence) > 16 else 0
