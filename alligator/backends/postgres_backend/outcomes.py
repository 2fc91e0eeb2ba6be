"""The outcomes of tasks as parameters of a step, and what a step returns."""

import os
from collections.abc import Sequence
from typing import Any, Final

from ..base import KeyStats, Lease, Limit, Outcome, QueueStats, bounded
from ..stats import COUNTERS, STATES, read_text
from .codec import Value
from .wire import Row

TOKEN_BASE: Final = 2**64
"""A lease's token is the number of its task times this, plus the random number of its step."""


def new_token() -> int:
    """Return a number that no step had before: not of a sequence, which a crash may set back."""
    return int.from_bytes(os.urandom(8)) >> 2 or 1


def text(value: str) -> str:
    """Return *value* as PostgreSQL can store it in a text: without NUL and lone surrogates."""
    return value.replace("\0", "?").encode("utf-8", "replace").decode()


def pack_acks(outcomes: Sequence[Outcome]) -> list[Value]:
    """Return the queues, ids and numbers of the tasks that are done."""
    leases = [outcome.lease for outcome in outcomes if outcome.verdict == "ack"]
    return [
        [lease.queue_name for lease in leases],
        [lease.task_id for lease in leases],
        [lease.token // TOKEN_BASE for lease in leases],
    ]


def pack_outcomes(outcomes: Sequence[Outcome]) -> list[Value]:
    """Return the parameters for all other outcomes."""
    others = [outcome for outcome in outcomes if outcome.verdict != "ack"]
    if not others:
        return [None] * 9
    return [
        [outcome.verdict for outcome in others],
        *pack_leases([outcome.lease for outcome in others]),
        [bounded(outcome.delay) for outcome in others],
        [None if outcome.data is None else outcome.data.encode() for outcome in others],
        [text(outcome.reason) for outcome in others],
        [text(outcome.traceback) for outcome in others],
    ]


def returns(outcome: Outcome) -> bool:
    """Return whether the task goes back to its place in the queue, which is before later tasks."""
    return outcome.verdict == "release" and not outcome.delay > 0


def pack_leases(leases: Sequence[Lease]) -> list[Value]:
    """Return the queues, ids, numbers and tokens of leases."""
    return [
        [lease.queue_name for lease in leases],
        [lease.task_id for lease in leases],
        [lease.token // TOKEN_BASE for lease in leases],
        [lease.token % TOKEN_BASE for lease in leases],
    ]


def numbers_of(lease: Lease) -> tuple[int, int]:
    """Return the number of the task of a lease, and its token."""
    return divmod(lease.token, TOKEN_BASE)


def pack_wake(queue_names: Sequence[str]) -> list[Value]:
    """Return the parameters that wake a worker for a task of each of these queues, at once."""
    number = len(queue_names)
    return [[], [1] * number, [*queue_names], [1] * number]


def read_lease(row: Row, token: int) -> Lease:
    """Return the lease of a row of a step."""
    queue, task_id, data, seq, lost, waited, *_ = row
    return Lease(
        queue,
        task_id,
        data.decode("utf-8", "replace"),
        seq * TOKEN_BASE + token,
        lost,
        max(0.0, waited),
    )


def read_data(data: bytes) -> str:
    """Return a payload, or a description of one that is not text."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return read_text(data)


def read_stats(numbers: Sequence[Any]) -> QueueStats:
    """Return the numbers of a queue."""
    *counts, oldest, paused, at_once, starts, seconds, is_reached = numbers
    named = dict(zip((*STATES, *COUNTERS), counts, strict=True))
    return QueueStats(
        **named,
        oldest=oldest,
        paused=paused,
        limit=None if seconds is None else Limit(at_once, starts, seconds),
        limited=named["ready"] if is_reached else 0,
    )


def read_key_stats(columns: Sequence[Any]) -> KeyStats:
    """Return the stats of the keys of a queue."""
    waiting, limited, keys, *numbers = columns
    limits = (Limit(*each) for each in zip(*numbers, strict=True)) if keys else ()
    return KeyStats.of(waiting, limited, dict(zip(keys or (), limits, strict=True)))
