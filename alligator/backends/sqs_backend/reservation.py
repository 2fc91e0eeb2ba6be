"""The leases that one step reserves from one or more queues in SQS."""

from collections.abc import Callable, Sequence
from logging import Logger, getLogger

from ...exceptions import BackendError, BackendUnavailable
from ..base import Lease, Outcome
from .receiver import Receiver

log: Logger = getLogger("alligator")


class Reservation:
    """Up to *limit* leases of *lease_for* seconds.

    *report* reports outcomes. *take_prefetched* returns the leases of a queue that this thread has
    received before.
    """

    def __init__(
        self,
        receiver: Receiver,
        report: Callable[[Sequence[Outcome]], None],
        take_prefetched: Callable[[str, float], list[Lease]],
        *,
        limit: int,
        lease_for: float,
        max_lost: int,
    ) -> None:
        self.leases: list[Lease] = []
        self._receiver = receiver
        self._report = report
        self._take_prefetched = take_prefetched
        self._limit = limit
        self._lease_for = lease_for
        self._max_lost = max(1, max_lost)
        self._refusals: list[BackendError] = []
        self._is_cut_short = False
        """Whether SQS became unavailable after some leases were received."""

    def add(self, queue_names: Sequence[str], wait_seconds: int) -> None:
        """Reserve from *queue_names*; an empty queue gets a long poll while there are no leases.

        Raises `BackendUnavailable` only when there are no leases yet.
        """
        for name in queue_names:
            if len(self.leases) >= self._limit or self._is_cut_short:
                break
            try:
                self.leases += self._reserve(name, 0 if self.leases else wait_seconds)
            except BackendUnavailable:
                if not self.leases:
                    raise
                self._is_cut_short = True
            except BackendError as error:  # of this queue only
                self._refusals.append(error)

    def result(self) -> list[Lease]:
        """Return the leases; raise the first error of a single queue when there are none.

        A task that was lost before is returned alone, and the others are released.
        """
        if self._refusals and not self.leases:
            raise self._refusals[0]
        suspect = next((lease for lease in self.leases if lease.lost), None)
        if suspect is None or len(self.leases) == 1:
            return self.leases
        others = [lease for lease in self.leases if lease is not suspect]
        try:
            self._report([Outcome("release", lease) for lease in others])
        except BackendError as error:
            log.warning(
                "could not release %d tasks; available again when their leases expire: %s",
                len(others),
                error,
            )
        return [suspect]

    def _reserve(self, name: str, wait_seconds: int) -> list[Lease]:
        """Return leases of one queue; dead-letter tasks that were lost too often."""
        limit = self._limit - len(self.leases)
        while True:
            found = self._take_prefetched(name, self._lease_for)
            found = self._receiver.receive_more(found, name, limit, self._lease_for, wait_seconds)
            leases = [lease for lease in found if lease.lost < self._max_lost]
            for lease in found:
                if lease.lost >= self._max_lost:
                    self._bury(lease)
            if leases or not found:
                return leases
            wait_seconds = 0

    def _bury(self, lease: Lease) -> None:
        reason = f"lost {lease.lost} times: its worker died or froze while it ran"
        try:
            self._report([Outcome("dead", lease, reason=reason)])
        except BackendError as error:
            log.warning(
                "could not dead-letter task %s; trying again when its lease expires: %s",
                lease.task_id,
                error,
            )
