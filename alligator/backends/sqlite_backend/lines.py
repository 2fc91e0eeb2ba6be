"""The lines of a queue in a SQLite file, and whose turn it is: see `alligator.backends.limits`.

The lines of a priority are a circle, in the order of their keys, and each step continues where the last
one has ended. So a turn changes nothing but the task, and the tasks of a step are close together.

Triggers of the tables add a line with its first ready task, and open those of a key when a lease of it
ends, whichever statement changes the task. A line without tasks is removed when its turn comes.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from sqlite3 import Cursor
from typing import Any, Final

from ...constants import LEVELS
from ..base import Lease
from . import key_limits
from . import schema as sql
from .clock import SECOND

Execute = Callable[..., Cursor]

Row = tuple[int, str, str, int, int, bool, int]
"""Row number, id, data, how often it was lost, when it was due, whether it is a suspect, its rank."""

TOKEN_BASE: Final = 2**64
"""A lease's token is the row number of its task times this, plus the number of the write."""

MOST_LINES: Final = 250
"""How many lines that give no task one step looks at, because other writers wait meanwhile."""

PLAIN: Final = ""
"""In place of a key: the tasks without one, which have turns like one line."""

RANKS: Final = [-level for level in LEVELS.values()]
"""The negative priorities."""

FIRST = f"""
    SELECT (SELECT min(rank) FROM line WHERE queue = :queue AND until = 0),
        (SELECT min(until) FROM line WHERE queue = :queue AND until > 0),
        {key_limits.OF_QUEUE}
"""  # noqa: S608 - our own text

NEXT_RANK = "SELECT min(rank) FROM line WHERE queue = ? AND until = 0 AND rank > ?"

OPEN_IN_TIME = "UPDATE line SET until = 0 WHERE queue = ? AND until > 0 AND until <= ?"

_IN_LINE = f"""
    FROM task WHERE queue = :queue AND limit_key = {{}} AND state = 'ready'
        AND at >= {sql.IN_LINE} + :rank * {sql.LEVEL}
        AND at < {sql.IN_LINE} + (:rank + 1) * {sql.LEVEL}
    ORDER BY at, seq
"""

# The lines whose turns are next, each with its first task.
LINES = f"""
    SELECT line.key, {sql.TASK} {{}} FROM (
        SELECT * FROM (
            SELECT key FROM line WHERE queue = :queue AND until = 0 AND rank = :rank AND key > :last
            ORDER BY key LIMIT :most
        ) UNION ALL SELECT * FROM (
            SELECT key FROM line WHERE queue = :queue AND until = 0 AND rank = :rank AND key <= :last
            ORDER BY key LIMIT :most
        ) LIMIT :most
    ) AS line LEFT JOIN task ON seq = (SELECT seq {_IN_LINE.format("line.key")} LIMIT 1) {{}}
"""  # noqa: S608 - our own numbers

UNLIMITED = LINES.format("", "")
LIMITED = LINES.format(*key_limits.LIMITED)
LIMITED_EACH = LINES.format(*key_limits.LIMITED_EACH)

IN_LINE = f"SELECT {sql.TASK} {_IN_LINE.format(':key')} LIMIT :most OFFSET :taken"

TAKE = """
    UPDATE task SET state = 'leased', at = ?, token = ?, alone = ?, is_limited = ? WHERE seq = ?
"""

AT_ONCE: Final = 10
"""So many tasks are taken by one statement: it is faster than one for each."""

TAKE_MANY = TAKE.replace("seq = ?", f"seq IN ({', '.join('?' * AT_ONCE)})")

REMOVE = "DELETE FROM line WHERE queue = :queue AND key = :key AND rank = :rank"


class Line:
    """What a step knows of a line."""

    __slots__ = ("key", "rows", "taken", "used")

    def __init__(self, key: str, rows: list[Row], used: Sequence[Any] = ()) -> None:
        self.key: str = key
        self.rows: list[Row] = rows
        """Its next tasks, in reverse."""
        self.taken: int = 0
        """How many were taken."""
        self.used: Sequence[Any] = used
        """What `KeyLimits` has to know of its key."""


