"""Count durations in buckets, which can be added up over any number of processes."""

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
)
"""The upper bounds of the buckets, in seconds; one more bucket has no bound. Stores keep the counts by
the index in this list, so new bounds may only be appended."""

SIZE: Final = len(BOUNDS) + 1
TOTAL: Final = "us"
"""The key of the total number of microseconds."""


class Histogram:
    """Counts of durations by bucket.

    One thread adds to it, and others may read `figures` meanwhile, so that it needs no lock.
    """

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        # The counts of the buckets, then the total of microseconds. The copy of a list is atomic.
        self._numbers = [0] * (SIZE + 1)

    @classmethod
    def read(cls, name: str, figures: Mapping[str, int]) -> "Histogram":
        """Return the histogram that has *name* in the figures of a store."""
        histogram = cls()
        keys = [*map(str, range(SIZE)), TOTAL]
        histogram._numbers = [figures.get(f"{name}:{key}", 0) for key in keys]
        return histogram

    def figures(self, name: str) -> dict[str, int]:
        """Return it as figures, which a store adds to its own."""
        *buckets, total = self._numbers.copy()
        found = {f"{name}:{place}": number for place, number in enumerate(buckets) if number}
        return {**found, f"{name}:{TOTAL}": total} if found else {}

    def add(self, seconds: float) -> None:
        """Count a duration."""
        numbers = self._numbers
        numbers[bisect_left(BOUNDS, seconds)] += 1
        numbers[-1] += int(seconds * 1e6)

    @property
    def buckets(self) -> list[int]:
        """The count of each bucket."""
        return self._numbers[:-1]

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self.buckets)

    @property
    def seconds(self) -> float:
        """The sum of all durations."""
        return self._numbers[-1] / 1e6

    @property
    def mean(self) -> float | None:
        """The mean duration; None if there is none."""
        return self.seconds / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """Return the duration that a *share* of them did not exceed; None if there is none.

        It is the upper bound of a bucket; for the bucket without a bound, the last bound. If the
        longest possible duration, computed from the sum of all, is smaller, it is that one.
        """
        if not self.count:
            return None
        rank = share * self.count
        for place, upto in enumerate(accumulate(self.buckets[:-1])):
            if upto >= rank and upto:
                return min(BOUNDS[place], self._longest())
        return BOUNDS[-1]

    def _longest(self) -> float:
        """Return the longest possible duration: that of one if all others were as short as possible."""
        lowest = [0.0, *BOUNDS]
        least = sum(count * lower for count, lower in zip(self.buckets, lowest, strict=True))
        highest = max(place for place, count in enumerate(self.buckets) if count)
        # Each was rounded down to a microsecond.
        return self.seconds + self.count * 1e-6 - least + lowest[highest]
