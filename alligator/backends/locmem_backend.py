"""Keep tasks in the memory of this process: for development, for tests, for one-process programs.

Nothing outlives the process, and a forked child goes its own way with a copy.
"""

import heapq
import os
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from math import inf
from threading import Condition, Thread, local
from time import monotonic, time
from typing import ClassVar
from weakref import WeakSet, WeakValueDictionary

from ..constants import LEASE_SECONDS, MAX_LOST
from ..exceptions import BackendError
from . import base
from .base import (
    DeadLetter,
    Figures,
    Lease,
    Message,
    Outcome,
    QueueStats,
    Sample,
    Scheduled,
    Step,
    WorkerInfo,
)
from .figures import SAMPLE_SECONDS, SAMPLES

COMMIT_MEMORY = 300.0
"""Seconds for which a commit id is remembered."""


_Turn = tuple[float, int, int, str]
"""When, the rank among its like, the entry's order, and the id."""


@dataclass(slots=True)
class _Entry:
    """A task that is ready, scheduled or leased."""

    data: str
    due: float
    """When it is ready (waiting) or when its lease ends (leased), on the monotonic clock."""
    order: int
    """Its place in its heap; an entry of the heap with another number is stale."""
    place: tuple[float, int] = (0.0, 0)
    """When it was, or will be, ready, and its rank among its like: a release puts it back there."""
    leased: bool = False
    token: int = 0
    lost: int = 0


