"""The unique keys of a queue in memory, and the tasks that hold them."""

from typing import Final

from ..unique import Unique

STALE: Final = 100
"""How many keys that are free may always be kept, however few are held."""


class Hold:
    """The key of a task. *now* is a time of the monotonic clock."""

    __slots__ = ("is_held", "task_id", "till", "until_start")

    def __init__(self, task_id: str, unique: Unique, now: float) -> None:
        self.task_id: str = task_id
        self.until_start: bool = unique.until_start
        self.is_held: bool = True
        """Whether the task holds its key whatever the time is."""
        self.till: float = now + unique.seconds
        """Until when it holds its key at least."""

    def ends_with_start(self, now: float) -> bool:
        """Return whether the key is free when the task is leased for the first time."""
        return self.until_start and self.till <= now

    def start(self) -> None:
        """Record that the task was leased."""
        self.is_held = self.is_held and not self.until_start

    def finish(self) -> None:
        """Record that the task is done."""
        self.is_held = False

    def free(self) -> None:
        """Free the key, because the task is dead or was removed."""
        self.is_held, self.till = False, 0.0


class Keys:
    """The keys of one queue."""

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}
        """By their keys; some may be free by now."""
        self._most = STALE
        """How many there may be before those that are free are looked for."""

    def holder(self, key: str, now: float) -> Hold | None:
        """Return who holds *key*; None if it is free."""
        hold = self._holds.get(key)
        return hold if hold is not None and (hold.is_held or now < hold.till) else None

    def restore(self, key: str, hold: Hold) -> None:
        """Give a key, which is free, back to a task that had it."""
        self._holds[key] = hold

    def add(self, task_id: str, unique: Unique, now: float) -> Hold:
        """Give a new task its key, which is free."""
        hold = self._holds[unique.key] = Hold(task_id, unique, now)
        if len(self._holds) > self._most:
            held = [key for key in self._holds if self.holder(key, now) is not None]
            self._holds = {key: self._holds[key] for key in held}
            self._most = 2 * len(held) + STALE
        return hold
