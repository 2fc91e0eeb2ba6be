"""Take a turn at writing to the tables: what happens to tasks between two commits."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from sqlite3 import Connection, Cursor
from time import time
from typing import Final

from ..constants import COMMIT_MEMORY, LEASED, READY, SCHEDULED
from ..exceptions import BackendError
from . import sqlite_tables as sql
from .base import Figures, Lease, Message, Outcome, QueueStats
from .figures import SAMPLE_SECONDS, SAMPLES

SECOND: Final = 1_000_000
"""Moments in the file are whole microseconds since 1970."""

GAP: Final = SAMPLE_SECONDS * SECOND
"""How far apart two samples of a queue are."""

SWEEP: Final = 250
"""How many tasks one step reclaims or finds due, at most, for others wait until it is done."""


def now() -> int:
    """Tell the time in microseconds since 1970."""
    return int(time() * SECOND)


def micros(seconds: float) -> int:
    """Turn seconds into microseconds."""
    return round(max(0, seconds) * SECOND)


def is_set_back(moment: int, last: int) -> bool:
    """Whether the clock, at *moment*, was set back since *last* by more than it drifts."""
    return moment < last - SECOND


class Turn:
    """One write: its moment, its number, and what it changes in the counts."""

    def __init__(self, connection: Connection) -> None:
        self.execute: Callable[..., Cursor] = connection.execute
        self._executemany = connection.executemany
        self.wakes: bool = False
        """Whether there is something for those who sleep to look at."""
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        last, number = self.execute(sql.CLOCK).fetchone()
        self.now: int = now()
        self.number: int = number + 1
        if is_set_back(self.now, last):
            # All moments move with the clock, or leases and delays would last longer by as much.
            for statement in sql.SHIFT:
                self.execute(statement, {"by": last - self.now})
        else:
            self.now = max(self.now, last)
        self.execute(sql.SET_CLOCK, (self.now, self.number))

    def count(self, queue_name: str, **changes: int) -> None:
        """Note by how much the counts of a queue change."""
        self._counts[queue_name].update(changes)
        self.wakes = self.wakes or changes.get("ready", 0) > 0 or changes.get("scheduled", 0) > 0

    def finish(self) -> None:
        rows = [(name, *(by[count] for count in sql.COUNTS)) for name, by in self._counts.items()]
        self._executemany(sql.COUNT, rows)

    # Tasks come.

    def push(self, messages: Sequence[Message], commit_id: str | None) -> None:
        if commit_id is None:
            self._push(messages)
        elif not self._is_known(commit_id):
            (after,) = self.execute(sql.LAST_SEQ).fetchone()
            self._push(messages)
            (last,) = self.execute(sql.LAST_SEQ).fetchone()
            self._remember(commit_id, after, last)

    def _push(self, messages: Sequence[Message]) -> None:
        # Of two with one id the first counts, though the batches do not come in order.
        first: dict[tuple[str, str], Message] = {}
        for message in messages:
            first.setdefault((message.queue_name, message.task_id), message)
        batches: defaultdict[tuple[str, str], list[tuple[object, ...]]] = defaultdict(list)
        for name, task_id, data, delay in first.values():
            due = self.now + micros(delay)
            state = SCHEDULED if due > self.now else READY
            batches[name, state].append((name, task_id, state, due, due, data))
        for (name, state), rows in batches.items():
            new = self._executemany(sql.PUSH, rows).rowcount
            self.count(name, **{"pushed": new, state: new})

    def _is_known(self, commit_id: str) -> bool:
        row = self.execute(sql.FIND_COMMIT, (commit_id,)).fetchone()
        if row == (0, 0):
            raise BackendError(f"The commit {commit_id} was given up: its tasks are not queued.")
        return row is not None

    def _remember(self, commit_id: str, after: int, last: int) -> None:
        self.execute(sql.REMEMBER_COMMIT, (commit_id, self.now, after, last))
        # A few at a time: more than are added, and never so many that a push is late.
        self.execute(sql.FORGET_COMMITS, (self.now - micros(COMMIT_MEMORY),))

    def abort(self, commit_id: str) -> None:
        span = self.execute(sql.FIND_COMMIT, (commit_id,)).fetchone() or (0, 0)
        for seq, queue_name, state in self.execute(sql.FIND_PUSHED, span).fetchall():
            self.execute(sql.DELETE, (seq,))
            self.count(queue_name, **{"pushed": -1, state: -1})
        self._remember(commit_id, 0, 0)

    # Tasks are worked on.

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        done: defaultdict[str, list[str]] = defaultdict(list)
        for outcome in outcomes:
            if outcome.verdict == "ack":
                done[outcome.lease.queue_name].append(outcome.lease.task_id)
            else:
                self._end_lease(outcome)
        for name, ids in done.items():
            self._finish(name, ids)

    def _finish(self, name: str, ids: Sequence[str]) -> None:
        """Take tasks away whose work is done, whoever has them by now."""
        gone = self._executemany(sql.DELETE_LEASED, [(name, task_id) for task_id in ids]).rowcount
        self.count(name, succeeded=gone, leased=-gone)
        if gone == len(ids):
            return
        for task_id in ids:
            row = self.execute(sql.FIND, (name, task_id)).fetchone()
            if row is not None:
                self.execute(sql.DELETE, row[:1])
                self.count(name, **{"succeeded": 1, row[1]: -1})

    def _end_lease(self, outcome: Outcome) -> None:
        verdict, (name, task_id, _, lease_token, *_), delay, data, reason, traceback = outcome
        row = self.execute(sql.FIND, (name, task_id)).fetchone()
        if row is None:
            return
        seq, state, due, token, lost = row
        if (state, token) != (LEASED, lease_token):
            return
        if verdict == "dead":
            self.execute(sql.BURY, (self.now, lost, reason, traceback, data, seq))
            self.count(name, leased=-1, dead=1, failed=1, died=1)
        elif verdict == "retry":
            self._put_back(name, seq, self.now + micros(delay), lost, data)
            self.count(name, leased=-1, failed=1, retried=1)
        else:
            self._put_back(name, seq, due, lost, data)
            self.count(name, leased=-1)

    def reclaim(self, name: str, max_lost: int) -> None:
        for seq, lost in self.execute(sql.FIND_EXPIRED, (name, self.now, SWEEP)).fetchall():
            self.count(name, leased=-1, lost=1)
            if lost < max_lost:
                # To the end of the queue, for it may be what kills the workers.
                self._put_back(name, seq, self.now, lost)
            else:
                reason = f"lost {lost} times: its worker died or froze while it ran"
                self.execute(sql.BURY, (self.now, lost, reason, "", None, seq))
                self.count(name, dead=1, died=1)

    def bound_dead(self, limit: int, seconds: float) -> None:
        """Drop the oldest of the dead where some have come: two for one, so they become fewer."""
        for name, changes in list(self._counts.items()):
            came = changes["dead"]
            if came <= 0:
                continue
            question = {"queue": name, "most": 2 * came}
            dropped = 0
            for seq, at, before in self.execute(sql.FIND_OLDEST_DEAD, question).fetchall():
                spare = (before or 0) + came - limit
                if dropped < spare or at + micros(seconds) < self.now:
                    self.execute(sql.DELETE, (seq,))
                    dropped += 1
            self.count(name, dead=-dropped, dropped=dropped)

    def reserve(self, name: str, limit: int, lease_for: float) -> list[Lease]:
        # At least as many as are reserved, or one due later could go before one due earlier.
        due = self.execute(sql.FIND_DUE, (name, self.now, max(limit, SWEEP))).rowcount
        rows = self.execute(sql.FIND_READY, (name, limit)).fetchall()
        self.execute(sql.TAKE_READY, (self.now + micros(lease_for), self.number, name, limit))
        if due or rows:
            self.count(name, scheduled=-due, ready=due - len(rows), leased=len(rows))
        return [
            Lease(name, task_id, data, self.number, lost, (self.now - at) / SECOND)
            for task_id, data, lost, at in rows
        ]

    def lease(self, name: str, task_id: str, lease_for: float) -> Lease | None:
        row = self.execute(sql.FIND_WAITING, (name, task_id)).fetchone()
        if row is None:
            return None
        seq, state, data, lost = row
        self.execute(sql.TAKE, (self.now + micros(lease_for), self.number, seq))
        self.count(name, **{state: -1, "leased": 1})
        return Lease(name, task_id, data, self.number, lost)

    def extend(self, lease: Lease, lease_for: float) -> bool:
        """Lengthen *lease*; False if it is lost."""
        key = lease.queue_name, lease.task_id, lease.token
        return self.execute(sql.EXTEND, (self.now + micros(lease_for), *key)).rowcount == 1

    def _put_back(self, name: str, seq: int, due: int, lost: int, data: str | None = None) -> None:
        state = SCHEDULED if due > self.now else READY
        self.execute(sql.PUT_BACK, (state, due, due, lost, data, seq))
        self.count(name, **{state: 1})

    # Tasks go, and come back.

    def cancel(self, name: str, task_id: str) -> str | None:
        row = self.execute(sql.FIND_WAITING, (name, task_id)).fetchone()
        if row is None:
            return None
        seq, state, data, _ = row
        self.execute(sql.DELETE, (seq,))
        self.count(name, **{state: -1, "canceled": 1})
        return str(data)

    def drop_all(self, name: str) -> None:
        for state in (READY, SCHEDULED):
            gone = self.execute(sql.DROP_ALL, (name, state)).rowcount
            self.count(name, **{state: -gone, "dropped": gone})

    def retry_dead(self, name: str, task_id: str) -> bool:
        seq = self._find_dead(name, task_id)
        if seq is None:
            return False
        self.count(name, dead=-1)
        self._put_back(name, seq, self.now, lost=0)
        return True

    def drop_dead(self, name: str, task_id: str) -> bool:
        seq = self._find_dead(name, task_id)
        if seq is None:
            return False
        self.execute(sql.DELETE, (seq,))
        self.count(name, dead=-1, dropped=1)
        return True

    def _find_dead(self, name: str, task_id: str) -> int | None:
        row = self.execute(sql.FIND, (name, task_id)).fetchone()
        return row[0] if row and row[1] == "dead" else None

    # How things are.

    def note(self, figures: Figures) -> None:
        """Add *figures* to those that are kept."""
        rows = [(q, name, n) for q, numbers in figures.items() for name, n in numbers.items()]
        self._executemany(sql.NOTE, rows)

    def sample(self, name: str) -> None:
        """Take a sample of the queue, unless there is one of these ten seconds."""
        place = self.now // GAP % SAMPLES
        (last,) = self.execute(sql.FIND_SAMPLE, (name, place)).fetchone() or (0,)
        if 0 <= self.now - last < GAP:
            return
        stats = measure(self.execute, name, self.now)
        figures = (getattr(stats, column) for column in sql.SAMPLED)
        self.execute(sql.SAMPLE, (name, place, self.now, *figures))


def measure(execute: Callable[..., Cursor], name: str, moment: int) -> QueueStats:
    """Measure a queue as it is at *moment*."""
    row = execute(sql.STATS, {"queue": name, "now": moment}).fetchone()
    if row is None:
        return QueueStats()
    *counts, due, oldest = row
    found = dict(zip(sql.COUNTS, counts, strict=True))
    # No step has found them yet, but their time has come.
    found["ready"] += due
    found["scheduled"] -= due
    return QueueStats(**found, oldest=max(0, moment - oldest) / SECOND)
