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

HAS_LIMITS = "SELECT EXISTS (SELECT 1 FROM key_limit WHERE queue = ?)"

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

# More than most steps add, but few enough that other writers need not wait.
FORGET_STARTS = """
    DELETE FROM key_begun WHERE (queue, key, number) IN (
        SELECT queue, key, number FROM key_begun WHERE gone <= ? ORDER BY gone LIMIT 100
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


class KeyLimits:
    """The limits of the keys of a queue, in one step."""

    def __init__(self, execute: Execute, name: str, now: int) -> None:
        self._execute, self._name, self._now = execute, name, now
        self._has_limits: bool = execute(HAS_LIMITS, (name,)).fetchone()[0]
        if self._has_limits:
            execute(FORGET_STARTS, (now,))

    def _limit_of(self, key: str) -> tuple[int | None, int | None, int] | None:
        if not self._has_limits:
            return None
        row: tuple[int | None, int | None, int] | None
        row = self._execute(LIMIT_OF, (self._name, key)).fetchone()
        return row

    def begins(self, key: str) -> int:
        """Return until when no task of *key* may begin: now if one may; `NO_END` until a lease ends."""
        at_once, starts, span = self._limit_of(key) or (None, None, 0)
        if at_once is not None:
            leased = self._execute(COUNT_LEASED, (self._name, key, at_once)).fetchone()[0]
            if leased >= at_once:
                return NO_END
        if starts is None:
            return self._now
        (last,) = self._execute(LAST_START, (self._name, key)).fetchone()
        row = self._execute(FIND_START, (self._name, key, last + 1 - starts)).fetchone()
        return self._now if row is None else int(row[0]) + span

    def begin(self, key: str) -> bool:
        """Record that a task of *key* begins; return whether the key has a limit."""
        limit = self._limit_of(key)
        if limit is None:
            return False
        _, starts, span = limit
        if starts is not None:
            (last,) = self._execute(LAST_START, (self._name, key)).fetchone()
            times = self._now, self._now + span
            self._execute(BEGIN, (self._name, key, last + 1, *times))
        return True
