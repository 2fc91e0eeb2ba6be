"""Figures, and the experiments that measure them; an experiment consists of shots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from string import ascii_lowercase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.benchmarks.bench import Bench

Metrics = Mapping[str, float]
"""The result of a shot for one case, by the name of the metric."""

OURS, RAW = "alligator", "raw"


@dataclass(frozen=True)
class Shot:
    """One measurement, of one case or of several that are measured in one process."""

    name: str
    fire: "Callable[[Bench], Mapping[str, Metrics]]"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The goal of a figure: a bound for Alligator's value, or for its ratio to another case."""

    at_least: float | None = None
    at_most: float | None = None
    to: str = ""
    """The case that it is compared with; ``best peer``; or nothing for the value itself."""

    def __str__(self) -> str:
        sign, number = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        return f"{sign} {number:g}" + (f" x {self.to}" if self.to else "")

    def is_met(self, value: float) -> bool:
        """Return whether the value, or the ratio, reaches the goal."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number of the table, and its goal."""

    number: str
    title: str
    metric: str
    unit: str
    goals: Sequence[Goal]
    case: str = OURS
    raw: str = RAW
    """The case that is the limit; optional."""
    raw_title: str = ""
    less_is_better: bool = False
    peers: bool = True
    """Whether the other cases are peers, and not limits of other kinds."""


@dataclass(frozen=True)
class Experiment:
    """Shots that are repeated alternately."""

    name: str
    shots: "Callable[[Bench], Sequence[Shot]]"
    figures: Sequence[Figure]
    about: str = field(default="")

    @property
    def numbers(self) -> set[str]:
        """The goals it is about: the digits of its figures' numbers."""
        return {figure.number.rstrip(ascii_lowercase) for figure in self.figures}


EXPERIMENTS: dict[str, Experiment] = {}


def experiment(
    name: str, *figures: Figure
) -> "Callable[[Callable[[Bench], Sequence[Shot]]], Callable[[Bench], Sequence[Shot]]]":
    """Register a function that returns the shots of an experiment, with its figures; a decorator."""

    def note(
        shots: "Callable[[Bench], Sequence[Shot]]",
    ) -> "Callable[[Bench], Sequence[Shot]]":
        described = shots.func if isinstance(shots, partial) else shots
        about = (described.__doc__ or "").partition("\n")[0]
        EXPERIMENTS[name] = Experiment(name, shots, figures, about)
        return shots

    return note


def single(case: str, fire: "Callable[[Bench], Metrics]") -> Shot:
    """Return a shot of one case."""
    return Shot(case, lambda bench: {case: fire(bench)})
