"""The tests of the stores detect mistakes in the stores."""

from pathlib import Path
from uuid import uuid4

import pytest

from tests.faults.mutant import Mutant, changed, survives
from tests.faults.mutants import MUTANTS

# The end of a usual timeout would count as if the mistake had been noticed.
pytestmark = pytest.mark.timeout(900)

SOME = [
    mutant if number % 10 == 0 else pytest.param(mutant, marks=pytest.mark.slow)
    for number, mutant in enumerate(MUTANTS)
]


def test_every_mistake_has_its_place_in_the_source() -> None:
    for mutant in MUTANTS:
        changed(mutant)


@pytest.mark.parametrize("mutant", SOME, ids=lambda mutant: f"{mutant.file}: {mutant.name}")
def test_mutant_is_noticed(mutant: Mutant, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if mutant.is_of_sqlite:
        dsn = f"sqlite://{tmp_path}/queue.db"
    else:
        dsn = f"{request.getfixturevalue('valkey')}?ns={uuid4().hex}"

    assert not survives(mutant, dsn)
