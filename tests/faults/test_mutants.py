"""The tests of the stores detect mistakes in the stores."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.faults.mutant import Mutant, changed, survives
from tests.faults.mutants import MUTANTS
from tests.harness.postgres_servers import postgres_server
from tests.harness.requirements import needed

# The end of a usual timeout would count as if the mistake had been noticed.
pytestmark = pytest.mark.timeout(900)

SOME = [
    mutant if number % 10 == 0 else pytest.param(mutant, marks=pytest.mark.slow)
    for number, mutant in enumerate(MUTANTS)
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Yield the DSN of a PostgreSQL."""
    with needed(), postgres_server() as server:
        yield server.dsn


def test_every_mistake_has_its_place_in_the_source() -> None:
    for mutant in MUTANTS:
        changed(mutant)


@pytest.mark.parametrize("mutant", SOME, ids=lambda mutant: f"{mutant.file}: {mutant.name}")
def test_mutant_is_noticed(mutant: Mutant, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if mutant.is_of_sqlite:
        dsn = f"sqlite://{tmp_path}/queue.db"
    elif mutant.is_of_postgres:
        dsn = f"{request.getfixturevalue('postgres')}?schema=test_{uuid4().hex}&timeout=60"
    else:
        dsn = f"{request.getfixturevalue('valkey')}?ns={uuid4().hex}"

    assert not survives(mutant, dsn)
