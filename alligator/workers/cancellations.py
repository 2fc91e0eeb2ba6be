"""End the tasks of a worker that were canceled while they ran."""

from collections.abc import Sequence
from logging import Logger
from time import monotonic
from typing import Protocol

from ..backends.base import Lease
from ..constants import COMMIT_MEMORY
from ..execution.lease_ends import LeaseEnds
from ..tasks import Task
from .outcome_log import log_still_running

NAME_AFTER = 30.0
"""How many seconds after its cancellation a task that still runs is named in the log."""


class Ends(Protocol):
    """What runs tasks, and can end them."""

    def cancel(self, leases: Sequence[Lease]) -> None:
        """End those runs of *leases* that are here, as far as that is possible."""
        ...


class Canceling(Protocol):
    """The attributes of a worker that its cancellations use."""

    log: Logger
    lease_ends: LeaseEnds

    def runners(self) -> Sequence[Ends]:
        """Return what runs tasks in this worker."""
        ...


class Cancellations:
    """Ends the runs of canceled tasks; the heartbeat of the worker finds them.

    Their leases have ended, so no outcome of them counts. The worker remembers them, so that it starts
    none of them, and logs each as canceled when it has ended.
    """

    def __init__(self, worker: Canceling) -> None:
        self._worker = worker
        self._named: set[Lease] = set()

    def end(self, leases: Sequence[Lease]) -> None:
        """End the runs of *leases*; to be called again as long as they have not ended."""
        now = monotonic()
        known = self._worker.lease_ends.canceled
        for lease in leases:
            known.setdefault(lease, now)
        for runner in self._worker.runners():
            runner.cancel(leases)
        for lease in leases:
            if now - known[lease] > NAME_AFTER and lease not in self._named:
                self._named.add(lease)
                log_still_running(self._worker.log, lease)
        self._forget(leases, now)

    def _forget(self, leases: Sequence[Lease], now: float) -> None:
        """Forget those that have ended long ago."""
        known = self._worker.lease_ends.canceled
        for lease, since in list(known.items()):
            if now - since > COMMIT_MEMORY and lease not in leases:
                known.pop(lease, None)
                self._named.discard(lease)


def mark_canceled(task: Task) -> None:
    """Mark a task that runs as canceled; from now on it calls no hook."""
    task.canceled = True
    task.on_success = task.on_error = None
