"""Show what was measured: a table of the figures beside their goals, and of two runs side by side."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from string import ascii_lowercase
from typing import Any, NamedTuple

from tests.benchmarks.environments import PEERS
from tests.benchmarks.figures import EXPERIMENTS, Experiment, Figure, Goal

BEGIN, END = "<!-- the table of python -m tests.benchmarks -->", "<!-- end of the table -->"

HEADINGS = ("#", "figure", "ours", "raw limit", "ratio", "best peer", "goal", "met?")


class Spread(NamedTuple):
    """The median of what was measured several times, and how far it spreads."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return number(self.middle)
        return f"{number(self.middle)} ({number(self.least)}…{number(self.most)})"


class Row(NamedTuple):
    """One line of the table."""

    figure: Figure
    ours: Spread | None
    raw: Spread | None
    ratio: Spread | None
    peer: str
    """The name of the best of the peers; empty when none took part."""
    peer_value: Spread | None
    peer_ratio: Spread | None
    verdicts: Sequence[tuple[Goal, bool | None]]
    """Of each goal whether it is met; None when there is nothing to judge by."""

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of the line."""
        peer = ""
        if self.peer_value is not None and self.peer_ratio is not None:
            peer = f"{self.peer} {self.peer_value}; ours is {number(self.peer_ratio.middle)} x"
        raw = f"{self.figure.raw_title}: {self.raw}" if self.raw is not None else ""
        words = {True: "yes", False: "**no**", None: "-"}
        return (
            self.figure.number,
            f"{self.figure.title}, {self.figure.unit}",
            str(self.ours or "-"),
            raw,
            str(self.ratio or ""),
            peer,
            "; ".join(_goal(self.figure, goal) for goal, _ in self.verdicts),
            "; ".join(words[met] for _, met in self.verdicts),
        )


def number(value: float) -> str:
    """Write a number with the digits that mean something.

    >>> [number(each) for each in (12345.6, 123.4, 12.34, 1.234, 0.01234)]
    ['12,346', '123', '12.3', '1.23', '0.0123']
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _goal(figure: Figure, goal: Goal) -> str:
    limit = "the limit" if goal.to and goal.to != "best peer" else goal.to
    sign, bound = ("≥", goal.at_least) if goal.at_least is not None else ("≤", goal.at_most)
    return f"{sign} {bound:g} x {limit}" if limit else f"{sign} {bound:g} {figure.unit}"


def rows(results: Mapping[str, Any]) -> list[Row]:
    """Read every figure off the results of a run, in the order of their numbers."""
    found = [
        read(figure, results["experiments"][name]["rounds"])
        for name, experiment in EXPERIMENTS.items()
        if name in results["experiments"]
        for figure in experiment.figures
    ]
    return sorted(
        found, key=lambda row: (int(row.figure.number.rstrip(ascii_lowercase)), row.figure.number)
    )


def read(figure: Figure, rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> Row:
    """Read a figure off its rounds: ratios within each round, medians over all."""

    def values(case: str) -> list[float]:
        return [each[case][figure.metric] for each in rounds if figure.metric in each.get(case, {})]

    def ratios(case: str) -> Spread | None:
        return spread(
            each[figure.case][figure.metric] / each[case][figure.metric]
            for each in rounds
            if figure.metric in each.get(figure.case, {}) and each.get(case, {}).get(figure.metric)
        )

    best = min if figure.less_is_better else max
    peers = {
        case: median(values(case))
        for case in {case for each in rounds for case in each}
        if figure.peers and case in PEERS and values(case)
    }
    peer = best(peers, key=lambda case: peers[case]) if peers else ""
    ours = spread(values(figure.case))
    # What is a difference itself, and next to nothing, is not for dividing.
    ratio = None if figure.metric == "added" else ratios(figure.raw)
    peer_ratio = ratios(peer) if peer else None
    verdicts: list[tuple[Goal, bool | None]] = []
    for goal in figure.goals:
        judged = {"": ours, "best peer": peer_ratio}.get(goal.to, ratio)
        verdicts.append((goal, goal.is_met(judged.middle) if judged is not None else None))
    return Row(
        figure,
        ours,
        spread(values(figure.raw)),
        ratio,
        peer,
        spread(values(peer)) if peer else None,
        peer_ratio,
        verdicts,
    )


def spread(values: "Sequence[float] | Iterator[float]") -> Spread | None:
    """Find the median and the extremes; None of nothing."""
    found = sorted(values)
    return Spread(median(found), found[0], found[-1]) if found else None


def markdown(results: Mapping[str, Any]) -> str:
    """Write the table, and what it was measured on, as Markdown."""
    lines = [
        f"| {' | '.join(HEADINGS)} |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(row.cells)} |" for row in rows(results)),
        "",
        *notes(results),
    ]
    return "\n".join(lines)


