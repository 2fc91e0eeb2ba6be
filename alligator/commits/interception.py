"""Replace the delivery of all gators of the process, for `alligator.testing`."""

from collections.abc import Sequence
from typing import Any, Protocol

from ..backends.base import Commit
from .committer import Delivers
from .counters import Ending
from .deferred import OutgoingTask


class Interceptor(Protocol):
    """Delivers the tasks of all gators in place of their stores."""

    inline: bool
    """Whether tasks run in this process, whatever their gators and options say."""

    def delivery_of(self, gator: Any) -> Delivers:
        """Return what delivers the tasks of *gator*."""
        ...


active: Interceptor | None = None
"""One for the whole process: a server under test may run in another thread."""


def set_interceptor(interceptor: Interceptor | None) -> Interceptor | None:
    """Set the interceptor of this process, None for none; return the one before."""
    global active
    before, active = active, interceptor
    return before


class InterceptedDelivery:
    """Delivers the tasks of one gator without its store."""

    runs_inline = True

    def __init__(self, gator: Any) -> None:
        self.gator = gator
        self.blocking: bool = gator.client.blocking

    async def deliver(
        self, tasks: Sequence[OutgoingTask], commit: Commit | None = None, *, awaits: bool = False
    ) -> None:
        for each in tasks:
            each.task.to_waiting()

    def withdraw(self, tasks: Sequence[OutgoingTask], commit_id: str) -> None:
        self.discard([each for each in tasks if each.run is None and not each.always])

    def discard(self, tasks: Sequence[OutgoingTask]) -> None:
        for each in tasks:
            each.task.to_canceled()

    def count(self, ending: Ending, tasks: Sequence[OutgoingTask]) -> None:
        pass  # the counters belong to the store
