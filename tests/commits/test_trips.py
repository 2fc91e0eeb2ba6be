"""Which commits share a trip."""

from time import monotonic

import pytest

from alligator.commits.trips import can_share_trip, not_sent
from alligator.constants import COMMIT_SECONDS

LIMIT = COMMIT_SECONDS


@pytest.mark.parametrize(
    ("first_waited", "other_waited", "can"),
    [
        (0.0, 0.0, True),
        (0.4 * LIMIT, 0.0, True),
        (0.6 * LIMIT, 0.0, False),
        (0.9 * LIMIT, 0.85 * LIMIT, True),
        (2 * LIMIT, 0.0, False),
    ],
)
def test_commits_share_a_trip_if_the_other_has_at_most_twice_the_time(
    first_waited: float, other_waited: float, can: bool
) -> None:
    end = monotonic() + LIMIT

    assert can_share_trip(end - first_waited, end - other_waited) is can


def test_error_of_a_commit_that_was_not_sent_is_local() -> None:
    assert not_sent("no thread could be started").is_local