class Turns:
    """Whose turn it is in one step, in a queue.

    *last* are the keys that had the last turns, of each rank; *until* is the end of the leases, *number*
    theirs.
    """

    def __init__(
        self,
        execute: Execute,
        executemany: Execute,
        name: str,
        most: int,
        last: Sequence[str | None],
        now: int,
        until: int,
        number: int,
    ) -> None:
        self.taken: int = 0
        """How many tasks were taken."""
        self._execute, self._executemany, self._name = execute, executemany, name
        self._most, self._now, self._lease = most, now, (until, number)
        self._plain: deque[Row] = deque(execute(sql.FIND_READY, (name, most)).fetchall())
        self._plain_taken = 0
        self._rows: list[int] = []
        """The row numbers of the tasks with a key that were taken."""
        self._written = 0
        """How many of these rows are written."""
        self._last: dict[int, str | None] = dict(zip(RANKS, last, strict=True))
        self._has_turned = False
        self._looked_at = 0
        """How many lines gave no task."""
        self._limits: key_limits.KeyLimits | None = None
        self._find = UNLIMITED
        self._rank, opens, *each, key, has_own = execute(FIRST, {"queue": name}).fetchone()
        if opens is not None and opens <= now:
            execute(OPEN_IN_TIME, (name, now))
            self._rank = execute(FIRST, {"queue": name}).fetchone()[0]
        if self._rank is not None and (key or has_own):
            self._limits = key_limits.KeyLimits(
                execute, executemany, name, now, tuple(each) if key else None
            )
            self._find = LIMITED if has_own else LIMITED_EACH

    @property
    def wakes(self) -> bool:
        """Whether a key with a limit has begun: those that wait have to know when it may again."""
        return self._limits is not None and bool(self._limits.begun)

    @property
    def last(self) -> Sequence[str | None] | None:
        """The keys that had the last turns, of each rank; None if none had one in this step."""
        return [*self._last.values()] if self._has_turned else None

    def reserve(self, limit: int, leases: list[Lease]) -> bool:
        """Add up to *limit* to *leases*; return whether the step may continue with the next queue.

        A suspect (a task that was lost before) must be leased alone: the step ends after it when
        nothing was found before, or else before it.
        """
        for line, row in self._turns() if limit else ():
            seq, task_id, data, lost, due, is_suspect, rank = row
            if is_suspect and leases:
                return False
            self.taken += 1
            if line is None or line.key == PLAIN:
                self._plain_taken += 1
            else:
                self._rows.append(seq)
            if line is not None:
                line.taken += 1
                self._last[rank], self._has_turned = line.key, True
                if self._limits is not None:
                    self._limits.begin(line.key)
            waited = (self._now - due) / SECOND
            token = seq * TOKEN_BASE + self._lease[1]
            leases.append(Lease(self._name, task_id, data, token, lost, waited))
            if is_suspect:
                return False
            if self.taken == limit:
                break
        return True

    def _turns(self) -> Iterator[tuple[Line | None, Row]]:
        """Yield the tasks in the order of their turns, each with its line, if there are lines.

        Each must be taken before the next one is asked for.
        """
        while self._plain or self._rank is not None:
            if self._rank is None or (self._plain and self._plain[0][-1] < self._rank):
                yield None, self._plain.popleft()
                continue
            yield from self._circle(self._rank)
            if self._looked_at > MOST_LINES:
                return
            (self._rank,) = self._execute(NEXT_RANK, (self._name, self._rank)).fetchone()

    def _circle(self, rank: int) -> Iterator[tuple[Line, Row]]:
        size = 0
        while self._looked_at <= MOST_LINES:
            size = max(self._most - self.taken, 2 * size)
            lines, is_all = self._find_lines(rank, size)
            while lines:
                line = lines.popleft()
                row = line.rows.pop() if line.rows else self._find_next(line, rank, len(lines))
                limits = self._limits
                if row is None or (limits and not limits.lets(line.key, rank, line.used)):
                    self._looked_at += 1
                    continue
                yield line, row
                if is_all and not (limits and line.key in limits.begun):
                    lines.append(line)
            if is_all:
                return
            self._write_taken()  # or their lines would be found with them

    def _find_lines(self, rank: int, most: int) -> tuple[deque[Line], bool]:
        """Return up to *most* lines whose turns are next, and whether these are all.

        That of the tasks without a key is one more.
        """
        last = self._last[rank]
        values = {"queue": self._name, "rank": rank, "last": last or PLAIN, "most": most}
        found = self._execute(self._find, values).fetchall()
        lines = deque(Line(row[0], [] if row[1] is None else [row[1:8]], row[8:]) for row in found)
        place = 0 if last is None else sum(line.key > last for line in lines)
        if place < most:
            lines.insert(place, Line(PLAIN, []))
        return lines, len(found) < most

    def _find_next(self, line: Line, rank: int, others: int) -> Row | None:
        """Return the next task of a line; None if there is none."""
        if line.key == PLAIN:
            is_next = self._plain and self._plain[0][-1] == rank
            return self._plain.popleft() if is_next else None
        which = {"queue": self._name, "key": line.key, "rank": rank}
        if not line.taken:
            self._execute(REMOVE, which)
            return None
        # As many as it will give, if each of the *others* gives as many.
        many = (self._most - self.taken) // (others + 1) + 1
        values = {**which, "taken": line.taken, "most": many}
        line.rows = self._execute(IN_LINE, values).fetchall()[::-1]
        return line.rows.pop() if line.rows else None

    def _write_taken(self, *, is_alone: bool = False) -> None:
        # The only task may be written already, when it was not known yet that it is alone.
        rows = self._rows[0 if is_alone else self._written :]
        self._written = len(self._rows)
        lease = (*self._lease, is_alone, self._limits is not None)
        rest = len(rows) % AT_ONCE
        self._executemany(TAKE, [(*lease, seq) for seq in rows[:rest]])
        for start in range(rest, len(rows), AT_ONCE):
            self._execute(TAKE_MANY, (*lease, *rows[start : start + AT_ONCE]))

    def end(self, *, is_alone: bool) -> None:
        """Write what is not written yet; *is_alone* if the step has taken one task in all."""
        if self._plain_taken:
            self._execute(sql.TAKE_READY, (*self._lease, is_alone, self._name, self._plain_taken))
        if self._has_turned:
            self._write_taken(is_alone=is_alone)
        if self._limits is not None:
            self._limits.end(self._lease[1])