@dataclass(slots=True)
class _Queue:
    """One queue: what is in it, and two heaps that say what comes next."""

    entries: dict[str, _Entry] = field(default_factory=dict)
    dead: dict[str, tuple[DeadLetter, int]] = field(default_factory=dict)
    """Each with its token: a lease from before its death must not count after it."""
    waiting: list[_Turn] = field(default_factory=list)
    leases: list[_Turn] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)
    samples: deque[tuple[float, QueueStats]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    """Each with when it was taken."""


@dataclass(slots=True)
class _Commit:
    """A commit of the last minutes, and what it has brought."""

    until: float
    pushed: Sequence[tuple[str, str]] = ()
    undone: bool = False


class _Store:
    """What clients of one name share."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.order = count()
        self.queues: dict[str, _Queue] = {}
        self.commits: dict[str, _Commit] = {}
        self.workers: dict[str, tuple[WorkerInfo, float, float]] = {}
        self.interrupts = 0
        _stores.add(self)


_stores: WeakSet[_Store] = WeakSet()


def _unlock() -> None:
    # A thread that stayed with the parent may have been holding it.
    for store in list(_stores):
        store.changed = Condition()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


_shared: WeakValueDictionary[str, _Store] = WeakValueDictionary()


class Client(base.Client):
    """Tasks in memory: ``locmem://`` is one client's own, ``locmem://name`` the process shares."""

    blocking: ClassVar[bool] = False

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        name = conn_string.partition("://")[2]
        self._store = _shared.setdefault(name, _Store()) if name else _Store()
        self._seen = local()

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        now = monotonic()
        with self._store.changed:
            known = self._store.commits.get(commit_id) if commit_id else None
            if known is not None and known.undone:
                raise BackendError(
                    f"The commit {commit_id} was given up: its tasks are not queued."
                )
            if known is not None:
                return
            pushed: list[tuple[str, str]] = []
            for message in messages:
                queue = self._queue(message.queue_name)
                if message.task_id in queue.entries or message.task_id in queue.dead:
                    continue
                queue.counts["pushed"] += 1
                entry = _Entry(message.data, 0.0, 0)
                queue.entries[message.task_id] = entry
                self._put(queue, message.task_id, entry, now + max(0.0, message.delay))
                pushed.append((message.queue_name, message.task_id))
            if commit_id:
                self._remember(commit_id, _Commit(now + COMMIT_MEMORY, pushed))
            self._store.changed.notify_all()

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        with self._store.changed:
            known = self._store.commits.pop(commit_id, None)
            for queue_name, task_id in known.pushed if known is not None else ():
                queue = self._queue(queue_name)
                entry = queue.entries.get(task_id)
                if entry is not None and not entry.leased:
                    del queue.entries[task_id]
                    queue.counts["pushed"] -= 1
            self._remember(commit_id, _Commit(monotonic() + COMMIT_MEMORY, undone=True))

    def step(
        self,
        queue_names: Sequence[str],
        limit: int,
        *,
        outcomes: Sequence[Outcome] = (),
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        now = monotonic()
        leases: list[Lease] = []
        with self._store.changed:
            for outcome in outcomes:
                self._settle(outcome, now)
            for name in queue_names:
                self._reclaim(name, now, max_lost)
            for name in queue_names:
                leases += self._reserve(name, limit - len(leases), now, lease_for)
            if outcomes:
                self._store.changed.notify_all()
            return Step(leases, inf if leases else self._pause(queue_names, now))

    def wait(self, queue_names: Sequence[str], timeout: float) -> None:
        end = monotonic() + timeout
        store = self._store
        with store.changed:
            seen = getattr(self._seen, "interrupts", 0)
            while (now := monotonic()) < end and store.interrupts == seen:
                pause = self._pause(queue_names, now)
                if pause <= 0:
                    break
                store.changed.wait(min(end - now, pause))
            self._seen.interrupts = store.interrupts

    def interrupt(self) -> None:
        # No lock: a signal handler may have stopped the very thread that holds it. The waiters
        # are told by a thread that may wait for its turn.
        self._store.interrupts += 1
        Thread(target=self._notify, name="alligator-interrupt", daemon=True).start()

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        due = monotonic() + lease_for
        with self._store.changed:
            lost = []
            for lease in leases:
                queue = self._queue(lease.queue_name)
                entry = self._held(lease)
                if entry is None:
                    lost.append(lease)
                else:
                    self._hold(queue, lease.task_id, entry, due)
            return lost

    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        with self._store.changed:
            queue = self._queue(queue_name)
            entry = queue.entries.get(task_id)
            if entry is None or entry.leased:
                return None
            self._hold(queue, task_id, entry, monotonic() + lease_for)
            return Lease(queue_name, task_id, entry.data, entry.token, entry.lost)

    def cancel(self, queue_name: str, task_id: str) -> str | None:
        with self._store.changed:
            queue = self._queue(queue_name)
            entry = queue.entries.get(task_id)
            if entry is None or entry.leased:
                return None
            del queue.entries[task_id]
            queue.counts["canceled"] += 1
            return entry.data

    def len(self, queue_name: str) -> int:
        with self._store.changed:
            return sum(not entry.leased for entry in self._queue(queue_name).entries.values())

    def drop_all(self, queue_name: str) -> None:
        with self._store.changed:
            queue = self._queue(queue_name)
            gone = [task_id for task_id, entry in queue.entries.items() if not entry.leased]
            for task_id in gone:
                del queue.entries[task_id]
            queue.counts["dropped"] += len(gone)

    def queue_names(self) -> list[str]:
        with self._store.changed:
            return sorted(name for name, queue in self._store.queues.items() if queue.counts)

    def stats(self, queue_name: str) -> QueueStats:
        with self._store.changed:
            return self._measure(self._queue(queue_name), monotonic())

    def note(self, figures: Figures, queue_names: Sequence[str] = ()) -> None:
        now = monotonic()
        with self._store.changed:
            for name, numbers in figures.items():
                self._queue(name).figures.update(numbers)
            for name in queue_names:
                queue = self._queue(name)
                slot = now // SAMPLE_SECONDS
                if not queue.samples or queue.samples[-1][0] // SAMPLE_SECONDS < slot:
                    queue.samples.append((now, self._measure(queue, now)))

    def figures(self, queue_name: str) -> dict[str, int]:
        with self._store.changed:
            return dict(self._queue(queue_name).figures)

    def history(self, queue_name: str) -> list[Sample]:
        now = monotonic()
        with self._store.changed:
            return [
                Sample(
                    now - at,
                    *(stats.ready, stats.scheduled, stats.leased, stats.dead),
                    *(stats.pushed, stats.succeeded, stats.failed),
                )
                for at, stats in self._queue(queue_name).samples
                if now - at < SAMPLE_SECONDS * SAMPLES
            ]

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        now = monotonic()
        with self._store.changed:
            entries = self._queue(queue_name).entries
            waiting = (
                (*entry.place, task_id)
                for task_id, entry in entries.items()
                if not entry.leased and entry.due > now
            )
            return [
                Scheduled(queue_name, task_id, entries[task_id].data, due - now)
                for due, _, task_id in heapq.nsmallest(limit, waiting)
            ]

    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        with self._store.changed:
            dead = reversed(self._queue(queue_name).dead.values())
            return [letter for letter, _ in islice(dead, limit)]

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        with self._store.changed:
            queue = self._queue(queue_name)
            if task_id not in queue.dead:
                return False
            letter, token = queue.dead.pop(task_id)
            entry = queue.entries[task_id] = _Entry(letter.data, 0.0, 0, token=token)
            self._put(queue, task_id, entry, monotonic())
            self._store.changed.notify_all()
            return True

    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        with self._store.changed:
            queue = self._queue(queue_name)
            if queue.dead.pop(task_id, None) is None:
                return False
            queue.counts["dropped"] += 1
            return True

    def beat(self, worker: WorkerInfo, ttl: float) -> None:
        now = monotonic()
        with self._store.changed:
            self._store.workers[worker.name] = (worker, now, now + ttl)

    def workers(self) -> list[WorkerInfo]:
        now = monotonic()
        with self._store.changed:
            alive = {name: beat for name, beat in self._store.workers.items() if beat[2] > now}
            self._store.workers = alive
            return [worker._replace(seen_ago=now - seen) for worker, seen, _ in alive.values()]

    def ping(self) -> None:
        pass

    def warnings(self) -> list[str]:
        return ["locmem:// keeps tasks in memory: they are gone when the process ends."]

    # The states of a task; all of these are called with the store held.

    def _queue(self, name: str) -> _Queue:
        return self._store.queues.setdefault(name, _Queue())

    def _measure(self, queue: _Queue, now: float) -> QueueStats:
        waiting = [entry.due for entry in queue.entries.values() if not entry.leased]
        ready = [due for due in waiting if due <= now]
        return QueueStats(
            ready=len(ready),
            scheduled=len(waiting) - len(ready),
            leased=len(queue.entries) - len(waiting),
            dead=len(queue.dead),
            oldest=now - min(ready, default=now),
            **queue.counts,
        )

    def _remember(self, commit_id: str, commit: _Commit) -> None:
        """Note *commit*, and forget the oldest once their time is over."""
        commits = self._store.commits
        while commits and commits[oldest := next(iter(commits))].until <= monotonic():
            del commits[oldest]
        commits[commit_id] = commit

    def _put(self, queue: _Queue, task_id: str, entry: _Entry, due: float) -> None:
        entry.place = (due, next(self._store.order))
        self._put_back(queue, task_id, entry)

    def _put_back(self, queue: _Queue, task_id: str, entry: _Entry) -> None:
        entry.leased, entry.due, entry.order = False, entry.place[0], next(self._store.order)
        heapq.heappush(queue.waiting, (*entry.place, entry.order, task_id))

    def _hold(self, queue: _Queue, task_id: str, entry: _Entry, until: float) -> None:
        entry.leased, entry.due, entry.order = True, until, next(self._store.order)
        heapq.heappush(queue.leases, (until, entry.order, entry.order, task_id))

    def _held(self, lease: Lease) -> _Entry | None:
        """Find what *lease* is for, if it still is the current one."""
        entry = self._queue(lease.queue_name).entries.get(lease.task_id)
        current = entry is not None and entry.leased and entry.token == lease.token
        return entry if current else None

    def _settle(self, outcome: Outcome, now: float) -> None:
        lease = outcome.lease
        queue = self._queue(lease.queue_name)
        if outcome.verdict == "ack":
            # Also when the lease has passed on, or the task has died since: the work is done.
            if queue.entries.pop(lease.task_id, None) or queue.dead.pop(lease.task_id, None):
                queue.counts["succeeded"] += 1
            return
        entry = self._held(lease)
        if entry is None:
            return
        entry.token += 1
        if outcome.data is not None:
            entry.data = outcome.data
        if outcome.verdict in ("dead", "retry"):
            queue.counts["failed"] += 1
        if outcome.verdict == "dead":
            self._bury(lease.queue_name, lease.task_id, entry, outcome.reason, outcome.traceback)
        elif outcome.verdict == "release":
            self._put_back(queue, lease.task_id, entry)
        else:
            queue.counts["retried"] += 1
            self._put(queue, lease.task_id, entry, now + outcome.delay)

    def _bury(self, name: str, task_id: str, entry: _Entry, reason: str, traceback: str) -> None:
        queue = self._queue(name)
        del queue.entries[task_id]
        letter = DeadLetter(name, task_id, entry.data, reason, traceback, time())
        queue.dead[task_id] = letter, entry.token
        queue.counts["died"] += 1
        for oldest, (found, _) in list(islice(queue.dead.items(), 2)):
            is_old = found.died_at + self.dead_seconds < letter.died_at
            if is_old or len(queue.dead) > self.dead_limit:
                del queue.dead[oldest]
                queue.counts["dropped"] += 1

    def _reclaim(self, name: str, now: float, max_lost: int) -> None:
        queue = self._queue(name)
        while (head := self._head(queue, queue.leases)) and head[0] <= now:
            *_, task_id = heapq.heappop(queue.leases)
            entry = queue.entries[task_id]
            entry.token += 1
            entry.lost += 1
            queue.counts["lost"] += 1
            if entry.lost >= max_lost:
                reason = f"lost {entry.lost} times: its worker died or froze while it ran"
                self._bury(name, task_id, entry, reason, "")
            else:
                self._put(queue, task_id, entry, now)

    def _reserve(self, name: str, limit: int, now: float, lease_for: float) -> list[Lease]:
        queue = self._queue(name)
        leases: list[Lease] = []
        while len(leases) < limit and (head := self._head(queue, queue.waiting)) and head[0] <= now:
            *_, task_id = heapq.heappop(queue.waiting)
            entry = queue.entries[task_id]
            self._hold(queue, task_id, entry, now + lease_for)
            waited = now - entry.place[0]
            leases.append(Lease(name, task_id, entry.data, entry.token, entry.lost, waited))
        return leases

    def _head(self, queue: _Queue, heap: list[_Turn]) -> _Turn | None:
        """Look at what comes next in *heap*, once what is stale is out of the way."""
        while heap:
            entry = queue.entries.get(heap[0][3])
            if entry is not None and entry.order == heap[0][2]:
                return heap[0]
            heapq.heappop(heap)
        return None

    def _pause(self, queue_names: Sequence[str], now: float) -> float:
        heads = [
            head[0] - now
            for name in queue_names
            for queue in [self._queue(name)]
            for heap in (queue.waiting, queue.leases)
            if (head := self._head(queue, heap))
        ]
        return max(0.0, min(heads, default=inf))

    def _notify(self) -> None:
        with self._store.changed:
            self._store.changed.notify_all()
