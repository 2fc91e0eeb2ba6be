"""The faults of every test run: about a minute, always with the same seed."""

import pytest

from tests.faults import registry
from tests.faults.catalogue import FAULTS, QUICK, Fault, run_fault
from tests.harness.requirements import needed

__all__ = ["registry"]

SEED = 20

TWINS = {
    ("database-django", "redis-always"),
    ("database-fastapi", "sqlite"),
    ("store-killed-with-slow-disk", "redis-always"),
}
"""Cases that differ from another of this run only in the store: `make test-all` has them."""


def marks(fault: Fault, kind: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if (fault.name, kind) in TWINS else []


CHOSEN = [
    pytest.param(fault, kind, id=f"{fault.name}-{kind}", marks=marks(fault, kind))
    for fault in FAULTS.values()
    if fault.quick
    for kind in fault.kinds
    if kind in QUICK or fault.kinds == (kind,)
]


@pytest.mark.parametrize(("fault", "kind"), CHOSEN)
def test_promise_is_kept(fault: Fault, kind: str) -> None:
    with needed():
        row = run_fault(fault, kind, SEED, exhaustive=False)

    repeat = f"python -m tests.faults --seed {SEED} --only {fault.name}"
    assert not row.broken, "\n".join([*row.broken, repeat])
