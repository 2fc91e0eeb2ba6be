"""Pauses double with each failure, up to a maximum."""

import pytest

from alligator._runtime.backoff import pause_after


@pytest.mark.parametrize(
    ("failures", "pause"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (5, 3.0), (10**9, 3.0)]
)
def test_pause_doubles_up_to_a_maximum(failures: int, pause: float) -> None:
    assert pause_after(failures, 0.5, 3.0) == pause


def test_pause_of_a_first_pause_of_zero_stays_zero() -> None:
    assert pause_after(10**9, 0.0, 3.0) == 0.0
