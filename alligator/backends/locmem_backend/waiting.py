"""The order in which the waiting tasks of a queue in memory are reserved: their lines, and the turns."""

import heapq
from collections import OrderedDict
from collections.abc import Mapping
from itertools import filterfalse
from math import inf
from typing import Final

from ...constants import LEVELS
from .entry import Entry
from .limits import KeyLimits

HeapItem = tuple[float, int, int, int]
"""The moment, the rank among those of that moment, and the order and number of the entry."""

STALE: Final = 100
"""How many stale items a heap may always have, however few tasks there are."""

PLAIN: Final = ""
"""In place of a key: the line of the tasks without one, which is always there."""


class Heaps:
    """Heaps of the items of *entries*; an item of an entry that has another order is stale."""

    def __init__(self, entries: Mapping[int, Entry]) -> None:
        self.entries: Mapping[int, Entry] = entries

    def head(self, heap: list[HeapItem]) -> HeapItem | None:
        """Return the first item of *heap* that is not stale; remove the stale ones before it."""
        while heap:
            if self._is_current(heap[0]):
                return heap[0]
            heapq.heappop(heap)
        return None

    def compact(self, heap: list[HeapItem]) -> None:
        """Remove the stale items of the heap; they would stay there until they are due."""
        if len(heap) > 2 * len(self.entries) + STALE:
            heap[:] = [item for item in heap if self._is_current(item)]
            heapq.heapify(heap)

    def _is_current(self, item: HeapItem) -> bool:
        entry = self.entries.get(item[3])
        return entry is not None and entry.order == item[2]


class Waiting(Heaps):
    """The waiting tasks of one queue. *now* is a time of the monotonic clock."""

    def __init__(self, entries: Mapping[int, Entry]) -> None:
        super().__init__(entries)
        self.limits: KeyLimits = KeyLimits()
        self._arrived: list[HeapItem] = []
        """The tasks with keys that are in no line yet."""
        self._lines: dict[int, OrderedDict[str, list[HeapItem]]] = {
            level: OrderedDict([(PLAIN, [])]) for level in LEVELS.values()
        }
        """The lines of each priority by their keys, in the order of their turns."""
        self._blocked: dict[tuple[int, str], list[HeapItem]] = {}
        """The lines that have no turns, because of the limits of their keys."""
        self._ends: list[tuple[float, int, str]] = []
        """A heap of when those may have turns again, as far as that is known."""

    def add(self, entry: Entry) -> None:
        """Add a task that is ready, or will be."""
        plain = self._lines[entry.priority][PLAIN]
        heap = plain if entry.limit_key is None else self._arrived
        heapq.heappush(heap, (*entry.position, entry.order, entry.number))

    def remove(self, entry: Entry) -> None:
        """Remove a task that is no longer among the entries."""
        line = self._lines[entry.priority].get(entry.limit_key or PLAIN)
        if line is None:
            line = self._blocked.get((entry.priority, entry.limit_key or PLAIN), [])
        self.compact(line)
        self.compact(self._arrived)

    def unblock(self, key: str | None = None) -> None:
        """Let the lines of *key* have turns again; None for those of all keys."""
        if not self._blocked:
            return
        places = [*self._blocked] if key is None else [(level, key) for level in self._lines]
        for place in places:
            if place in self._blocked:
                self._lines[place[0]][place[1]] = self._blocked.pop(place)

    def begins(self) -> float:
        """Return when a task may begin, as far as it depends on times; inf for never."""
        if any(len(lines) > 1 for lines in self._lines.values()):
            return -inf
        heaps = [self._arrived, *(lines[PLAIN] for lines in self._lines.values())]
        heads = [head[0] for heap in heaps if (head := self.head(heap)) is not None]
        return min(*heads, self._ends[0][0] if self._ends else inf, inf)

    def turns(self, now: float) -> "Turns":
        """Return the turns of a step."""
        while self._ends and self._ends[0][0] <= now:
            self.unblock(heapq.heappop(self._ends)[2])
        while (head := self.head(self._arrived)) is not None and head[0] <= now:
            entry = self.entries[heapq.heappop(self._arrived)[3]]
            place = entry.priority, entry.limit_key or PLAIN
            line = self._blocked.get(place)
            heapq.heappush(
                self._lines[place[0]].setdefault(place[1], []) if line is None else line, head
            )
        return Turns(self, self._lines, now)

    def block(self, level: int, key: str, until: float) -> None:
        """Let a line have no turns until then."""
        self._blocked[level, key] = self._lines[level].pop(key)
        if until < inf:
            heapq.heappush(self._ends, (until, level, key))


class Turns:
    """The turns of one step."""

    def __init__(
        self, waiting: Waiting, lines: Mapping[int, OrderedDict[str, list[HeapItem]]], now: float
    ) -> None:
        self._waiting = waiting
        self._now = now
        self._levels = iter(lines.items())
        self._level, self._lines = next(self._levels)
        self._begun: set[str] = set()
        """The keys with a limit of which a task was taken."""
        self._resting: set[str] = set()
        """Those, and the line without a key if none of its tasks is ready."""
        self._key = PLAIN

    def next(self) -> Entry | None:
        """Return the task whose turn it is; None if there is none."""
        while True:
            key = next(filterfalse(self._resting.__contains__, self._lines), None)
            if key is None:
                found = next(self._levels, None)
                if found is None:
                    return None
                self._level, self._lines = found
                self._resting = set(self._begun)
                continue
            head = self._waiting.head(self._lines[key])
            if head is not None and head[0] <= self._now:
                until = -inf if key == PLAIN else self._waiting.limits.until(key, self._now)
                if until <= self._now:
                    self._key = key
                    return self._waiting.entries[head[3]]
                self._waiting.block(self._level, key, until)
            elif key == PLAIN:
                self._resting.add(PLAIN)
            else:
                del self._lines[key]

    def take(self) -> None:
        """Take the task that `next` has returned; its line goes to the end."""
        key = self._key
        heapq.heappop(self._lines[key])
        self._lines.move_to_end(key)
        if key != PLAIN and self._waiting.limits.begin(key, self._now):
            self._begun.add(key)
            self._resting.add(key)
