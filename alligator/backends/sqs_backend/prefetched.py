"""Leases that a thread has received while it waited, for its next step."""

from threading import local
from time import monotonic

from ..._runtime.forks import register_fork_hooks
from ...constants import LEASE_SECONDS
from ..base import Lease

KEEP_SECONDS = LEASE_SECONDS / 2
"""How long a lease is kept. After that another worker may soon receive its task."""


class Prefetched:
    """The received leases of each thread."""

    def __init__(self) -> None:
        self.after_fork_in_child()
        register_fork_hooks(self)

    def after_fork_in_child(self) -> None:
        """Start empty, as the leases of the parent are not the child's."""
        self._own = local()

    def add(self, leases: list[Lease]) -> None:
        """Keep *leases* for the next step of this thread."""
        until = monotonic() + KEEP_SECONDS
        self._leases = [*self._leases, *((until, lease) for lease in leases)]

    def of(self, queue_name: str) -> list[Lease]:
        """Return the kept leases of a queue that are recent enough."""
        now = monotonic()
        return [
            lease for until, lease in self._leases if lease.queue_name == queue_name and until > now
        ]

    def discard(self, queue_name: str) -> None:
        """Forget the leases of a queue, and all old ones."""
        now = monotonic()
        self._leases = [
            (until, lease)
            for until, lease in self._leases
            if lease.queue_name != queue_name and until > now
        ]

    def pop_all(self) -> list[Lease]:
        """Return all leases of this thread, and forget them."""
        leases, self._leases = self._leases, []
        return [lease for _, lease in leases]

    @property
    def _leases(self) -> list[tuple[float, Lease]]:
        """The leases of this thread, each with the monotonic time until which it is kept."""
        leases: list[tuple[float, Lease]] = getattr(self._own, "leases", [])
        return leases

    @_leases.setter
    def _leases(self, leases: list[tuple[float, Lease]]) -> None:
        self._own.leases = leases
