"""The tasks in memory that others have replaced, for an abort of these."""

from typing import NamedTuple

from ...constants import COMMIT_MEMORY
from .entry import Entry
from .keys import Hold


class Replaced(NamedTuple):
    """A task that another one has replaced."""

    entry: Entry
    key: str
    hold: Hold
    by: int
    """The number of the other one."""
    at: float


class ReplacedTasks:
    """Those of one queue, for as long as the commit that has replaced them is remembered."""

    def __init__(self) -> None:
        self._found: dict[int, Replaced] = {}

    def add(self, replaced: Replaced) -> None:
        """Keep a task; forget those that were replaced too long ago."""
        self._found[replaced.entry.number] = replaced
        for number, each in [*self._found.items()]:
            if each.at > replaced.at - COMMIT_MEMORY:
                break
            del self._found[number]

    def take(self, by: int) -> Replaced | None:
        """Remove and return the task that was replaced by the one of that number."""
        for number, each in self._found.items():
            if each.by == by:
                return self._found.pop(number)
        return None

    def forget(self, number: int) -> bool:
        """Forget an aborted task: the next one has replaced the one before. Return False if unknown."""
        found = self._found.pop(number, None)
        if found is None:
            return False
        before = self.take(number)
        if before is not None:
            self._found[before.entry.number] = before._replace(by=found.by)
        return True
