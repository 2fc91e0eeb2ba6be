"""Tasks that were reserved and read, and wait for a place."""

from collections import deque
from collections.abc import Iterable
from time import perf_counter
from typing import NamedTuple

from ..backends.base import Lease, Outcome
from ..tasks import Task


class Reserved(NamedTuple):
    """A task that was reserved and read."""

    lease: Lease
    task: Task
    at: float
    """When it was reserved, by `perf_counter`."""
    until: float
    """When its lease ends, by `clock`, unless it is extended."""


class Backlog:
    """Tasks of one kind that wait for a place. Any thread may add, take and release some."""

    def __init__(self) -> None:
        self.tasks: deque[Reserved] = deque()
        """The tasks themselves, in their order; only to check quickly whether there are any."""
        self.moved_at: float = perf_counter()
        """When a task was taken or a place was freed last, or the first task began to wait."""

    def __len__(self) -> int:
        return len(self.tasks)

    def add(self, tasks: Iterable[Reserved]) -> None:
        """Append *tasks*."""
        if not self.tasks:
            self.moved_at = perf_counter()
        self.tasks.extend(tasks)

    def take(self) -> Reserved | None:
        """Remove and return the first task; None if there is none."""
        try:
            reserved = self.tasks.popleft()
        except IndexError:
            return None
        self.moved_at = perf_counter()
        return reserved

    def leases(self) -> list[Lease]:
        """Return the leases of all tasks."""
        return [each.lease for each in self.tasks.copy()]

    def stands_for(self, seconds: float) -> bool:
        """Return whether tasks wait and none was taken for more than *seconds*."""
        return bool(self.tasks) and perf_counter() - self.moved_at > seconds

    def release(self, keep: int = 0) -> list[Outcome]:
        """Remove all tasks except the first *keep*; return the outcomes that release them."""
        released: list[Outcome] = []
        while len(self.tasks) > keep:
            try:
                released.append(Outcome("release", self.tasks.pop().lease))
            except IndexError:  # another thread has taken it
                break
        released.reverse()
        return released
