"""Times in a SQLite file."""

from math import inf

from alligator.backends.sqlite_backend.clock import SECOND, is_set_back, micros, now
from alligator.constants import MAX_SECONDS


def test_seconds_become_whole_microseconds() -> None:
    assert [micros(seconds) for seconds in (0.0000015, 1, -1.0)] == [2, SECOND, 0]
    assert micros(inf) == round(MAX_SECONDS * SECOND)


def test_clock_that_drifts_is_not_set_back() -> None:
    moment = now()

    assert not is_set_back(moment, moment + SECOND)
    assert is_set_back(moment, moment + SECOND + 1)
