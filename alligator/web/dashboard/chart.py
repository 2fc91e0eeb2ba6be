"""Charts of histories, as SVG paths."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

WIDTH, HEIGHT = 300, 60
"""The size of a chart in its own coordinates; the page scales it."""

SLOT_SECONDS = 10
"""The distance between two points of a chart."""

MAX_SLOTS = 90
"""How far back a chart goes, in slots."""

History = Sequence[Mapping[str, Any]]
"""Samples, the oldest first; each has a ``time`` in ISO 8601, and numbers."""


class Chart(NamedTuple):
    """A line, and the area below it, as the ``d`` of an SVG path."""

    line: str
    area: str
    peak: float


def draw(values: Sequence[float], top: float = 0) -> Chart | None:
    """Return the chart of *values*, the oldest first; None for fewer than two.

    Its upper end is *top*, or the largest value if that is more.

    >>> draw([0, 2, 1]).line
    'M0 59L150 1L300 30'
    """
    if len(values) < 2:
        return None
    peak = max(values)
    # One unit is left at each side for the width of the line; a line of zeros is at the bottom.
    scale = (HEIGHT - 2) / (max(top, peak) or 1)
    step = WIDTH / (len(values) - 1)
    points = [
        f"{_short(number * step)} {_short(HEIGHT - 1 - value * scale)}"
        for number, value in enumerate(values)
    ]
    line = "M" + "L".join(points)
    return Chart(line, f"{line}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z", peak)


def total(histories: Iterable[History | None], key: str) -> list[float]:
    """Return the sum of *key* over *histories*, one value per slot, interpolated between samples.

    >>> mail = [{"time": "1970-01-01T00:00:00Z", "n": 3}, {"time": "1970-01-01T00:00:20Z", "n": 5}]
    >>> total([mail, mail[:1]], "n")
    [6.0, 7.0, 8.0]
    """
    several = [_points(history, key) for history in histories if history]
    if not several:
        return []
    last = max(points[-1][0] for points in several)
    first = max(last - MAX_SLOTS, min(points[0][0] for points in several))
    return [sum(_at(slot, points) for points in several) for slot in range(first, last + 1)]


def changes(counts: Sequence[float]) -> list[float]:
    """Return the growth of a counter per second, between each two of its points.

    >>> changes([10, 20, 50])
    [1.0, 3.0]
    """
    return [max(0, after - before) / SLOT_SECONDS for before, after in pairwise(counts)]


def _points(history: History, key: str) -> list[tuple[int, float]]:
    points = {_slot(sample["time"]): max(0.0, sample.get(key) or 0.0) for sample in history}
    return sorted(points.items())


def _slot(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() // SLOT_SECONDS)


def _at(slot: int, points: Sequence[tuple[int, float]]) -> float:
    """Return the interpolated value at *slot*; beyond the ends it is the nearest point's."""
    for (before, low), (after, high) in pairwise(points):
        if before <= slot <= after:
            return low + (high - low) * (slot - before) / (after - before)
    return points[0][1] if slot < points[0][0] else points[-1][1]


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
