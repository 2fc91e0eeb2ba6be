"""Keep tasks in the memory of this process: for development, for tests, for one-process programs.

Nothing outlives the process, and a forked child goes its own way with a copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from threading import Condition, Thread, local
from time import monotonic
from typing import ClassVar
from weakref import WeakValueDictionary

from ..constants import COMMIT_MEMORY, LEASE_SECONDS, MAX_LOST
from ..exceptions import BackendError
from ..forks import tell_of_forks
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
from .locmem_queue import Queue


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
        self.queues: dict[str, Queue] = {}
        self.commits: dict[str, _Commit] = {}
        self.workers: dict[str, tuple[WorkerInfo, float, float]] = {}
        self.interrupts = 0
        tell_of_forks(self)

    def after_fork_in_child(self) -> None:
        """Be held by nobody."""
        self.changed = Condition()


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
            pushed = [
                (message.queue_name, message.task_id)
                for message in messages
                if self._queue(message.queue_name).push(message, now)
            ]
            if commit_id:
                self._remember(commit_id, _Commit(now + COMMIT_MEMORY, pushed))
            self._store.changed.notify_all()

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        with self._store.changed:
            known = self._store.commits.pop(commit_id, None)
            for queue_name, task_id in known.pushed if known is not None else ():
                self._queue(queue_name).take_back(task_id)
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
            queues = [self._queue(name) for name in queue_names]
            for outcome in outcomes:
                queue = self._queue(outcome.lease.queue_name)
                queue.settle(outcome, now)
                queue.bound_dead(self.dead_limit, self.dead_seconds)
            for queue in queues:
                queue.reclaim(now, max_lost)
                queue.bound_dead(self.dead_limit, self.dead_seconds)
            for queue in queues:
                leases += queue.reserve(limit - len(leases), now, lease_for)
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
        until = monotonic() + lease_for
        with self._store.changed:
            return [
                lease for lease in leases if not self._queue(lease.queue_name).extend(lease, until)
            ]

    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        with self._store.changed:
            return self._queue(queue_name).lease(task_id, monotonic() + lease_for)

    def cancel(self, queue_name: str, task_id: str) -> str | None:
        with self._store.changed:
            return self._queue(queue_name).cancel(task_id)

    def len(self, queue_name: str) -> int:
        stats = self.stats(queue_name)
        return stats.ready + stats.scheduled

    def drop_all(self, queue_name: str) -> None:
        with self._store.changed:
            self._queue(queue_name).drop_all()

    def queue_names(self) -> list[str]:
        with self._store.changed:
            return sorted(name for name, queue in self._store.queues.items() if queue.is_used())

    def stats(self, queue_name: str) -> QueueStats:
        with self._store.changed:
            return self._queue(queue_name).stats(monotonic())

    def note(self, figures: Figures, queue_names: Sequence[str] = ()) -> None:
        with self._store.changed:
            for name, numbers in figures.items():
                self._queue(name).figures.update(numbers)
            for name in queue_names:
                self._queue(name).sample(monotonic())

    def figures(self, queue_name: str) -> dict[str, int]:
        with self._store.changed:
            return dict(self._queue(queue_name).figures)

    def history(self, queue_name: str) -> list[Sample]:
        with self._store.changed:
            return self._queue(queue_name).history(monotonic())

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        with self._store.changed:
            return self._queue(queue_name).scheduled(limit, monotonic())

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

    def ping(self) -> None:
        pass

    def warnings(self) -> list[str]:
        return ["locmem:// keeps tasks in memory: they are gone when the process ends."]

    # These but for the last are called with the store held.

    def _queue(self, name: str) -> Queue:
        queue = self._store.queues.get(name)
        if queue is None:
            queue = self._store.queues[name] = Queue(name)
        return queue

    def _pause(self, queue_names: Sequence[str], now: float) -> float:
        return min((self._queue(name).pause(now) for name in queue_names), default=inf)

    def _remember(self, commit_id: str, commit: _Commit) -> None:
        """Note *commit*, and forget the oldest once their time is over."""
        commits = self._store.commits
        while commits and commits[oldest := next(iter(commits))].until <= monotonic():
            del commits[oldest]
        commits[commit_id] = commit

    def _notify(self) -> None:
        with self._store.changed:
            self._store.changed.notify_all()
