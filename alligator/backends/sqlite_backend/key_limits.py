"""The limits of keys in a SQLite file, and when the tasks of these keys began."""

from collections.abc import Callable
from sqlite3 import Cursor

from ..base import Limit
from ..limits import MOST_KEYS
from .clock import SECOND, micros
from .schema import NO_END

Execute = Callable[..., Cursor]

# Somebody may have written something other than a number.
LIMITS = """
    SELECT key, CAST(at_once AS INTEGER), CAST(starts AS INTEGER), CAST(span AS INTEGER)
    FROM key_limit WHERE queue = ? ORDER BY key LIMIT ?
"""

LIMIT_OF = """
    SELECT CAST(at_once AS INTEGER), CAST(starts AS INTEGER), CAST(span AS INTEGER)
    FROM key_limit WHERE queue = ? AND key IN (?, '*') ORDER BY key = '*' LIMIT 1
"""

SET_LIMIT = "REPLACE INTO key_limit (queue, key, at_once, starts, span) VALUES (?, ?, ?, ?, ?)"

REMOVE_LIMIT = "DELETE FROM key_limit WHERE queue = ? AND key = ?"

OPEN = "UPDATE line SET until = 0 WHERE queue = ? AND until > 0 AND ? IN (key, '*')"

COUNT_LEASED = """
    SELECT count(*) FROM (
        SELECT 1 FROM task WHERE queue = ? AND limit_key = ? AND state = 'leased' LIMIT ?
    )
"""

LAST_START = "SELECT ifnull(max(number), 0) FROM key_begun WHERE queue = ? AND key = ?"

FIND_START = """
    SELECT CAST(at AS INTEGER) FROM key_begun WHERE queue = ? AND key = ? AND number = ?
"""

BEGIN = "INSERT INTO key_begun (queue, key, number, at, gone) VALUES (?, ?, ?, ?, ?)"

# A few at a time: more than are added.
FORGET_STARTS = """
    DELETE FROM key_begun WHERE (queue, key, number) IN (
        SELECT queue, key, number FROM key_begun WHERE gone <= ? ORDER BY gone LIMIT 10
    )
"""


def find(execute: Execute, name: str) -> dict[str, Limit]:
    """Return the limits of the keys of a queue."""
    rows = execute(LIMITS, (name, MOST_KEYS)).fetchall()
    return {key: Limit(at_once, starts, span / SECOND) for key, at_once, starts, span in rows}


def set_limit(execute: Execute, name: str, limit: Limit | None, key: str) -> None:
    """Give a key this limit in place of the one that it has; its lines have turns again."""
    if limit is None:
        execute(REMOVE_LIMIT, (name, key))
    else:
        execute(SET_LIMIT, (name, key, limit.at_once, limit.starts, micros(limit.seconds)))
    execute(OPEN, (name, key))


def begins(execute: Execute, name: str, key: str, now: int) -> int:
    """Return until when no task of *key* may begin: *now* if one may; `NO_END` until a lease ends."""
    at_once, starts, span = execute(LIMIT_OF, (name, key)).fetchone() or (None, None, 0)
    if at_once is not None and (
        execute(COUNT_LEASED, (name, key, at_once)).fetchone()[0] >= at_once
    ):
        return NO_END
    if starts is None:
        return now
    (last,) = execute(LAST_START, (name, key)).fetchone()
    (began,) = execute(FIND_START, (name, key, last + 1 - starts)).fetchone() or (now - span,)
    return int(began) + int(span)


def begin(execute: Execute, name: str, key: str, now: int) -> bool:
    """Record that a task of *key* begins; return whether the key has a limit."""
    row = execute(LIMIT_OF, (name, key)).fetchone()
    if row is None:
        return False
    _, starts, span = row
    if starts is not None:
        (last,) = execute(LAST_START, (name, key)).fetchone()
        execute(BEGIN, (name, key, last + 1, now, now + span))
        execute(FORGET_STARTS, (now,))
    return True
