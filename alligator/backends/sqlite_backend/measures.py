"""The numbers of a queue in a SQLite file."""

from collections.abc import Callable
from math import inf
from sqlite3 import Cursor

from ..base import QueueStats
from ..stats import read_numbers
from . import limits
from . import schema as sql
from .clock import SECOND


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
