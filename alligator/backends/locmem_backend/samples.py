"""The samples of a queue in memory."""

from collections import deque
from collections.abc import Callable

from ..base import QueueStats, Sample
from ..stats import SAMPLE_SECONDS, SAMPLES


class Samples:
    """The samples of the last minutes. *now* is a time of the monotonic clock."""

    def __init__(self) -> None:
        self._taken: deque[tuple[float, QueueStats]] = deque(maxlen=SAMPLES)
        """Each with the moment at which it was taken."""

    def take(self, stats: Callable[[float], QueueStats], now: float) -> None:
        """Take a sample of *stats*, unless the current ten seconds have one."""
        slot = now // SAMPLE_SECONDS
        if not self._taken or self._taken[-1][0] // SAMPLE_SECONDS < slot:
            self._taken.append((now, stats(now)))

    def history(self, now: float) -> list[Sample]:
        """Return the samples, the oldest first."""
        return [
            Sample(
                now - at,
                *(stats.ready, stats.scheduled, stats.leased, stats.dead),
                *(stats.pushed, stats.succeeded, stats.failed, stats.dropped),
            )
            for at, stats in self._taken
            if now - at < SAMPLE_SECONDS * SAMPLES
        ]
