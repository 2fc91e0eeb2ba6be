"""One push of a task in memory."""

from itertools import count
from typing import Final

from .batches import Batch
from .keys import Hold

RUNS: Final = 2**32
"""A token is the number of the entry, multiplied by this, plus how often it was leased."""

_numbers = count(1)


class Entry:
    """One push of a task, in any state."""

    __slots__ = (
        *("alone", "batch", "data", "due", "hold", "leased", "limit_key", "lost"),
        *("number", "order", "position", "priority", "runs", "suspect", "task_id"),
    )

    def __init__(self, task_id: str, data: str, priority: int, limit_key: str | None) -> None:
        self.task_id: str = task_id
        self.data: str = data
        self.priority: int = priority
        self.limit_key: str | None = limit_key
        self.number: int = next(_numbers)
        self.runs: int = 0
        """How often it was leased."""
        self.lost: int = 0
        self.leased: bool = False
        self.alone: bool = False
        """Whether its lease was the only one of its step."""
        self.suspect: bool = False
        """Whether a lease of it was lost."""
        self.due: float = 0.0
        """When it is ready (waiting) or when its lease ends (leased), on the monotonic clock."""
        self.order: int = 0
        """The order of its current heap item; an item with another order is stale."""
        self.position: tuple[float, int] = (0.0, 0)
        """When it is ready, and its rank among those of that moment; a release restores both."""
        self.hold: Hold | None = None
        """Its unique key; None if it has none."""
        self.batch: Batch | None = None
        """What counts it until it is settled; None if nothing does."""

    @property
    def token(self) -> int:
        return self.number * RUNS + self.runs
