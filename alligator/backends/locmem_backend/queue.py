"""One queue in memory: its tasks in their states, and the transitions between them."""

import heapq
from collections import Counter
from itertools import count
from math import inf
from operator import attrgetter
from typing import Any

from ..base import (
    DeadLetter,
    KeyStats,
    Lease,
    Limit,
    Message,
    Outcome,
    Peeked,
    QueueStats,
    Scheduled,
    bounded,
)
from ..limits import EACH
from . import listing
from .batches import Batch
from .dead_tasks import DeadTasks
from .entry import RUNS, Entry
from .keys import Hold, Keys
from .limits import Limiter
from .replaced import Replaced, ReplacedTasks
from .samples import Samples
from .waiting import HeapItem, Waiting


class Queue:
    """The tasks of one queue.

    It has no lock: the caller holds that of the store. *now* is a time of the monotonic clock.
    """

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.figures: Counter[str] = Counter()
        self.paused_until: float = -inf  # when it is resumed; -inf: it was never paused
        self.limiter: Limiter | None = None  # None: it has no limit
        self._counts: Counter[str] = Counter()
        self._entries: dict[int, Entry] = {}
        """Those that are ready, scheduled or leased, by their numbers."""
        self._by_id: dict[str, list[Entry]] = {}
        """Those that are ready or scheduled; more than one of an id if a leased one returned."""
        self._waiting = Waiting(self._entries)
        self._leases: list[HeapItem] = []
        self._leased: set[int] = set()  # their numbers
        self._orders = count()
        self._dead = DeadTasks(name)
        self._keys, self._replaced = Keys(), ReplacedTasks()
        self.samples: Samples = Samples()

    # Pushing.

    def push(self, message: Message, now: float) -> int | Hold | None:
        """Add a task and return its number; None if one of its id waits, or who has its unique key."""
        if message.task_id in self._by_id:
            return None
        unique, old, holder = message.unique, None, None
        if unique is not None and (holder := self._keys.holder(unique.key, now)) is not None:
            old = self._find_replaceable(holder, now) if unique.replace else None
            if old is None:
                return holder
        self._counts["pushed"] += 1
        entry = Entry(message.task_id, message.data, message.priority, message.limit_key)
        if unique is not None:
            if old is not None and holder is not None:
                self._replace(Replaced(old, unique.key, holder, entry.number, now))
            entry.hold = self._keys.add(message.task_id, unique, now)
        self._entries[entry.number] = entry
        self._put_waiting(entry, now + bounded(message.delay))
        return entry.number

    def join(self, number: int, batch: Batch) -> bool:
        """Let *batch* count a new task; return False if the same push has replaced it."""
        if number in self._entries:
            self._entries[number].batch = batch
        return number in self._entries

    def undo_push(self, number: int) -> None:
        """Remove a task, unless a worker has or had it."""
        entry = self._entries.get(number)
        if entry is not None and not entry.runs:
            self._remove(entry)
            self._counts["pushed"] -= 1
            self._restore(self._replaced.take(number))
        elif self._replaced.forget(number):
            self._counts.update(pushed=-1, canceled=-1)

    def _find_replaceable(self, holder: Hold, now: float) -> Entry | None:
        """Return the task that holds a key only until its start, if it waits and was never leased."""
        waiting = self._by_id.get(holder.task_id, ()) if holder.ends_with_start(now) else ()
        return next((each for each in waiting if each.hold is holder and not each.runs), None)

    def _replace(self, old: Replaced) -> None:
        old.entry.hold = None  # the key remains held, by another task
        self._remove(old.entry)
        self._settle(old.entry, old.at, is_dead=True)
        self._counts["canceled"] += 1
        self._replaced.add(old)

    def _restore(self, replaced: Replaced | None) -> None:
        """Put a task back whose replacement was aborted."""
        if replaced is not None and not self._find_waiting(replaced.entry.task_id):
            self._counts["canceled"] -= 1
            self._entries[replaced.entry.number] = replaced.entry
            self._put_back(replaced.entry)
            replaced.entry.hold = replaced.hold
            self._keys.restore(replaced.key, replaced.hold)

    # Running.

    def apply(self, outcome: Outcome, now: float) -> None:
        """Apply an outcome to its task; ignore it if the lease is outdated (except an ack)."""
        lease = outcome.lease
        if outcome.verdict == "ack":
            self._finish(lease.token // RUNS, now)
            return
        entry = self._find_leased(lease)
        if entry is None:
            return
        if outcome.data is not None:
            entry.data = outcome.data
        if outcome.verdict == "release":
            if outcome.delay > 0:
                self._put_waiting(entry, now + bounded(outcome.delay))
            else:
                self._put_back(entry)
            return
        self._counts["expired" if outcome.verdict == "expired" else "failed"] += 1
        if outcome.verdict in ("dead", "expired"):
            self._dead_letter(entry, outcome.reason, outcome.traceback, now)
        else:
            self._counts["retried"] += 1
            self._put_waiting(entry, now + bounded(outcome.delay))

    def _finish(self, number: int, now: float) -> None:
        """Remove a task that is done, even if it waits again or has died in the meantime."""
        entry = self._entries.get(number)
        if entry is not None:
            if entry.hold is not None:
                entry.hold.finish()
                entry.hold = None
            self._remove(entry)
            self._settle(entry, now, is_dead=False)
        elif not self._dead.remove(number):
            return
        self._counts["succeeded"] += 1

    def reclaim(self, now: float, max_lost: int) -> bool:
        """Make tasks ready again whose lease has ended, or dead; return whether there were any."""
        found = False
        while (head := self._waiting.head(self._leases)) and head[0] <= now:
            found = True
            entry = self._entries[heapq.heappop(self._leases)[3]]
            entry.lost += entry.alone
            entry.suspect = True
            self._counts["lost"] += 1
            if entry.alone and entry.lost >= max_lost:
                reason = f"lost {entry.lost} times: its worker died or froze while it ran"
                self._dead_letter(entry, reason, "", now)
            else:
                self._put_waiting(entry, now)
        return found

    def limit_dead(self, limit: int | None, seconds: float) -> None:
        """Drop old dead letters: at most two for each new one, so that their number shrinks."""
        if dropped := self._dead.bound(limit, seconds):
            self._counts["dropped"] += dropped

    def reserve(
        self, limit: int, now: float, lease_for: float, *, is_first: bool
    ) -> tuple[list[Lease], bool]:
        """Lease up to *limit* tasks by priority and turns, then the one due for longest first.

        Also return whether the step can continue. It ends at a suspect, which must be leased alone:
        with it if nothing was reserved before (*is_first*), else before it.
        """
        leases: list[Lease] = []
        if self.limiter is not None:
            limit = min(limit, 1 if self._begins(now) <= now else 0)
        turns = self._waiting.turns(now)
        while len(leases) < limit and (entry := turns.next()) is not None:
            if entry.suspect and (leases or not is_first):
                return leases, False
            turns.take()
            leases.append(self._lease(entry, now, lease_for))
            if self.limiter is not None:
                self.limiter.begin(now)
            if entry.suspect:
                return leases, False
        return leases, True

    def mark_alone(self, lease: Lease) -> None:
        """Record that *lease* is the only one of its step."""
        self._entries[lease.token // RUNS].alone = True

    def lease(self, task_id: str, now: float, lease_for: float) -> Lease | None:
        """Lease a ready or scheduled task by its id; None if there is none."""
        entry = self._find_waiting(task_id)
        if entry is None:
            return None
        lease = self._lease(entry, now, lease_for)
        entry.alone = True
        return lease

    def _lease(self, entry: Entry, now: float, lease_for: float) -> Lease:
        self._remove_waiting(entry)
        if entry.hold is not None:
            entry.hold.start()
        entry.runs += 1
        entry.alone = False
        self._put_leased(entry, now + bounded(lease_for))
        waited = max(0.0, now - entry.position[0])
        return Lease(self.name, entry.task_id, entry.data, entry.token, entry.lost, waited)

    def extend(self, lease: Lease, until: float) -> bool:
        """Extend *lease*; return False if it is lost."""
        entry = self._find_leased(lease)
        if entry is not None:
            self._put_leased(entry, until)
        return entry is not None

    def pause(self, now: float) -> float:
        """Return the seconds until a task is due or a lease ends."""
        due = max(self._waiting.begins(), self.paused_until, self._begins(now))
        leased = self._waiting.head(self._leases)
        return max(0.0, min(due, leased[0] if leased else inf) - now)

    def set_limit(self, limit: Limit | None, key: str | None) -> None:
        """Give the queue, or a key on it, a limit, or none."""
        if key is None:
            self.limiter = None if limit is None else Limiter(limit, self.limiter)
        else:
            self._waiting.limits.set(key, limit)
            self._waiting.unblock(None if key == EACH else key)
        self._counts["pushed"] += 0  # the queue is known from now on

    def key_limits(self) -> dict[str, Limit]:
        """Return the limits of its keys."""
        return self._waiting.limits.listed()

    def key_stats(self, now: float) -> KeyStats:
        """Return the stats of its keys."""
        return listing.key_stats(self._entries.values(), self._waiting.limits, now)

    def _begins(self, now: float) -> float:
        """Return until when the limit lets no task begin: *now* or earlier if one may."""
        return -inf if self.limiter is None else self.limiter.until(len(self._leased), now)

    # Canceling, dropping, retrying.

    def cancel(self, task_id: str, now: float) -> Entry | None:
        """Remove a task that waits, or else one that is leased; None if there is none."""
        entry = self._find_waiting(task_id)
        entry = entry or listing.last_leased(self._entries, self._leased, task_id)
        if entry is not None:
            self._remove(entry)
            self._settle(entry, now, is_dead=True)
            self._counts["canceled"] += 1
        return entry

    def drop_all(self, now: float) -> None:
        """Drop the ready and scheduled tasks."""
        dropped = [entry for entry in self._entries.values() if not entry.leased]
        for entry in dropped:
            self._remove(entry)
        for entry in dropped:  # after all, because this may queue a follow-up, which stays
            self._settle(entry, now, is_dead=True)
        self._counts["dropped"] += len(dropped)

    def retry_dead(self, task_id: str, now: float) -> bool:
        """Make the latest dead task of that id ready again; False if there is none."""
        entry = self._dead.take(task_id)
        if entry is None:
            return False
        entry.lost, entry.suspect = 0, False
        self._entries[entry.number] = entry
        self._put_waiting(entry, now)
        return True

    def drop_dead(self, task_id: str) -> bool:
        """Drop the latest dead task of that id; False if there is none."""
        if self._dead.take(task_id) is None:
            return False
        self._counts["dropped"] += 1
        return True

    # Measuring and listing.

    def is_used(self) -> bool:
        """Return whether it holds tasks or ever did, or was paused or limited."""
        return bool(self._counts) or self.paused_until > -inf

    def stats(self, now: float) -> QueueStats:
        """Return the numbers of the queue."""
        waiting = [entry.due for entry in self._entries.values() if not entry.leased]
        ready = [due for due in waiting if due <= now]
        return QueueStats(
            ready=len(ready),
            scheduled=len(waiting) - len(ready),
            leased=len(self._entries) - len(waiting),
            dead=len(self._dead),
            oldest=now - min(ready, default=now),
            paused=max(0.0, self.paused_until - now),
            limit=None if self.limiter is None else self.limiter.limit,
            limited=len(ready) if self._begins(now) > now else 0,
            **dict[str, Any](self._counts),
        )

    def scheduled(self, limit: int, now: float) -> list[Scheduled]:
        """Return the scheduled tasks, the next first."""
        return listing.scheduled(self.name, self._entries, limit, now)

    def peek(self, now: float) -> list[Peeked]:
        """Return the tasks that are not leased."""
        return listing.peek(self.name, self._entries.values(), self._dead.entries(), now)

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Return the dead letters, the latest first."""
        return self._dead.latest(limit)

    # From state to state.

    def _find_waiting(self, task_id: str) -> Entry | None:
        """Return the newest waiting task of that id."""
        return max(self._by_id.get(task_id, ()), key=attrgetter("number"), default=None)

    def _find_leased(self, lease: Lease) -> Entry | None:
        """Return the task of *lease*; None if the lease is outdated."""
        entry = self._entries.get(lease.token // RUNS)
        return entry if entry and entry.leased and entry.token == lease.token else None

    def _remove(self, entry: Entry) -> None:
        """Remove a waiting or leased task."""
        del self._entries[entry.number]
        self._end_lease(entry)
        self._free(entry)
        if not entry.leased:
            self._remove_waiting(entry)
            self._waiting.remove(entry)

    def _settle(self, entry: Entry, now: float, *, is_dead: bool) -> None:
        """Count a task as settled, the first time."""
        if entry.batch is not None:
            batch, entry.batch = entry.batch, None
            batch.settle(is_dead=is_dead, now=now)

    def _free(self, entry: Entry) -> None:
        """Free the unique key of a task that is not done, if it has one."""
        if entry.hold is not None:
            entry.hold.free()
            entry.hold = None

    def _put_waiting(self, entry: Entry, due: float) -> None:
        entry.position = (due, next(self._orders))
        self._put_back(entry)

    def _put_back(self, entry: Entry) -> None:
        self._end_lease(entry)
        entry.leased, entry.due, entry.order = False, entry.position[0], next(self._orders)
        self._by_id.setdefault(entry.task_id, []).append(entry)
        self._waiting.add(entry)

    def _put_leased(self, entry: Entry, until: float) -> None:
        entry.leased, entry.due, entry.order = True, until, next(self._orders)
        if entry.limit_key is not None and entry.number not in self._leased:
            self._waiting.limits.lease(entry.limit_key)
        self._leased.add(entry.number)
        heapq.heappush(self._leases, (until, entry.order, entry.order, entry.number))

    def _end_lease(self, entry: Entry) -> None:
        if entry.number in self._leased:
            self._leased.remove(entry.number)
            if entry.limit_key is not None:
                self._waiting.limits.end_lease(entry.limit_key)
                self._waiting.unblock(entry.limit_key)

    def _remove_waiting(self, entry: Entry) -> None:
        """Remove the entry from those that wait under its id."""
        alike = self._by_id[entry.task_id]
        alike.remove(entry)
        if not alike:
            del self._by_id[entry.task_id]

    def _dead_letter(self, entry: Entry, reason: str, traceback: str, now: float) -> None:
        del self._entries[entry.number]
        self._end_lease(entry)
        self._free(entry)
        self._settle(entry, now, is_dead=True)
        self._dead.add(entry, reason, traceback)
        self._counts["died"] += 1
