"""The lines of a queue in a SQLite file, and whose turn it is: see `alligator.backends.limits`.

Triggers of the tables add a line with its first ready task, and open those of a key when a lease of it
ends, whichever statement changes the task. A line without tasks is removed when its turn comes.
"""

from collections import deque
from collections.abc import Callable
from sqlite3 import Cursor
from typing import Final

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

# The `until` of a line: 0 if it has turns; the time until when it has none; or one of these two.
PLAIN: Final = -1
"""It is not a line of a key, but has the last turn of the tasks without one."""
RESTS: Final = -2
"""In this step it has no more turns."""

HAS_LINES = "SELECT EXISTS (SELECT 1 FROM line WHERE queue = ? AND until >= 0)"

OPEN_IN_TIME = "UPDATE line SET until = 0 WHERE queue = ? AND until > 0 AND until <= ?"

NEXT_LINE = """
    SELECT rank, turn, key FROM line WHERE queue = ? AND until = 0 ORDER BY rank, turn LIMIT 1
"""

FIRST_IN_LINE = f"""
    SELECT seq, ifnull(alias_of, id), data, lost, due, suspect OR lost > 0, -priority FROM task
    WHERE queue = :queue AND limit_key = :key AND state = 'ready'
        AND at >= {sql.IN_LINE} + :rank * {sql.LEVEL}
        AND at < {sql.IN_LINE} + (:rank + 1) * {sql.LEVEL}
    ORDER BY at, seq LIMIT 1
"""  # noqa: S608 - our own numbers

BLOCK = "UPDATE line SET until = ? WHERE queue = ? AND rank = ? AND key = ?"

REMOVE = "DELETE FROM line WHERE queue = ? AND rank = ? AND key = ?"

LAST_TURN = "SELECT line FROM clock"

SET_LAST_TURN = "UPDATE clock SET line = ?"

TO_THE_END = "UPDATE line SET turn = ? WHERE queue = ? AND rank = ? AND key = ?"

PLAIN_TO_THE_END = f"""
    REPLACE INTO line (turn, queue, rank, key, until) VALUES (?, ?, ?, '', {PLAIN})
"""  # noqa: S608 - our own number

PLAIN_TURN = "SELECT turn FROM line WHERE queue = ? AND rank = ? AND key = ''"

TAKE = "UPDATE task SET state = 'leased', at = ?, token = ?, alone = 0 WHERE seq = ?"

SET_ALONE = "UPDATE task SET alone = 1 WHERE seq = ?"

# The + keeps SQLite from looking at all lines that have turns.
REST = f"UPDATE line SET until = {RESTS} WHERE queue = ? AND key = ? AND +until = 0"  # noqa: S608

END_REST = f"UPDATE line SET until = 0 WHERE queue = ? AND until = {RESTS}"  # noqa: S608


class Turns:
    """Whose turn it is in one step, in a queue. *until* is the end of the leases, *number* theirs."""

    def __init__(
        self, execute: Execute, name: str, most: int, *, now: int, until: int, number: int
    ) -> None:
        self.taken: int = 0
        """How many tasks were taken."""
        self.wakes: bool = False
        """Whether a key with a limit has begun: those that wait have to know when it may again."""
        self._execute, self._name = execute, name
        self._now, self._lease = now, (until, number)
        self._plain: deque[Row] = deque(execute(sql.FIND_READY, (name, most)).fetchall())
        self._plain_taken = 0
        self._has_lines: bool = execute(HAS_LINES, (name,)).fetchone()[0]
        self._line: tuple[int, str] | None = None
        """The rank and key of the line whose turn it is; None for the tasks without a key."""
        self._seq = 0
        """The row number of its task."""
        self._taken_in_line: int | None = None
        """That of the last task with a key that was taken."""
        self._turn = 0
        """The number of the last turn."""
        if self._has_lines:
            execute(OPEN_IN_TIME, (name, now))
            (self._turn,) = execute(LAST_TURN).fetchone()
            self._limits = key_limits.KeyLimits(execute, name, now)

    def reserve(self, limit: int, leases: list[Lease]) -> bool:
        """Add up to *limit* to *leases*; return whether the step may continue with the next queue.

        A suspect (a task that was lost before) must be leased alone: the step ends after it when
        nothing was found before, or else before it.
        """
        while self.taken < limit and (row := self._next()) is not None:
            seq, task_id, data, lost, due, is_suspect, _ = row
            if is_suspect and leases:
                return False
            self._take()
            waited = (self._now - due) / SECOND
            token = seq * TOKEN_BASE + self._lease[1]
            leases.append(Lease(self._name, task_id, data, token, lost, waited))
            if is_suspect:
                return False
        return True

    def _next(self) -> Row | None:
        """Return the task whose turn it is; None if there is none."""
        for _ in range(MOST_LINES if self._has_lines else 0):
            found = self._execute(NEXT_LINE, (self._name,)).fetchone()
            if found is None or self._is_plain_before(*found[:2]):
                break
            rank, _, key = found
            row: Row | None = self._execute(
                FIRST_IN_LINE, {"queue": self._name, "key": key, "rank": rank}
            ).fetchone()
            if row is None:
                self._execute(REMOVE, (self._name, rank, key))
                continue
            until = self._limits.begins(key)
            if until <= self._now:
                self._line, self._seq = (rank, key), row[0]
                return row
            self._execute(BLOCK, (until, self._name, rank, key))
        else:
            if self._has_lines:
                return None
        self._line = None
        return self._plain[0] if self._plain else None

    def _is_plain_before(self, rank: int, turn: int) -> bool:
        if not self._plain:
            return False
        own = self._plain[0][-1]
        if own != rank:
            return own < rank
        (last,) = self._execute(PLAIN_TURN, (self._name, rank)).fetchone() or (0,)
        return bool(last < turn)

    def _take(self) -> None:
        """Take the task that `_next` has returned; its line goes to the end."""
        self.taken += 1
        self._turn += 1
        if self._line is None:
            rank = self._plain.popleft()[-1]
            self._plain_taken += 1
            if self._has_lines:
                self._execute(PLAIN_TO_THE_END, (self._turn, self._name, rank))
            return
        rank, key = self._line
        self._execute(TO_THE_END, (self._turn, self._name, rank, key))
        self._execute(TAKE, (*self._lease, self._seq))
        self._taken_in_line = self._seq
        if self._limits.begin(key):
            self._execute(REST, (self._name, key))
            self.wakes = True

    def end(self, *, is_alone: bool) -> None:
        """Write what is not written yet; *is_alone* if the step has taken one task in all."""
        if self._plain_taken:
            self._execute(sql.TAKE_READY, (*self._lease, is_alone, self._name, self._plain_taken))
        if self._has_lines and self.taken:
            self._execute(END_REST, (self._name,))
            self._execute(SET_LAST_TURN, (self._turn,))
        if is_alone and self._taken_in_line is not None:
            self._execute(SET_ALONE, (self._taken_in_line,))