def notes(results: Mapping[str, Any]) -> Iterator[str]:
    """Say on what, when, with what, and how disturbed it was measured, in paragraphs."""
    facts = results["machine"]
    repeats = max((len(each["rounds"]) for each in results["experiments"].values()), default=0)
    crowd = results["sizes"]["crowd"]
    yield (
        f"Measured on {results['started']} UTC at commit {results['commit']}: {facts['cpu']}, "
        f"{facts['memory']}, {facts['system']}, Python {facts['python']}, {facts['store']}; "
        f"{repeats} repeats; “many” is {crowd:,} tasks."
    )
    for note in results.get("notes", ()):
        yield ""
        yield note
    versions = {
        library: version
        for listed in reversed(results["versions"].values())
        for library, version in listed.items()
    }
    yield ""
    yield "With " + ", ".join(f"{name} {versions[name]}" for name in sorted(versions)) + "."
    disturbances = [
        f"{name} {max(each['foreign']):.1f}"
        for name, each in results["experiments"].items()
        if each["foreign"] and max(each["foreign"]) > 0.25
    ]
    if disturbances:
        yield ""
        yield f"Others used more than a quarter of a core during: {', '.join(disturbances)}."
    failures = [
        f"{case} in {name}"
        for name, each in results["experiments"].items()
        for case in each["failures"]
    ]
    if failures:
        yield ""
        yield f"Could not be measured: {', '.join(failures)}."


def merge(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put later runs of some figures in the place of those of the first, and say so in its notes."""
    merged = dict(runs[0])
    merged["experiments"] = dict(merged["experiments"])
    merged["notes"] = []
    for run in runs[1:]:
        merged["experiments"].update(run["experiments"])
        numbers = ", ".join(row.figure.number for row in rows(run))
        merged["notes"].append(
            f"Measured in another run, on {run['started']} UTC at commit {run['commit']}: {numbers}."
        )
    return merged


def write(path: Path, text: str) -> None:
    """Put *text* between the two markers of a page; without them it becomes the page."""
    page = path.read_text() if path.exists() else ""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    path.write_text(
        f"{head}{begin}\n{text}\n{end}{tail}" if begin and end else f"{text}\n", encoding="utf-8"
    )


def compare(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, str, str]]:
    """Put two runs side by side, by the ratio to the limit where there is one.

    A change counts when the ranges of the two do not meet.
    """
    before = {row.figure.number + row.figure.title: row for row in rows(old)}
    for row in rows(new):
        was = before.get(row.figure.number + row.figure.title)
        a, b = (was.ratio or was.ours if was else None), row.ratio or row.ours
        if a is None or b is None:
            continue
        word = ""
        if b.least > a.most or b.most < a.least:
            word = "worse" if (b.middle > a.middle) == row.figure.less_is_better else "better"
        change = f"{(b.middle / a.middle - 1) * 100:+.0f} %" if a.middle else ""
        yield f"{row.figure.number} {row.figure.title}", str(a), str(b), change, word


def chosen(numbers: Sequence[str]) -> list[Experiment]:
    """Find the experiments of these figures, by number or by name; all of them for none."""
    return [
        each
        for each in EXPERIMENTS.values()
        if not numbers or each.name in numbers or each.numbers & set(numbers)
    ]
