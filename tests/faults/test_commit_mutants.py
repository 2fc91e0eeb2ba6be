"""The tests of commits detect mistakes on their way to the store."""

import pytest

from alligator.commits.committer import Committer
from tests.faults.commit_mutants import MUTANTS, CommitMutant, survives
from tests.harness.trip_store import TripStore

# The threads of a check that fails may end with an exception.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mistake_on_the_way_of_a_commit_is_noticed(mutant: CommitMutant) -> None:
    assert not survives(mutant)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_check_of_a_commit_passes_without_the_mistake(mutant: CommitMutant) -> None:
    store = TripStore()

    mutant.judge(store, Committer(store, breaker=False))
