"""The samples of a queue in memory."""

from collections import deque

from ..base import QueueStats, Sample
from ..stats import SAMPLE_SECONDS, SAMPLES


class Samples:
    """What the numbers of one queue were. *now* is a time of the monotonic clock."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, QueueStats]] = deque(maxlen=SAMPLES)
        """Each with the moment at which it was taken."""

    def is_due(self, now: float) -> bool:
        """Return whether the current ten seconds have no sample."""
        slot = now // SAMPLE_SECONDS
        return not self._samples or self._samples[-1][0] // SAMPLE_SECONDS < slot

    def add(self, stats: QueueStats, now: float) -> None:
        """Add a sample."""
        self._samples.append((now, stats))

    def history(self, now: float) -> list[Sample]:
        """Return the samples, the oldest first."""
        return [
            Sample(
                now - at,
                *(stats.ready, stats.scheduled, stats.leased, stats.dead),
                *(stats.pushed, stats.succeeded, stats.failed, stats.dropped),
            )
            for at, stats in self._samples
            if now - at < SAMPLE_SECONDS * SAMPLES
        ]
