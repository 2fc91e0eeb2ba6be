"""The limits of keys in a SQLite file, and when the tasks of these keys began."""

from collections.abc import Callable, Sequence
from sqlite3 import Cursor
from typing import Any

from ..base import Limit
from ..limits import MOST_KEYS
from .clock import SECOND, micros
from .schema import NO_END

Execute = Callable[..., Cursor]

Row = tuple[int, str, str, int, int, bool, int]
"""Row number, id, data, how often it was lost, when it was due, whether it is a suspect, its rank."""


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

FIND_START = """
    SELECT CAST(at AS INTEGER) FROM key_begun WHERE queue = ? AND key = ? AND number = ?
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


class Line:
    """What a step knows of a line."""

    __slots__ = ("key", "limit", "rows", "taken", "used")

    def __init__(self, key: str, rows: list[Row], used: Sequence[Any] = ()) -> None:
        self.key: str = key
        self.rows: list[Row] = rows
        """Its next tasks, in reverse."""
        self.taken: int = 0
        """How many were taken."""
        self.used: Sequence[Any] = used
        """The limit of its key, how many are leased, and the numbers of its first and last start."""
        self.limit: _Limit | None = None
        """The limit that applies: `KeyLimits` finds it."""


class KeyLimits:
    """The limits of the keys of a queue, in one step."""

    def __init__(
        self, execute: Execute, executemany: Execute, name: str, now: int, each: _Limit | None
    ) -> None:
        self.begun: set[str] = set()
        """The keys with a limit of which a task has begun."""
        self._execute, self._executemany, self._name, self._now = execute, executemany, name, now
        self._each = each
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

    def lets(self, line: Line, rank: int) -> bool:
        """Return whether a task of a line may begin; if not, it has no turns until one may."""
        if line.key in self.begun:
            return False
        if not line.used:  # the tasks without a key
            return True
        own, at_once, starts, span, leased, first, last = line.used
        line.limit = self._each if own is None else (at_once, starts, span)
        if line.limit is None:
            return True
        at_once, starts, span = line.limit
        if at_once is not None and leased >= at_once:
            until = NO_END
        elif starts is not None and last is not None and last - first + 1 >= starts:
            start = self._name, line.key, last + 1 - starts
            until = self._execute(FIND_START, start).fetchone()[0] + span
        else:
            return True
        if until > self._now:
            self._execute(BLOCK, (until, self._name, line.key, rank))
        return until <= self._now

    def begin(self, line: Line) -> None:
        """Record that a task of a line begins."""
        if line.limit is None:
            return
        self.begun.add(line.key)
        _, starts, span = line.limit
        if starts is not None:
            number = (line.used[-1] or 0) + 1
            self._starts.append((self._name, line.key, number, self._now, self._now + span))

    def end(self) -> None:
        """Write what is not written yet."""
        if self._starts:
            self._executemany(BEGIN, self._starts)
            self._execute(FORGET_STARTS, (self._now, 2 * len(self._starts) + 10))
