"""What a store does when a task is canceled: it removes the task, even if a worker has it.

The lease of a task that is canceled ends at once: whatever its worker reports later has no effect. So a
task has either succeeded or was canceled, never both, and it is never retried. The worker asks with
`CancelStore.canceled`, every few seconds, whether one of its leases ended in this way. That is a short
read. A lease that expired is another case: the store does not count it as canceled.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from .records import Lease


class Canceled(NamedTuple):
    """A task that was canceled."""

    data: str
    was_leased: bool = False
    """Whether a worker had it; it may be running still."""


class CancelStore(ABC):
    """The part of a `Client` that cancels tasks."""

    @abstractmethod
    def cancel(self, queue_name: str, task_id: str) -> Canceled | None:
        """Remove the task of that id which waits, or else the one that is leased; None if there is none.

        Of several, the one that was pushed last. It counts as canceled, and as settled for its
        follow-ups; its unique key is free. A place of a `Limit` is free, too.
        """

    def canceled(self, leases: Sequence[Lease]) -> list[Lease]:
        """Return those of *leases* that were canceled; the store remembers it for five minutes."""
        return []
