"""All faults by name, and what came of one of them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from traceback import format_exc
from typing import NamedTuple

from tests.faults.books import audit
from tests.faults.house import Broken, House, opened

EVERYWHERE = ("sqlite", "redis")

FORGETFUL = ("redis-none", "redis-sentinel")
"""Stores that may lose what they took when they are struck: how much is measured."""

UNCOUNTED = ("sqs",)
"""Stores that do not count, and hand a task to two workers at times."""

SOAK_SECONDS = 30.0
"""How long the random mix lasts, unless told otherwise."""


class Fault(NamedTuple):
    """Something that is done to a house, and the kinds of store that it is done to."""

    name: str
    do: Callable[[House], None]
    kinds: tuple[str, ...]
    quick: bool
    """Whether it is one of those that the tests do each time."""

    @property
    def about(self) -> str:
        """Say what is done."""
        return " ".join((self.do.__doc__ or "").split())


class Row(NamedTuple):
    """What came of a fault: a line of the table."""

    fault: str
    kind: str
    strikes: int = 0
    tasks: int = 0
    lost: int = 0
    duplicated: int = 0
    contrary: int = 0
    unknown: int = 0
    recovery: float | None = None
    notes: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


FAULTS: dict[str, Fault] = {}


def fault(*kinds: str, quick: bool = False) -> Callable[[Callable[[House], None]], Fault]:
    """Put a function into the catalogue, under its name."""

    def add(do: Callable[[House], None]) -> Fault:
        name = do.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, do, kinds or EVERYWHERE, quick)
        return FAULTS[name]

    return add


def suffer(one: Fault, kind: str, seed: int, *, thorough: bool = True) -> Row:
    """Do it to a new house, wait until all is quiet, and look into the books."""
    with (
        tempfile.TemporaryDirectory(prefix="gator-", ignore_cleanup_errors=True) as folder,
        opened(kind, Path(folder), seed, thorough=thorough) as house,
    ):
        try:
            one.do(house)
            house.drain()
            trouble = [f"damaged: {text}" for text in house.store.damage()]
        except Broken as error:
            trouble = [str(error)]
        except Exception:
            trouble = [f"the fault could not be done: {format_exc()}"]
        found = audit(
            house.books,
            house.store.census(),
            house.gator.stats(),
            struck=house.struck,
            outages=house.outages,
            extra=house.extra,
            doomed=house.doomed,
            forgets=kind in FORGETFUL and house.outages > 0,
            lossy=house.lossy,
            counts=kind not in UNCOUNTED,
        )
        return Row(
            one.name,
            kind,
            house.strikes,
            found.tasks,
            len(found.lost),
            found.duplicated,
            len(found.contrary),
            found.unknown,
            house.measured,
            tuple(house.notes),
            (*trouble, *found.broken),
        )
