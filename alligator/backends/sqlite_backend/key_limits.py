"""The limits of keys in a SQLite file, and when the tasks of these keys began."""

from collections.abc import Callable, Sequence
from sqlite3 import Cursor
from typing import Any

from ..base import Limit
from ..limits import MOST_KEYS
from .clock import SECOND, micros
from .schema import NO_END

Execute = Callable[..., Cursor]

_Limit = tuple[int | None, int | None, int]
"""How many at once, how many starts, within how many microseconds."""

# Somebody may have written something other than a number.
LIMITS = """
    SELECT key, CAST(at_once AS INTEGER), CAST(starts AS INTEGER), CAST(span AS INTEGER)
    FROM key_limit WHERE queue = ? ORDER BY key LIMIT ?
"""

# That of each key, if there is one, and whether there are any.
LIMIT_OF_EACH = """
    SELECT key, CAST(at_once AS INTEGER), CAST(starts AS INTEGER), CAST(span AS INTEGER)
    FROM (SELECT 1) LEFT JOIN key_limit ON queue = :queue AND key = '*'
    WHERE EXISTS (SELECT 1 FROM key_limit WHERE queue = :queue)
"""

SET_LIMIT = "REPLACE INTO key_limit (queue, key, at_once, starts, span) VALUES (?, ?, ?, ?, ?)"

REMOVE_LIMIT = "DELETE FROM key_limit WHERE queue = ? AND key = ?"

# Leases from before the first limit count, too.
COUNT_LEASES = """
    UPDATE task SET is_limited = 1 WHERE queue = ? AND state = 'leased' AND NOT is_limited
"""

OPEN = "UPDATE line SET until = 0 WHERE queue = ? AND until > 0 AND ? IN (key, '*')"

# What `KeyLimits` has to know of the key of a line, and where it is from.
COLUMNS = (
    """,
        own.key, CAST(at_once AS INTEGER), CAST(starts AS INTEGER), CAST(span AS INTEGER),
        (
            SELECT count(*) FROM task
            WHERE queue = :queue AND limit_key = line.key AND state = 'leased' AND is_limited
        ),
        (SELECT min(number) FROM key_begun WHERE queue = :queue AND key = line.key),
        (SELECT max(number) FROM key_begun WHERE queue = :queue AND key = line.key)
    """,
    "LEFT JOIN key_limit AS own ON own.queue = :queue AND own.key = line.key",
)

BLOCK = "UPDATE line SET until = ? WHERE queue = ? AND key = ? AND rank = ?"

# One with a shorter time, by another limit, may be forgotten before older ones; then the rest count.
FIND_START = """
    SELECT CAST(ifnull(
        (
            SELECT at FROM key_begun
            WHERE queue = :queue AND key = :key AND number = :last + 1 - :starts
        ),
        (
            SELECT at FROM key_begun WHERE queue = :queue AND key = :key
            ORDER BY number DESC LIMIT 1 OFFSET :starts - 1
        )
    ) AS INTEGER)
"""

BEGIN = "INSERT INTO key_begun (queue, key, number, at, gone) VALUES (?, ?, ?, ?, ?)"

# More than the step adds, but few enough that other writers need not wait.
FORGET_STARTS = """
    DELETE FROM key_begun WHERE (queue, key, number) IN (
        SELECT queue, key, number FROM key_begun WHERE gone <= ? ORDER BY gone LIMIT ?
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
        execute(COUNT_LEASES, (name,))
    execute(OPEN, (name, key))


class KeyLimits:
    """The limits of the keys of a queue, in one step."""

    def __init__(
        self, execute: Execute, executemany: Execute, name: str, now: int, each: _Limit | None
    ) -> None:
        self.begun: set[str] = set()
        """The keys with a limit of which a task has begun."""
        self._execute, self._executemany, self._name, self._now = execute, executemany, name, now
        self._each = each
        self._limit: _Limit | None = None
        """The limit that applies to the line that was asked for, and the number of its last start."""
        self._last_start: int | None = None
        self._starts: list[tuple[str, str, int, int, int]] = []

    @classmethod
    def of_step(
        cls, execute: Execute, executemany: Execute, name: str, now: int
    ) -> "KeyLimits | None":
        """Return those of the queue; None if it has none."""
        row = execute(LIMIT_OF_EACH, {"queue": name}).fetchone()
        if row is None:
            return None
        return cls(execute, executemany, name, now, None if row[0] is None else row[1:])

    def lets(self, key: str, rank: int, used: Sequence[Any]) -> bool:
        """Return whether a task of a line may begin; if not, the line has no turns until one may.

        *used* are the values of `COLUMNS`; none for the tasks without a key.
        """
        self._limit = None
        if key in self.begun:
            return False
        if not used:
            return True
        own, at_once, starts, span, leased, first, self._last_start = used
        self._limit = self._each if own is None else (at_once, starts, span)
        until = self._until(key, leased, first) if self._limit is not None else 0
        if until > self._now:
            self._execute(BLOCK, (until, self._name, key, rank))
        return until <= self._now

    def _until(self, key: str, leased: int, first_start: int | None) -> int:
        assert self._limit is not None
        at_once, starts, span = self._limit
        if at_once is not None and leased >= at_once:
            return NO_END
        last = self._last_start
        if starts is None or last is None or first_start is None or last - first_start + 1 < starts:
            return 0
        which = {"queue": self._name, "key": key, "last": last, "starts": starts}
        (at,) = self._execute(FIND_START, which).fetchone()
        return 0 if at is None else int(at) + span

    def begin(self, key: str) -> None:
        """Record that a task of the line begins that `lets` was asked for."""
        if self._limit is None:
            return
        self.begun.add(key)
        _, starts, span = self._limit
        if starts is not None:
            number = (self._last_start or 0) + 1
            self._starts.append((self._name, key, number, self._now, self._now + span))

    def end(self) -> None:
        """Write what is not written yet."""
        if self._starts:
            self._executemany(BEGIN, self._starts)
            self._execute(FORGET_STARTS, (self._now, 2 * len(self._starts) + 10))
