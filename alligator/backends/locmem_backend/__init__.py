"""Tasks in the memory of this process: for development, tests and programs of one process.

The tasks are lost when the process ends. A forked child has an independent copy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from threading import Condition, Thread, local
from time import monotonic
from typing import ClassVar
from weakref import WeakValueDictionary

from ..._runtime.forks import register_fork_hooks
from ...constants import COMMIT_MEMORY, LEASE_SECONDS, MAX_LOST
from ...exceptions import BackendError
from .. import base
from ..base import (
    Announcement,
    Canceled,
    DeadLetter,
    Duplicates,
    Figures,
    KeyStats,
    Lease,
    Limit,
    Message,
    Outcome,
    Peeked,
    QueueStats,
    Sample,
    Scheduled,
    ScheduleRecord,
    Step,
    WorkerInfo,
    bounded,
    memory_of,
)
from ..unique import Held
from .batches import Batch
from .queue import Queue
from .schedules import Schedules


@dataclass(slots=True)
class _Commit:
    """The result of a commit, which is remembered for some minutes."""

    until: float
    pushed: Sequence[tuple[str, int]] = ()
    duplicates: Duplicates | None = None
    undone: bool = False
    batch: Batch | None = None


class _Store:
    """The data that all clients of one name share."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.queues: dict[str, Queue] = {}
        self.commits: dict[str, _Commit] = {}
        self.expiries: list[tuple[float, str]] = []
        """A heap of commits, ordered by when they may be forgotten."""
        self.workers: dict[str, tuple[WorkerInfo, float, float]] = {}
        self.schedules = Schedules()
        self.interrupts = 0
        register_fork_hooks(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock: a thread of the parent may have held it during the fork."""
        self.changed = Condition()


_shared: WeakValueDictionary[str, _Store] = WeakValueDictionary()


class Client(base.Client):
    """Tasks in memory: ``locmem://`` is private to one client, ``locmem://name`` to the process."""

    blocking: ClassVar[bool] = False
    can_peek: ClassVar[bool] = True
    has_priorities: ClassVar[bool] = True
    keeps_keys: ClassVar[bool] = True
    keeps_follow_ups: ClassVar[bool] = True
    keeps_limit_keys: ClassVar[bool] = True
    remembers_ticks: ClassVar[bool] = True

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        name = conn_string.partition("://")[2]
        self.scope: str = f"locmem/{name}"
        self._store = _shared.setdefault(name, _Store()) if name else _Store()
        self._seen = local()

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        now = monotonic()
        with self._store.changed:
            known = self._store.commits.get(commit_id) if commit_id else None
            if known is not None and known.undone and undo:
                raise BackendError(f"commit {commit_id} was aborted: its tasks are not queued")
            if known is not None and not known.undone:
                return known.duplicates
            pushed: list[tuple[str, int]] = []
            found: list[int] = []
            for place, message in enumerate(messages):
                if message.follows:
                    continue
                result = self._queue(message.queue_name).push(message, now)
                if isinstance(result, int):
                    pushed.append((message.queue_name, result))
                else:
                    found.append(place if result is None else Held(place, result.task_id))
            batch = self._begin_batch([each for each in messages if each.follows], pushed, now)
            duplicates = found or None
            if commit_id:
                until = now + (COMMIT_MEMORY if undo else memory_of(commit_id))
                self._remember(commit_id, _Commit(until, pushed, duplicates, batch=batch))
            self._store.changed.notify_all()
            return duplicates

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        with self._store.changed:
            known = self._store.commits.pop(commit_id, None) or _Commit(0.0)
            pushed = [*known.pushed]
            if known.batch is not None:
                known.batch.abort()
                pushed += known.batch.queued
            # The last one first: it may have the id of a task that another one of them has replaced.
            for queue_name, number in reversed(pushed):
                self._queue(queue_name).undo_push(number)
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
        has_changed = bool(outcomes)
        with self._store.changed:
            queues = [self._queue(name) for name in queue_names]
            for outcome in outcomes:
                queue = self._queue(outcome.lease.queue_name)
                queue.apply(outcome, now)
                queue.limit_dead(self.dead_limit, self.dead_seconds)
            for queue in queues:
                has_changed = queue.reclaim(now, max_lost) or has_changed
                queue.limit_dead(self.dead_limit, self.dead_seconds)
            for queue in queues:
                if queue.paused_until > now:
                    continue
                room = limit - len(leases)
                found, can_continue = queue.reserve(room, now, lease_for, is_first=not leases)
                leases += found
                has_changed = has_changed or (bool(found) and queue.limiter is not None)
                if not can_continue:
                    break
            if len(leases) == 1:
                self._queue(leases[0].queue_name).mark_alone(leases[0])
            if has_changed:
                self._store.changed.notify_all()
            return Step(leases, inf if leases or not limit else self._pause(queue_names, now))

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
        # No lock here: a signal handler may have interrupted the thread that holds it. Another thread,
        # which can wait for the lock, notifies the waiters.
        self._store.interrupts += 1
        Thread(target=self._notify, name="alligator-interrupt", daemon=True).start()

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        until = monotonic() + bounded(lease_for)
        with self._store.changed:
            return [
                lease for lease in leases if not self._queue(lease.queue_name).extend(lease, until)
            ]

    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        with self._store.changed:
            return self._queue(queue_name).lease(task_id, monotonic(), lease_for)

    def cancel(self, queue_name: str, task_id: str) -> Canceled | None:
        with self._store.changed:
            entry = self._queue(queue_name).cancel(task_id, monotonic())
            if entry is None:
                return None
            if entry.leased:
                marker = f"canceled {entry.token}"
                self._remember(marker, _Commit(monotonic() + COMMIT_MEMORY))
            self._store.changed.notify_all()
            return Canceled(entry.data, entry.leased)

    def canceled(self, leases: Sequence[Lease]) -> list[Lease]:
        commits = self._store.commits
        return [lease for lease in leases if f"canceled {lease.token}" in commits]

    def len(self, queue_name: str) -> int:
        stats = self.stats(queue_name)
        return stats.ready + stats.scheduled

    def drop_all(self, queue_name: str) -> None:
        with self._store.changed:
            self._queue(queue_name).drop_all(monotonic())
            self._store.changed.notify_all()

    def queue_names(self) -> list[str]:
        with self._store.changed:
            return sorted(name for name, queue in self._store.queues.items() if queue.is_used())

    def pause(self, queue_name: str, seconds: float) -> None:
        with self._store.changed:
            self._queue(queue_name).paused_until = monotonic() + seconds if seconds > 0 else 0.0
            self._store.changed.notify_all()

    def limit(self, queue_name: str, limit: Limit | None, limit_key: str | None = None) -> None:
        with self._store.changed:
            self._queue(queue_name).set_limit(limit, limit_key)
            self._store.changed.notify_all()

    def key_limits(self, queue_name: str) -> dict[str, Limit]:
        with self._store.changed:
            return self._queue(queue_name).key_limits()

    def key_stats(self, queue_names: Sequence[str]) -> dict[str, KeyStats]:
        with self._store.changed:
            found = {name: self._queue(name).key_stats(monotonic()) for name in queue_names}
        return {name: stats for name, stats in found.items() if any(stats)}

    def stats(self, queue_name: str) -> QueueStats:
        with self._store.changed:
            return self._queue(queue_name).stats(monotonic())

    def note(
        self, figures: Figures, queue_names: Sequence[str] = (), *, report_id: str | None = None
    ) -> None:
        marker = f"report {report_id}"
        with self._store.changed:
            is_new = report_id is None or marker not in self._store.commits
            if report_id is not None and is_new:
                self._remember(marker, _Commit(monotonic() + COMMIT_MEMORY))
            for name, numbers in figures.items() if is_new else ():
                self._queue(name).figures.update(numbers)
            for name in queue_names:
                queue = self._queue(name)
                queue.samples.take(queue.stats, monotonic())

    def figures(self, queue_name: str) -> dict[str, int]:
        with self._store.changed:
            return dict(self._queue(queue_name).figures)

    def history(self, queue_name: str) -> list[Sample]:
        with self._store.changed:
            return self._queue(queue_name).samples.history(monotonic())

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        with self._store.changed:
            return self._queue(queue_name).scheduled(limit, monotonic())

    def peek(self, queue_name: str) -> Iterator[Peeked]:
        with self._store.changed:
            found = self._queue(queue_name).peek(monotonic())
        yield from found

    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        with self._store.changed:
            return self._queue(queue_name).dead_letters(limit)

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        with self._store.changed:
            is_found = self._queue(queue_name).retry_dead(task_id, monotonic())
            self._store.changed.notify_all()
            return is_found

    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        with self._store.changed:
            return self._queue(queue_name).drop_dead(task_id)

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

    def announce_schedules(self, schedules: Sequence[Announcement], now: int) -> list[int]:
        with self._store.changed:
            return self._store.schedules.announce(schedules, now, monotonic())

    def push_tick(self, name: str, moment: int, message: Message) -> bool:
        with self._store.changed:
            if not self._store.schedules.tick(name, moment, monotonic()):
                return False
            self._queue(message.queue_name).push(message, monotonic())
            self._store.changed.notify_all()
            return True

    def schedules(self) -> list[ScheduleRecord]:
        with self._store.changed:
            return self._store.schedules.records(monotonic())

    def forget_schedule(self, name: str) -> bool:
        with self._store.changed:
            return self._store.schedules.forget(name, monotonic())

    def ping(self) -> None:
        pass

    def warnings(self) -> list[str]:
        return ["locmem:// keeps tasks in memory: they are lost when the process ends."]

    # All of these except the last are called while the lock is held.

    def _begin_batch(
        self, follow_ups: Sequence[Message], pushed: Sequence[tuple[str, int]], now: float
    ) -> Batch | None:
        if not follow_ups:
            return None
        batch = Batch([(self._queue(each.queue_name).push, each) for each in follow_ups])
        joined = [self._queue(queue_name).join(number, batch) for queue_name, number in pushed]
        batch.begin(sum(joined), now)
        return batch

    def _queue(self, name: str) -> Queue:
        queue = self._store.queues.get(name)
        if queue is None:
            queue = self._store.queues[name] = Queue(name)
        return queue

    def _pause(self, queue_names: Sequence[str], now: float) -> float:
        return min((self._queue(name).pause(now) for name in queue_names), default=inf)

    def _remember(self, commit_id: str, commit: _Commit) -> None:
        """Remember *commit*, and forget those that have expired."""
        commits, expiries = self._store.commits, self._store.expiries
        commits[commit_id] = commit
        heappush(expiries, (commit.until, commit_id))
        while expiries and expiries[0][0] <= monotonic():
            _, oldest = heappop(expiries)
            if oldest in commits and commits[oldest].until <= monotonic():  # not remembered again
                del commits[oldest]

    def _notify(self) -> None:
        with self._store.changed:
            self._store.changed.notify_all()
