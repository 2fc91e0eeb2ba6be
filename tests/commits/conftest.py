"""A store that records its trips, and what pushes commits to it."""

import pytest

from alligator.commits.committer import Committer
from tests.harness.trip_store import TripStore


@pytest.fixture
def store() -> TripStore:
    return TripStore()


@pytest.fixture
def committer(store: TripStore) -> Committer:
    return Committer(store, breaker=False)
