"""The limits of queues in a SQLite file, and when their tasks began."""

from collections.abc import Callable
from math import inf
from sqlite3 import Cursor

from ..base import Limit
from .clock import SECOND, micros

# Somebody may have written something other than a number.
FIND_LIMIT = """
    SELECT CAST(at_once AS INTEGER), CAST(starts AS INTEGER), CAST(span AS INTEGER)
    FROM queue_limit WHERE queue = ?
"""

SET_LIMIT = "REPLACE INTO queue_limit (queue, at_once, starts, span) VALUES (?, ?, ?, ?)"

REMOVE_LIMIT = "DELETE FROM queue_limit WHERE queue = ?"

FORGET_STARTS = "DELETE FROM begun WHERE queue = ?"

COUNT_LEASED = """
    SELECT count(*) FROM (
        SELECT 1 FROM task WHERE queue = ? AND state = 'leased' LIMIT ?
    )
"""

LAST_START = "SELECT ifnull(max(number), 0) FROM begun WHERE queue = ?"

FIND_START = "SELECT CAST(at AS INTEGER) FROM begun WHERE queue = ? AND number = ?"

BEGIN = "INSERT INTO begun (queue, number, at) VALUES (?, ?, ?)"

FORGET_OLD_STARTS = "DELETE FROM begun WHERE queue = ? AND number <= ?"

Execute = Callable[..., Cursor]


def find(execute: Execute, name: str) -> Limit | None:
    """Return the limit of a queue; None if it has none."""
    row: tuple[int | None, int | None, int] | None = execute(FIND_LIMIT, (name,)).fetchone()
    return None if row is None else Limit(row[0], row[1], row[2] / SECOND)


def set_limit(execute: Execute, name: str, limit: Limit | None) -> None:
    """Give a queue this limit in place of the one that it has."""
    if limit is None:
        execute(REMOVE_LIMIT, (name,))
    else:
        execute(SET_LIMIT, (name, limit.at_once, limit.starts, micros(limit.seconds)))
    if limit is None or limit.starts is None:
        execute(FORGET_STARTS, (name,))


def begins(execute: Execute, name: str, now: int) -> float:
    """Return until when the limit lets no task begin: *now* if one may; inf until a lease ends."""
    at_once, starts, span = execute(FIND_LIMIT, (name,)).fetchone() or (None, None, 0)
    if at_once is not None and execute(COUNT_LEASED, (name, at_once)).fetchone()[0] >= at_once:
        return inf
    if starts is None:
        return now
    (last,) = execute(LAST_START, (name,)).fetchone()
    (began,) = execute(FIND_START, (name, last + 1 - starts)).fetchone() or (now - span,)
    return int(began) + int(span)


def begin(execute: Execute, name: str, now: int) -> None:
    """Record that a task of a queue that has a limit begins."""
    _, starts, _ = execute(FIND_LIMIT, (name,)).fetchone()
    if starts is not None:
        (last,) = execute(LAST_START, (name,)).fetchone()
        execute(BEGIN, (name, last + 1, now))
        execute(FORGET_OLD_STARTS, (name, last + 1 - starts))
