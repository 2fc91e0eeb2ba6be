"""The catalogue of faults, and how one is run."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from traceback import format_exc
from typing import NamedTuple

from tests.faults.audit import audit
from tests.faults.harness import Broken, Harness, opened
from tests.harness.store_servers import Missing

EVERYWHERE = ("sqlite", "redis", "postgres")

QUICK = ("sqlite", "redis", "redis-always")
"""The stores that every test run uses, for faults that are not of one store only."""

FORGETFUL = ("redis-none",)
"""Stores that may lose accepted tasks: the losses are only measured."""

UNCOUNTED = ("sqs",)
"""Stores without counters, which may give a task to two workers."""

SOAK_SECONDS = 30.0
"""How long the soak lasts by default."""


class Fault(NamedTuple):
    """A fault, and the stores on which it is run."""

    name: str
    do: Callable[[Harness], None]
    kinds: tuple[str, ...]
    quick: bool
    """Whether every test run includes it."""

    @property
    def about(self) -> str:
        """Return the description of the fault."""
        return " ".join((self.do.__doc__ or "").split())


class Row(NamedTuple):
    """The result of a fault: a row of the table."""

    fault: str
    kind: str
    injections: int = 0
    tasks: int = 0
    lost: int = 0
    duplicated: int = 0
    rejected_but_run: int = 0
    unknown: int = 0
    recovery: float | None = None
    notes: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


FAULTS: dict[str, Fault] = {}


def fault(*kinds: str, quick: bool = False) -> Callable[[Callable[[Harness], None]], Fault]:
    """Register a function in the catalogue under its name; a decorator."""

    def add(do: Callable[[Harness], None]) -> Fault:
        name = do.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, do, kinds or EVERYWHERE, quick)
        return FAULTS[name]

    return add


def run_fault(one: Fault, kind: str, seed: int, *, exhaustive: bool = True) -> Row:
    """Run the fault in a new harness, wait until all tasks have run, and audit the result."""
    with (
        tempfile.TemporaryDirectory(prefix="gator-", ignore_cleanup_errors=True) as folder,
        opened(kind, Path(folder), seed, exhaustive=exhaustive) as harness,
    ):
        try:
            one.do(harness)
            harness.drain()
            trouble = [f"damaged: {text}" for text in harness.store.damage()]
        except Missing:
            raise
        except Broken as error:
            trouble = [str(error)]
        except Exception:
            trouble = [f"the fault could not be injected: {format_exc()}"]
        found = audit(
            harness.audit_log,
            harness.store.census(),
            harness.gator.stats(),
            killed_or_frozen=harness.killed_or_frozen,
            outages=harness.outages,
            extra=harness.extra,
            doomed=harness.doomed,
            forgets=harness.forgets or (kind in FORGETFUL and harness.outages > 0),
            lossy=harness.lossy,
            counts=kind not in UNCOUNTED,
            killed=harness.killed,
            outage_times=harness.outage_times,
            forgets_reports=harness.forgets_reports,
            spools="ALLIGATOR_SPOOL" in harness.environ,
        )
        return Row(
            one.name,
            kind,
            harness.injections,
            found.tasks,
            len(found.lost),
            found.duplicated,
            len(found.rejected_but_run),
            found.unknown,
            harness.measured,
            tuple(harness.notes),
            (*trouble, *found.broken),
        )
