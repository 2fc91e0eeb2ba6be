"""One queue in memory: its tasks, in their states, and what becomes of them."""

import heapq
from collections import Counter, deque
from itertools import count, islice
from math import inf
from time import time

from .base import DeadLetter, Lease, Message, Outcome, QueueStats, Sample, Scheduled
from .figures import SAMPLE_SECONDS, SAMPLES

Turn = tuple[float, int, int, str]
"""When, the rank among those of that moment, the entry's order, and the id."""


class Entry:
    """A task that is ready, scheduled or leased."""

    __slots__ = ("data", "due", "leased", "lost", "order", "place", "token")

    def __init__(self, data: str, token: int = 0) -> None:
        self.data: str = data
        self.token: int = token
        self.lost: int = 0
        self.leased: bool = False
        self.due: float = 0.0
        """When it is ready (waiting) or when its lease ends (leased), on the monotonic clock."""
        self.order: int = 0
        """Its place in its heap; an entry of the heap with another number is stale."""
        self.place: tuple[float, int] = (0.0, 0)
        """When it was, or will be, ready, and its rank among those of that moment: for a release."""


class Queue:
    """The tasks of one name, and two heaps that say what comes next.

    Nothing is locked here: whoever calls holds the store. *now* is of the monotonic clock.
    """

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.figures: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._entries: dict[str, Entry] = {}
        self._waiting: list[Turn] = []
        self._leases: list[Turn] = []
        self._orders = count()
        self._dead: dict[str, tuple[DeadLetter, int]] = {}
        """Each with its token: a lease from before its death must not count after it."""
        self._came = 0
        """How many have died since the dead were last bounded."""
        self._samples: deque[tuple[float, QueueStats]] = deque(maxlen=SAMPLES)
        """Each with when it was taken."""

    # Tasks come.

    def push(self, message: Message, now: float) -> bool:
        """Put a task here; False if there is one of that id."""
        if message.task_id in self._entries or message.task_id in self._dead:
            return False
        self._counts["pushed"] += 1
        entry = self._entries[message.task_id] = Entry(message.data)
        self._put(message.task_id, entry, now + max(0.0, message.delay))
        return True

    def take_back(self, task_id: str) -> None:
        """Undo a push, unless a worker has the task or had it."""
        if self._pop_waiting(task_id) is not None:
            self._counts["pushed"] -= 1

    # Tasks are worked on.

    def settle(self, outcome: Outcome, now: float) -> None:
        """Do with a leased task what its outcome says."""
        lease = outcome.lease
        if outcome.verdict == "ack":
            # Also when the lease has passed on, or the task has died since: the work is done.
            if self._entries.pop(lease.task_id, None) or self._dead.pop(lease.task_id, None):
                self._counts["succeeded"] += 1
            return
        entry = self._held(lease)
        if entry is None:
            return
        entry.token += 1
        if outcome.data is not None:
            entry.data = outcome.data
        if outcome.verdict == "release":
            self._put_back(lease.task_id, entry)
            return
        self._counts["failed"] += 1
        if outcome.verdict == "dead":
            self._bury(lease.task_id, entry, outcome.reason, outcome.traceback)
        else:
            self._counts["retried"] += 1
            self._put(lease.task_id, entry, now + outcome.delay)

    def reclaim(self, now: float, max_lost: int) -> None:
        """Make those ready again whose lease has ended; bury those that were lost too often."""
        while (head := self._head(self._leases)) and head[0] <= now:
            *_, task_id = heapq.heappop(self._leases)
            entry = self._entries[task_id]
            entry.token += 1
            entry.lost += 1
            self._counts["lost"] += 1
            if entry.lost >= max_lost:
                reason = f"lost {entry.lost} times: its worker died or froze while it ran"
                self._bury(task_id, entry, reason, "")
            else:
                self._put(task_id, entry, now)

    def bound_dead(self, limit: int, seconds: float) -> None:
        """Drop the oldest of the dead where some have come: two for one, so they become fewer."""
        if not self._came:
            return
        for task_id, (letter, _) in list(islice(self._dead.items(), 2 * self._came)):
            if len(self._dead) > limit or letter.died_at + seconds < time():
                del self._dead[task_id]
                self._counts["dropped"] += 1
        self._came = 0

    def reserve(self, limit: int, now: float, lease_for: float) -> list[Lease]:
        """Lease up to *limit* tasks, the one that has been due for longest first."""
        leases: list[Lease] = []
        while len(leases) < limit and (head := self._head(self._waiting)) and head[0] <= now:
            *_, task_id = heapq.heappop(self._waiting)
            entry = self._entries[task_id]
            self._hold(task_id, entry, now + lease_for)
            waited = now - entry.place[0]
            leases.append(Lease(self.name, task_id, entry.data, entry.token, entry.lost, waited))
        return leases

    def lease(self, task_id: str, until: float) -> Lease | None:
        """Lease that task, whether its time has come or not; None if it is not waiting."""
        entry = self._find_waiting(task_id)
        if entry is None:
            return None
        self._hold(task_id, entry, until)
        return Lease(self.name, task_id, entry.data, entry.token, entry.lost)

    def extend(self, lease: Lease, until: float) -> bool:
        """Lengthen *lease*; False if it is lost."""
        entry = self._held(lease)
        if entry is None:
            return False
        self._hold(lease.task_id, entry, until)
        return True

    def pause(self, now: float) -> float:
        """Tell for how many seconds there is nothing to do."""
        heads = self._head(self._waiting), self._head(self._leases)
        return max(0.0, min((head[0] - now for head in heads if head), default=inf))

    # Tasks go, and come back.

    def cancel(self, task_id: str) -> str | None:
        """Take a task away and return its data; None if it is not waiting."""
        entry = self._pop_waiting(task_id)
        if entry is None:
            return None
        self._counts["canceled"] += 1
        return entry.data

    def drop_all(self) -> None:
        """Throw away what is waiting."""
        gone = [task_id for task_id, entry in self._entries.items() if not entry.leased]
        for task_id in gone:
            del self._entries[task_id]
        self._counts["dropped"] += len(gone)

    def retry_dead(self, task_id: str, now: float) -> bool:
        """Make a dead task ready again; False if none goes by that id."""
        if task_id not in self._dead:
            return False
        letter, token = self._dead.pop(task_id)
        entry = self._entries[task_id] = Entry(letter.data, token)
        self._put(task_id, entry, now)
        return True

    def drop_dead(self, task_id: str) -> bool:
        """Throw a dead task away; False if none goes by that id."""
        if self._dead.pop(task_id, None) is None:
            return False
        self._counts["dropped"] += 1
        return True

    # How things are.

    def is_used(self) -> bool:
        """Whether it holds tasks or ever did."""
        return bool(self._counts)

    def stats(self, now: float) -> QueueStats:
        """Measure it."""
        waiting = [entry.due for entry in self._entries.values() if not entry.leased]
        ready = [due for due in waiting if due <= now]
        return QueueStats(
            ready=len(ready),
            scheduled=len(waiting) - len(ready),
            leased=len(self._entries) - len(waiting),
            dead=len(self._dead),
            oldest=now - min(ready, default=now),
            **self._counts,
        )

    def sample(self, now: float) -> None:
        """Take a sample, unless there is one of these ten seconds."""
        slot = now // SAMPLE_SECONDS
        if not self._samples or self._samples[-1][0] // SAMPLE_SECONDS < slot:
            self._samples.append((now, self.stats(now)))

    def history(self, now: float) -> list[Sample]:
        """List the samples, the oldest first."""
        return [
            Sample(
                now - at,
                *(stats.ready, stats.scheduled, stats.leased, stats.dead),
                *(stats.pushed, stats.succeeded, stats.failed),
            )
            for at, stats in self._samples
            if now - at < SAMPLE_SECONDS * SAMPLES
        ]

    def scheduled(self, limit: int, now: float) -> list[Scheduled]:
        """List what is not due yet, the next first."""
        waiting = (
            (*entry.place, task_id)
            for task_id, entry in self._entries.items()
            if not entry.leased and entry.due > now
        )
        return [
            Scheduled(self.name, task_id, self._entries[task_id].data, due - now)
            for due, _, task_id in heapq.nsmallest(limit, waiting)
        ]

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """List the dead, the latest first."""
        return [letter for letter, _ in islice(reversed(self._dead.values()), limit)]

    # From state to state.

    def _find_waiting(self, task_id: str) -> Entry | None:
        entry = self._entries.get(task_id)
        return None if entry is None or entry.leased else entry

    def _pop_waiting(self, task_id: str) -> Entry | None:
        entry = self._find_waiting(task_id)
        return None if entry is None else self._entries.pop(task_id)

    def _held(self, lease: Lease) -> Entry | None:
        """Find what *lease* is for, if it still is the current one."""
        entry = self._entries.get(lease.task_id)
        current = entry is not None and entry.leased and entry.token == lease.token
        return entry if current else None

    def _put(self, task_id: str, entry: Entry, due: float) -> None:
        entry.place = (due, next(self._orders))
        self._put_back(task_id, entry)

    def _put_back(self, task_id: str, entry: Entry) -> None:
        entry.leased, entry.due, entry.order = False, entry.place[0], next(self._orders)
        heapq.heappush(self._waiting, (*entry.place, entry.order, task_id))

    def _hold(self, task_id: str, entry: Entry, until: float) -> None:
        entry.leased, entry.due, entry.order = True, until, next(self._orders)
        heapq.heappush(self._leases, (until, entry.order, entry.order, task_id))

    def _bury(self, task_id: str, entry: Entry, reason: str, traceback: str) -> None:
        del self._entries[task_id]
        letter = DeadLetter(self.name, task_id, entry.data, reason, traceback, time())
        self._dead[task_id] = letter, entry.token
        self._counts["died"] += 1
        self._came += 1

    def _head(self, heap: list[Turn]) -> Turn | None:
        """Look at what comes next in *heap*, once what is stale is out of the way."""
        while heap:
            entry = self._entries.get(heap[0][3])
            if entry is not None and entry.order == heap[0][2]:
                return heap[0]
            heapq.heappop(heap)
        return None
