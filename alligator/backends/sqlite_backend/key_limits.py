"""The limits of keys in a SQLite file, and when the tasks of these keys began."""

from collections.abc import Callable, Sequence
from sqlite3 import Cursor
from typing import Any, Final

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

# That of each key, if there is one, and whether keys have limits of their own: for a SELECT.
OF_QUEUE = """
    CAST(at_once AS INTEGER), CAST(starts AS INTEGER), CAST(span AS INTEGER), each.key,
    EXISTS (SELECT 1 FROM key_limit WHERE queue = :queue AND key <> '*')
    FROM (SELECT 1) LEFT JOIN key_limit AS each ON each.queue = :queue AND each.key = '*'
"""

SET_LIMIT = "REPLACE INTO key_limit (queue, key, at_once, starts, span) VALUES (?, ?, ?, ?, ?)"

REMOVE_LIMIT = "DELETE FROM key_limit WHERE queue = ? AND key = ?"

# Leases from before the first limit count, too.
COUNT_LEASES = """
    UPDATE task SET is_limited = 1 WHERE queue = ? AND state = 'leased' AND NOT is_limited
"""

OPEN = "UPDATE line SET until = 0 WHERE queue = ? AND until > 0 AND ? IN (key, '*')"

# What `KeyLimits` has to know of the key of a line, and where it is from.
_USED = """,
    (
        SELECT count(*) FROM task
        WHERE queue = :queue AND limit_key = line.key AND state = 'leased' AND is_limited
    ),
    (SELECT min(number) FROM key_begun WHERE queue = :queue AND key = line.key),
    (SELECT max(number) FROM key_begun WHERE queue = :queue AND key = line.key)
"""
LIMITED_EACH = (f", NULL, NULL, NULL, NULL{_USED}", "")
LIMITED = (
    f"""
        , own.key, CAST(at_once AS INTEGER), CAST(starts AS INTEGER), CAST(span AS INTEGER){_USED}
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

BEGIN = "INSERT INTO key_begun (queue, key, number, at, span) VALUES (?, ?, ?, ?, ?)"

SWEEP_EACH: Final = 16
"""About once in so many starts, a step forgets old starts of any key."""

LOOK_AT: Final = 3
"""For each new start, it looks at so many: more than are added, but few enough that other writers need
not wait."""

SWEPT = "SELECT swept_queue, swept_key, swept_number FROM clock"

SET_SWEPT = "UPDATE clock SET swept_queue = ?, swept_key = ?, swept_number = ?"

END_OF_SWEEP = """
    SELECT queue, key, number FROM key_begun WHERE (queue, key, number) > (?, ?, ?)
    ORDER BY queue, key, number LIMIT 1 OFFSET ?
"""

FORGET_STARTS = """
    DELETE FROM key_begun WHERE (queue, key, number) > (?, ?, ?) AND at + span <= ?
"""

UP_TO = " AND (queue, key, number) <= (?, ?, ?)"


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
            self._starts.append((self._name, key, number, self._now, span))

    def end(self, write: int) -> None:
        """Write what is not written yet; *write* is the number of the write."""
        if self._starts:
            self._executemany(BEGIN, self._starts)
            # The number of a write is as good as a random one.
            if write % SWEEP_EACH < len(self._starts):
                self._sweep(LOOK_AT * max(SWEEP_EACH, len(self._starts)))

    def _sweep(self, many: int) -> None:
        """Look at the next *many* starts, of any queue, and forget those that count no longer."""
        last = self._execute(SWEPT).fetchone()
        end = self._execute(END_OF_SWEEP, (*last, many - 1)).fetchone()
        if end is None:  # the next sweep starts at the first row
            self._execute(FORGET_STARTS, (*last, self._now))
        else:
            self._execute(FORGET_STARTS + UP_TO, (*last, self._now, *end))
        self._execute(SET_SWEPT, end or ("", "", 0))
