"""The tests of the payload detect mistakes in the payload."""

import pytest

from tests.faults.payload_mutants import PAYLOAD_MUTANTS, PayloadMutant, survives

SOME = [
    mutant if number % 6 == 0 else pytest.param(mutant, marks=pytest.mark.slow)
    for number, mutant in enumerate(PAYLOAD_MUTANTS)
]


@pytest.mark.parametrize("mutant", SOME, ids=lambda mutant: f"{mutant.module}: {mutant.name}")
def test_mistake_in_the_payload_is_noticed(mutant: PayloadMutant) -> None:
    assert not survives(mutant)
