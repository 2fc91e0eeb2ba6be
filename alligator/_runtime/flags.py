"""Notice an interrupt once in each thread."""

import threading
from itertools import count


class InterruptFlag:
    """A flag that each thread reads for itself: has there been an interrupt since its last look?

    Neither method takes a lock, so a signal handler may call them.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._latest = 0
        self._seen = threading.local()

    def set(self) -> None:
        """Interrupt all threads."""
        self._latest = next(self._numbers)

    def is_new(self) -> bool:
        """Return whether it was set since this thread last asked."""
        latest = self._latest
        before: int = getattr(self._seen, "number", 0)
        self._seen.number = latest
        return latest != before
