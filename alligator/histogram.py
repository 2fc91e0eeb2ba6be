"""Count how long things take, in buckets that any number of processes can add up."""

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
)
"""Up to how many seconds each bucket reaches; one more holds what took longer. Stores keep numbers by
the place in this list, so it may grow at its end only."""

SIZE: Final = len(BOUNDS) + 1
TOTAL: Final = "us"
"""What the microseconds of all are kept under, beside the numbers of the buckets."""


class Histogram:
    """How many times took how long.

    One thread adds to it; others may read `figures` meanwhile. So no lock is needed where time counts.
    """

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        # The buckets, and in the end the microseconds of all: a list, so that a copy is atomic.
        self._numbers = [0] * (SIZE + 1)

    @classmethod
    def read(cls, name: str, figures: Mapping[str, int]) -> "Histogram":
        """Find the one that was written under *name* in the figures of a store."""
        histogram = cls()
        keys = [*map(str, range(SIZE)), TOTAL]
        histogram._numbers = [figures.get(f"{name}:{key}", 0) for key in keys]
        return histogram

    def figures(self, name: str) -> dict[str, int]:
        """Write it as figures for a store, which adds them to what it has."""
        *buckets, total = self._numbers.copy()
        found = {f"{name}:{place}": number for place, number in enumerate(buckets) if number}
        return {**found, f"{name}:{TOTAL}": total} if found else {}

    def add(self, seconds: float) -> None:
        """Count one that took so many *seconds*."""
        self._numbers[bisect_left(BOUNDS, seconds)] += 1
        self._numbers[-1] += int(seconds * 1e6)

    @property
    def buckets(self) -> list[int]:
        """How many fell into each bucket."""
        return self._numbers[:-1]

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.buckets)

    @property
    def seconds(self) -> float:
        """How long all of them took together."""
        return self._numbers[-1] / 1e6

    @property
    def mean(self) -> float | None:
        """How long one took on average; None when there was none."""
        return self.seconds / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """Estimate how long that *share* of them took at the most; None when there was none.

        As Prometheus does it: evenly spread within a bucket, and the last bound for all beyond it.
        """
        rank = share * self.count
        if not self.count:
            return None
        before = 0
        for place, upto in enumerate(accumulate(self.buckets[:-1])):
            if upto >= rank and upto > before:
                lower = BOUNDS[place - 1] if place else 0.0
                return lower + (BOUNDS[place] - lower) * (rank - before) / (upto - before)
            before = upto
        return BOUNDS[-1]
