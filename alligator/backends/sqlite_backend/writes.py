"""Write transactions: what a call of the client changes in the tables."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from math import inf
from sqlite3 import Connection, Cursor
from typing import Final, NamedTuple

from ...constants import COMMIT_MEMORY, LEASED, READY, SCHEDULED
from ...exceptions import BackendError
from ..base import Canceled, Commit, Duplicates, Figures, Lease, Limit, Message, Outcome, memory_of
from ..unique import read_duplicates, write_duplicates
from . import batches, key_limits, keys, limits, replaced
from . import schema as sql
from .clock import is_set_back, micros, now
from .lines import TOKEN_BASE, Turns

SWEEP: Final = 250
"""How many tasks one step reclaims or makes ready at most, because other writers wait meanwhile."""

_Row = tuple[str, str, str, int, str, int, str | None]
"""Queue, id, state, due, data, priority, limit key."""

_Known = tuple[int, int, str, int | None]
"""What is remembered of a commit: after, last, duplicates, batch."""


class _InUse(NamedTuple):
    """What any task, commit, queue or key has."""

    keys: bool
    batches: bool
    limits: bool


class WriteTransaction:
    """One write to the tables: its time, its number, and how it changes the counts of queues."""

    def __init__(self, connection: Connection) -> None:
        self.execute: Callable[..., Cursor] = connection.execute
        self._executemany = connection.executemany
        self.wakes: bool = False
        """Whether waiting workers have a new task to look for."""
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._turns: dict[str, Sequence[str | None]] = {}
        """The keys that had the last turns of queues, where these have changed."""
        last, number = self.execute(sql.CLOCK).fetchone()
        self.now: int = now()
        # At least the time, so that numbers of a new file are above those of a deleted one.
        self.number: int = max(number + 1, self.now)
        if is_set_back(self.now, last):
            # Shift all times with the clock, or leases and delays would last longer by that much.
            for statement in sql.SHIFT:
                self.execute(statement, {"by": last - self.now})
        else:
            self.now = max(self.now, last)
        self.execute(sql.SET_CLOCK, (self.now, self.number))

    def count(self, queue_name: str, **changes: int) -> None:
        """Record by how much the counts of a queue change."""
        self._counts[queue_name].update(changes)
        self.wakes = self.wakes or changes.get("ready", 0) > 0 or changes.get("scheduled", 0) > 0
        if changes.get("leased", 0) < 0 and not self.wakes:
            self.wakes = self._in_use.limits  # a place may be free

    def save_counts(self) -> None:
        for name, by in self._counts.items():
            turns = self._turns.get(name, ())
            numbers = [by[count] for count in sql.COUNTS]
            self.execute(sql.COUNT_AND_TURN if turns else sql.COUNT, (name, *numbers, *turns))

    # Push.

    def push(self, commit: Commit) -> Duplicates | None:
        commit_id = commit.commit_id
        if commit_id is not None and (row := self._find_commit(commit_id, commit.undo)):
            return read_duplicates(row[2])
        (after,) = self.execute(sql.LAST_SEQ).fetchone()
        duplicates = self._push(commit.messages, after)
        batch = batches.begin(self.execute, self.count, commit.messages, after, self.now)
        if commit_id is not None:
            (last,) = self.execute(sql.LAST_SEQ).fetchone()
            memory = COMMIT_MEMORY if commit.undo else memory_of(commit_id)
            self._remember(commit_id, after, last, duplicates or (), memory=memory, batch=batch)
        return duplicates

    def _push(self, messages: Sequence[Message], after: int) -> Duplicates | None:
        # The first of two messages with one id counts. Batches change the order, so find it here.
        first: dict[tuple[str, str], int] = {}
        batches: defaultdict[tuple[str, str], list[_Row]] = defaultdict(list)
        duplicates: list[int] = []
        for place, message in enumerate(messages):
            name, task_id, data, delay, level, unique, follows, key = message
            if follows:
                continue
            if unique is not None:
                return keys.push_each(self.execute, self.count, messages, self.now)
            if first.setdefault((name, task_id), place) != place:
                duplicates.append(place)
                continue
            due = self.now + micros(delay)
            state = SCHEDULED if due > self.now else READY
            batches[name, state].append((name, task_id, state, due, data, level, key))
        for (name, state), rows in batches.items():
            known = self._insert(rows, after)
            duplicates += [first[name, task_id] for task_id in known]
            new = len(rows) - len(known)
            self.count(name, **{"pushed": new, state: new})
        return sorted(duplicates) or None

    def _insert(self, rows: "list[_Row]", after: int) -> Sequence[str]:
        """Add *rows* of one queue and state; return the ids that are waiting already."""
        known: list[str] = []
        if self._has_aliases:
            known = [
                row[1] for row in rows if self.execute(sql.FIND_WAITING_ALIAS, row[:2]).fetchone()
            ]
            rows = [row for row in rows if row[1] not in known]
        if not rows or self._executemany(sql.PUSH, rows).rowcount == len(rows):
            return known
        # Some ids are taken. Undo, and insert one by one, so that the tasks keep their order.
        self.execute(sql.UNDO_PUSH, (after, rows[0][0], rows[0][2]))
        for row in rows:
            found = self.execute(sql.FIND_ID, row[:2]).fetchone()
            if found is not None and found[1] in (READY, SCHEDULED):
                known.append(row[1])
                continue
            if found is not None:
                self.execute(sql.GIVE_ALIAS, found[:1])
            self.execute(sql.PUSH, row)
        return known

    @cached_property
    def _has_aliases(self) -> bool:
        return bool(self.execute(sql.HAS_ALIASES).fetchone()[0])

    def _find_commit(self, commit_id: str, undo: bool) -> "_Known | None":
        """Return the record of a commit, if it was pushed before; raise if it was aborted.

        The abort of an id that somebody chose (*undo* False) is ignored.
        """
        row: _Known | None = self.execute(sql.FIND_COMMIT, (commit_id,)).fetchone()
        if row is not None and row[:2] == (0, 0):
            if undo:
                raise BackendError(f"commit {commit_id} was aborted; its tasks are not queued")
            return None
        return row

    def _remember(
        self,
        commit_id: str,
        after: int,
        last: int,
        duplicates: Duplicates = (),
        *,
        memory: float = COMMIT_MEMORY,
        batch: int | None = None,
    ) -> None:
        places = write_duplicates(duplicates)
        # An id that is remembered for longer counts as newer, so that one index serves all.
        at = self.now if memory == COMMIT_MEMORY else self.now + micros(memory - COMMIT_MEMORY)
        self.execute(sql.REMEMBER_COMMIT, (commit_id, at, after, last, places, batch))
        # A few at a time: more than are added, but few enough that a push is not delayed.
        self.execute(sql.FORGET_COMMITS, (self.now - micros(COMMIT_MEMORY),))

    def abort(self, commit_id: str) -> None:
        after, last, _, batch = self.execute(sql.FIND_COMMIT, (commit_id,)).fetchone() or (0,) * 4
        if batch:
            batches.abort(self.execute, self.count, batch)
        replaced.abort(self.execute, self.count, after, last)
        for seq, queue_name, state in self.execute(sql.FIND_PUSHED, (after, last)).fetchall():
            self.execute(sql.DELETE, (seq,))
            self.count(queue_name, **{"pushed": -1, state: -1})
            replaced.restore(self.execute, self.count, seq, self.now)
        self._remember(commit_id, 0, 0)

    # Apply outcomes and reserve.

    def apply(self, outcomes: Sequence[Outcome]) -> None:
        done: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for outcome in outcomes:
            if outcome.verdict == "ack":
                done[outcome.lease.queue_name].append(divmod(outcome.lease.token, TOKEN_BASE))
            else:
                self._end_lease(outcome)
        for name, runs in done.items():
            self._ack(name, runs)

    def _ack(self, name: str, runs: Sequence[tuple[int, int]]) -> None:
        """Delete finished tasks, also those that are waiting again or dead since their lease ended."""
        if self._in_use.keys:
            keys.keep(self._executemany, runs, self.now)
        if self._in_use.batches:
            batches.settle_done(self.execute, self.count, runs, self.now)
        deleted = self._executemany(sql.DELETE_LEASED, runs).rowcount
        self.count(name, succeeded=deleted, leased=-deleted)
        if deleted == len(runs):
            return
        for seq, number in runs:
            row = self.execute(sql.FIND, (seq,)).fetchone()
            # A lower token means that the lease is from an older, deleted file of this path.
            if row is not None and row[2] >= number:
                self.execute(sql.DELETE, (seq,))
                self.count(name, **{"succeeded": 1, row[0]: -1})

    def _end_lease(self, outcome: Outcome) -> None:
        verdict, (name, _, _, lease_token, *_), delay, data, reason, traceback = outcome
        seq, number = divmod(lease_token, TOKEN_BASE)
        row = self.execute(sql.FIND, (seq,)).fetchone()
        if row is None:
            return
        state, due, token, lost = row
        if (state, token) != (LEASED, number):
            return
        if verdict in ("dead", "expired"):
            self._settle_dead(seq)
            self.execute(sql.MAKE_DEAD, (self.now, lost, reason, traceback, data, seq))
            why = "expired" if verdict == "expired" else "failed"
            self.count(name, **{"leased": -1, "dead": 1, "died": 1, why: 1})
        elif verdict == "retry":
            self._put_back(name, seq, self.now + micros(delay), lost, data)
            self.count(name, leased=-1, failed=1, retried=1)
        else:
            due = self.now + micros(delay) if delay > 0 else due
            self._put_back(name, seq, due, lost, data)
            self.count(name, leased=-1)

    @cached_property
    def _in_use(self) -> _InUse:
        return _InUse(*map(bool, self.execute(sql.IN_USE).fetchone()))

    def _settle_dead(self, seq: int) -> None:
        """Count a task that did not succeed as settled the first time, if it belongs to a batch."""
        if self._in_use.batches and (batch := batches.leave(self.execute, seq)):
            batches.settle(self.execute, self.count, batch, self.now, is_dead=True)

    def reclaim(self, name: str, max_lost: int) -> None:
        expired = self.execute(sql.FIND_EXPIRED, (name, self.now, SWEEP)).fetchall()
        for seq, before, alone in expired:
            self.count(name, leased=-1, lost=1)
            lost = before + alone
            if alone and lost >= max_lost:
                reason = f"lost {lost} times: its worker died or froze while it ran"
                self._settle_dead(seq)
                self.execute(sql.MAKE_DEAD, (self.now, lost, reason, "", None, seq))
                self.count(name, dead=1, died=1)
            else:
                # To the end of the queue, because it may be the task that kills its workers.
                self._put_back(name, seq, self.now, lost, suspect=True)

    def bound_dead(self, limit: int | None, seconds: float) -> None:
        """Drop the oldest dead letters of queues that got new ones: at most two for each new one."""
        for name, changes in list(self._counts.items()):
            added = changes["dead"]
            if added <= 0:
                continue
            params = {"queue": name, "most": 2 * added}
            dropped = 0
            for seq, at, before in self.execute(sql.FIND_OLDEST_DEAD, params).fetchall():
                excess = 0 if limit is None else (before or 0) + added - limit
                if dropped < excess or at + micros(seconds) < self.now:
                    self.execute(sql.DELETE, (seq,))
                    dropped += 1
            self.count(name, dead=-dropped, dropped=dropped)

    def reserve(self, names: Sequence[str], limit: int, lease_for: float) -> list[Lease]:
        leases: list[Lease] = []
        found: list[tuple[str, int, Turns]] = []
        lease_until = self.now + micros(lease_for)
        for name in names:
            held = self.execute(sql.HELD_BACK, {"queue": name, "now": self.now}).fetchone()
            until, is_limited, has_due, *last = held or (0, False, True, None, None, None)
            if is_limited:
                until = max(until, limits.begins(self.execute, name, self.now))
            if until > self.now:
                continue
            room = min(limit - len(leases), 1 if is_limited else limit)
            # Make ready at least as many as are reserved. Otherwise a task that was due later could
            # be reserved before one that was due earlier.
            params = {"queue": name, "now": self.now, "limit": max(room, SWEEP)}
            due = self.execute(sql.MAKE_READY, params).rowcount if has_due else 0
            turns = Turns(
                *(self.execute, self._executemany, name, room),
                *(last, self.now, lease_until, self.number),
            )
            may_continue = turns.reserve(room, leases)
            if is_limited and turns.taken:
                limits.begin(self.execute, name, self.now)
            # Those that wait have to know when the next one may begin.
            self.wakes = self.wakes or turns.wakes or (is_limited and bool(turns.taken))
            found.append((name, due, turns))
            if not may_continue:
                break
        for name, due, turns in found:
            turns.end(is_alone=len(leases) == 1)
            if turns.last:
                self._turns[name] = turns.last
            if due or turns.taken:
                changes = {"scheduled": -due, "ready": due - turns.taken, "leased": turns.taken}
                self.count(name, **changes)
        return leases

    def lease(self, name: str, task_id: str, lease_for: float) -> Lease | None:
        row = self.execute(sql.FIND_WAITING, {"queue": name, "id": task_id}).fetchone()
        if row is None:
            return None
        seq, state, data, lost = row
        self.execute(sql.TAKE, (self.now + micros(lease_for), self.number, seq))
        self.count(name, **{state: -1, "leased": 1})
        return Lease(name, task_id, data, seq * TOKEN_BASE + self.number, lost)

    def extend(self, lease: Lease, lease_for: float) -> bool:
        """Extend *lease*; return False if it is lost."""
        until = self.now + micros(lease_for)
        return self.execute(sql.EXTEND, (until, *divmod(lease.token, TOKEN_BASE))).rowcount == 1

    def _put_back(
        self,
        name: str,
        seq: int,
        due: int,
        lost: int,
        data: str | None = None,
        suspect: bool | None = None,
    ) -> None:
        state = SCHEDULED if due > self.now else READY
        values = {"state": state, "due": due, "lost": lost, "data": data, "suspect": suspect}
        self.execute(sql.PUT_BACK, {**values, "seq": seq})
        self.count(name, **{state: 1})

    # Operator commands.

    def pause(self, name: str, seconds: float) -> None:
        until = sql.NO_END if seconds == inf else self.now + micros(seconds) if seconds > 0 else 0
        self.execute(sql.COUNT, (name, *([0] * len(sql.COUNTS))))
        self.execute(sql.PAUSE, (until, name))
        self.wakes = True

    def limit(self, name: str, limit: Limit | None, key: str | None) -> None:
        self.execute(sql.COUNT, (name, *([0] * len(sql.COUNTS))))
        if key is None:
            limits.set_limit(self.execute, name, limit)
        else:
            key_limits.set_limit(self.execute, name, limit, key)
        self.wakes = True

    def cancel(self, name: str, task_id: str) -> Canceled | None:
        which = {"queue": name, "id": task_id}
        row = self.execute(sql.FIND_WAITING, which).fetchone()
        row = row or self.execute(sql.FIND_LAST_LEASED, which).fetchone()
        if row is None:
            return None
        seq, state, data, token = row
        self._settle_dead(seq)
        self.execute(sql.DELETE, (seq,))
        self.count(name, **{state: -1, "canceled": 1})
        if state == LEASED:
            self._remember(f"canceled {seq * TOKEN_BASE + token}", 0, 0)
        return Canceled(str(data), state == LEASED)

    def drop_all(self, name: str) -> None:
        settled = self.execute(batches.WAITING, (name,)).fetchall() if self._in_use.batches else ()
        for state in (READY, SCHEDULED):
            dropped = self.execute(sql.DROP_ALL, (name, state)).rowcount
            self.count(name, **{state: -dropped, "dropped": dropped})
        for (batch,) in settled:
            batches.settle(self.execute, self.count, batch, self.now, is_dead=True)

    def retry_dead(self, name: str, task_id: str) -> bool:
        seq = self._find_dead(name, task_id)
        if seq is None:
            return False
        self.count(name, dead=-1)
        self._put_back(name, seq, self.now, lost=0, suspect=False)
        return True

    def drop_dead(self, name: str, task_id: str) -> bool:
        seq = self._find_dead(name, task_id)
        if seq is None:
            return False
        self.execute(sql.DELETE, (seq,))
        self.count(name, dead=-1, dropped=1)
        return True

    def _find_dead(self, name: str, task_id: str) -> int | None:
        row = self.execute(sql.FIND_DEAD, {"queue": name, "id": task_id}).fetchone()
        return None if row is None else int(row[0])

    # Figures.

    def note(self, figures: Figures, report_id: str | None) -> None:
        """Add *figures* to the stored ones, once for each report."""
        if report_id is not None:
            marker = f"report {report_id}"
            if self.execute(sql.FIND_COMMIT, (marker,)).fetchone() is not None:
                return
            self._remember(marker, 0, 0)
        rows = [(q, name, n) for q, numbers in figures.items() for name, n in numbers.items()]
        self._executemany(sql.NOTE, rows)
