"""Turn a history of numbers into the path of a chart."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 300, 60
"""The coordinates of a chart; the page stretches it."""


class Chart(NamedTuple):
    """A line, and the area below it, as the ``d`` of an SVG path."""

    line: str
    area: str
    peak: float
    latest: float


def draw(values: Sequence[float], top: float | None = None) -> Chart | None:
    """Draw *values*, the oldest first; None when there are too few for a line.

    >>> draw([0, 2, 1]).line
    'M0 59L150 1L300 30'
    """
    if len(values) < 2:
        return None
    peak = max(values)
    # A line of its own width stays within the chart; a flat one lies at the bottom.
    scale = (HEIGHT - 2) / max(top or peak, 1)
    step = WIDTH / (len(values) - 1)
    points = [
        f"{_short(number * step)} {_short(HEIGHT - 1 - max(0, value) * scale)}"
        for number, value in enumerate(values)
    ]
    line = "M" + "L".join(points)
    return Chart(line, f"{line}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z", peak, values[-1])


def total(histories: Iterable[Sequence[Mapping[str, Any]]], key: str) -> list[float]:
    """Add up what several histories say of *key*; each holds its last value until its next.

    Before its first it is taken to have been as it was then.

    >>> mail = [{"time": "1", "ready": 3}, {"time": "3", "ready": 5}]
    >>> total([mail, [{"time": "2", "ready": 1}]], "ready")
    [4, 4, 6]
    """
    several = [history for history in histories if history]
    moments = sorted({str(sample["time"]) for history in several for sample in history})
    sums: dict[str, float] = dict.fromkeys(moments, 0)
    for history in several:
        said = {str(sample["time"]): sample.get(key) or 0 for sample in history}
        value: float = history[0].get(key) or 0
        for moment in moments:
            value = said.get(moment, value)
            sums[moment] += value
    return list(sums.values())


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
