"""The faults that are done at each run of the tests: a minute of them, always with the same seed."""

import pytest

from tests.faults import every
from tests.faults.catalogue import EVERYWHERE, FAULTS, Fault, suffer
from tests.needs import needed

__all__ = ["every"]

SEED = 20

QUICK = [
    pytest.param(fault, kind, id=f"{fault.name}-{kind}")
    for fault in FAULTS.values()
    if fault.quick
    for kind in fault.kinds
    if kind in EVERYWHERE
]


@pytest.mark.parametrize(("fault", "kind"), QUICK)
def test_the_promise_is_kept(fault: Fault, kind: str) -> None:
    with needed():
        row = suffer(fault, kind, SEED, thorough=False)

    repeat = f"python -m tests.faults --seed {SEED} --only {fault.name}"
    assert not row.broken, "\n".join([*row.broken, repeat])
