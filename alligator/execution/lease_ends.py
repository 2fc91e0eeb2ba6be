"""The times until which the leases of this process are known to hold."""

import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from math import inf

from ..backends.base import Lease
from ..constants import LEASE_SECONDS

MARGIN = 0.05
"""The part of a lease that is not relied on, because a task takes a moment to start."""


def _choose_clock() -> Callable[[], float]:
    number = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic if number is None else partial(time.clock_gettime, number)


clock: Callable[[], float] = _choose_clock()
"""Return monotonic seconds, including those for which the process is frozen or the computer sleeps."""


class LeaseEnds:
    """What a worker knows about its leases: until when they were extended, and which are lost.

    A worker that was frozen for longer than a lease must not start a task that it had reserved
    before: another worker may have run it since. So each task is checked just before it starts.
    """

    def __init__(self, lease_for: float = LEASE_SECONDS) -> None:
        self._seconds = lease_for * (1 - MARGIN)
        self._extended: dict[Lease, float] = {}
        self.lost: Collection[Lease] = ()
        """The leases that the store reported as lost at the last extension."""
        self.canceled: dict[Lease, float] = {}
        """The leases whose tasks were canceled, and since when this is known."""
        self.skipped: int = 0
        """How many tasks were not started because their lease may have ended."""

    def end_of(self, asked: float) -> float:
        """Return the end of a lease for which the store was asked at the time *asked*."""
        return asked + self._seconds

    def note_extension(self, leases: Iterable[Lease], lost: Iterable[Lease], asked: float) -> None:
        """Record an extension of *leases*, for which the store was asked at the time *asked*."""
        self.lost = frozenset(lost)
        self._extended = dict.fromkeys(leases, self.end_of(asked))

    def until(self, lease: Lease, known: float) -> float:
        """Return the end of *lease*; *known* is the end that was known when it was reserved."""
        if lease in self.lost or lease in self.canceled:
            return -inf
        return max(known, self._extended.get(lease, known))

    def holds(self, lease: Lease, known: float) -> bool:
        """Return whether *lease* still holds; for *known* see `until`."""
        now = clock()
        # The first condition is the usual case, which must be quick.
        is_sure = now < known and not self.lost and not self.canceled
        return is_sure or now < self.until(lease, known)
