"""The numbers of a queue in a SQLite file, and its samples."""

from collections.abc import Callable
from math import inf
from sqlite3 import Cursor
from typing import Final

from ..base import KeyStats, QueueStats
from ..limits import MOST_KEYS
from ..stats import SAMPLE_SECONDS, SAMPLES, read_numbers
from . import key_limits, limits
from . import schema as sql
from .clock import SECOND

SAMPLE_GAP: Final = SAMPLE_SECONDS * SECOND
"""Microseconds between two samples of a queue."""

# The keys of lines with a ready task, and until when they have no turns: of the first lines that have
# none, and of the first others.
WAITING_KEYS = f"""
    SELECT key, until FROM (
        SELECT * FROM (SELECT * FROM line WHERE queue = :queue AND until > 0 LIMIT {MOST_KEYS})
        UNION ALL
        SELECT * FROM (SELECT * FROM line WHERE queue = :queue AND until = 0 LIMIT {MOST_KEYS})
    ) WHERE EXISTS (
        SELECT 1 FROM task WHERE queue = :queue AND limit_key = key AND state = 'ready'
            AND at >= {sql.IN_LINE} + rank * {sql.LEVEL}
            AND at < {sql.IN_LINE} + (rank + 1) * {sql.LEVEL}
    )
"""  # noqa: S608 - our own numbers


def sample(execute: Callable[..., Cursor], name: str, moment: int) -> None:
    """Store a sample of the queue, unless there is one for the current ten seconds."""
    place = moment // SAMPLE_GAP % SAMPLES
    (last,) = execute(sql.FIND_SAMPLE, (name, place)).fetchone() or (0,)
    if isinstance(last, int) and 0 <= moment - last < SAMPLE_GAP:
        return
    stats = measure(execute, name, moment)
    figures = (getattr(stats, column) for column in sql.SAMPLED)
    execute(sql.SAMPLE, (name, place, moment, *figures))


def measure(execute: Callable[..., Cursor], name: str, moment: int) -> QueueStats:
    """Return the numbers of a queue at *moment*."""
    row = execute(sql.STATS, {"queue": name, "now": moment}).fetchone()
    if row is None:
        return QueueStats()
    *counts, due, oldest, paused = row
    found, unreadable = read_numbers(zip(sql.COUNTS, counts, strict=True))
    # These are due, but no step has made them ready yet.
    found["ready"] += due
    found["scheduled"] -= due
    since = oldest if isinstance(oldest, int) else moment
    limit = limits.find(execute, name)
    is_reached = limit is not None and limits.begins(execute, name, moment) > moment
    return QueueStats(
        **found,
        oldest=max(0, moment - since) / SECOND,
        paused=inf if paused == sql.NO_END else max(0, paused - moment) / SECOND,
        unreadable=unreadable,
        limit=limit,
        limited=found["ready"] if is_reached else 0,
    )


def measure_keys(execute: Callable[..., Cursor], name: str, moment: int) -> KeyStats:
    """Return the stats of the limit keys of a queue at *moment*."""
    rows = execute(WAITING_KEYS, {"queue": name}).fetchall()
    limited = {key for key, until in rows if until > moment}
    return KeyStats.of(len({key for key, _ in rows}), limited, key_limits.find(execute, name))
