"""The dead tasks of a queue in memory."""

from itertools import islice
from math import inf
from time import time

from ..base import DeadLetter
from .entry import Entry


class DeadTasks:
    """The dead tasks of one queue, in the order in which they died."""

    def __init__(self, queue_name: str) -> None:
        self._queue_name = queue_name
        self._dead: dict[int, tuple[DeadLetter, Entry]] = {}
        """By their numbers."""
        self._new = 0
        """How many have died since `bound` was last called."""

    def __len__(self) -> int:
        return len(self._dead)

    def add(self, entry: Entry, reason: str, traceback: str) -> None:
        """Add a task that dies now."""
        letter = DeadLetter(self._queue_name, entry.task_id, entry.data, reason, traceback, time())
        self._dead[entry.number] = letter, entry
        self._new += 1

    def remove(self, number: int) -> bool:
        """Remove a task by its number; return whether it was there."""
        return self._dead.pop(number, None) is not None

    def take(self, task_id: str) -> Entry | None:
        """Remove the task of that id that died last, and return it; None if there is none."""
        for _, entry in reversed(self._dead.values()):
            if entry.task_id == task_id:
                del self._dead[entry.number]
                return entry
        return None

    def bound(self, limit: int | None, seconds: float) -> int:
        """Drop old ones: at most two for each new one, so that their number shrinks; return how many."""
        before = len(self._dead)
        maximum = inf if limit is None else limit
        for number, (letter, _) in list(islice(self._dead.items(), 2 * self._new)):
            if len(self._dead) > maximum or letter.died_at + seconds < time():
                del self._dead[number]
        self._new = 0
        return before - len(self._dead)

    def latest(self, limit: int) -> list[DeadLetter]:
        """Return the letters of up to *limit*, the latest first."""
        return [letter for letter, _ in islice(reversed(self._dead.values()), limit)]

    def entries(self) -> list[Entry]:
        """Return all of them."""
        return [entry for _, entry in self._dead.values()]
