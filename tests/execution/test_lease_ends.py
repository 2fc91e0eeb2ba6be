"""A lease holds until it ends, is extended, or is reported as lost."""

import time

import pytest

from alligator import Lease
from alligator.execution import lease_ends
from alligator.execution.lease_ends import LeaseEnds, clock

LEASE, OTHER = Lease("all", "1", "{}", 1), Lease("all", "2", "{}", 2)


class Clock:
    """A clock that tests set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(lease_ends, "clock", fake)
    return fake


def test_lease_holds_for_less_than_its_time(now: Clock) -> None:
    ends = LeaseEnds(60)
    known = ends.end_of(now.now)

    assert ends.holds(LEASE, known)
    now.now += 50
    assert ends.holds(LEASE, known)
    now.now += 9.9
    assert not ends.holds(LEASE, known)


def test_extended_lease_holds_from_then_on(now: Clock) -> None:
    ends = LeaseEnds(60)
    known = ends.end_of(now.now)
    ends.note_extension([LEASE], [], now.now + 50)
    now.now += 100

    assert ends.holds(LEASE, known)
    assert not ends.holds(OTHER, known)
    now.now += 10
    assert not ends.holds(LEASE, known)


def test_extension_does_not_shorten_a_lease(now: Clock) -> None:
    ends = LeaseEnds(60)
    ends.note_extension([LEASE], [], now.now - 50)

    assert ends.until(LEASE, ends.end_of(now.now)) == ends.end_of(now.now)


def test_lost_lease_does_not_hold(now: Clock) -> None:
    ends = LeaseEnds(60)
    known = ends.end_of(now.now)
    ends.note_extension([LEASE, OTHER], [LEASE], now.now)

    assert not ends.holds(LEASE, known)
    assert ends.holds(OTHER, known)


def test_lost_leases_are_forgotten_with_the_next_extension(now: Clock) -> None:
    ends = LeaseEnds(60)
    ends.note_extension([LEASE], [LEASE], now.now)
    ends.note_extension([OTHER], [], now.now)

    assert ends.lost == frozenset()


def test_clock_is_monotonic_and_counts_suspended_time() -> None:
    if hasattr(time, "CLOCK_BOOTTIME"):
        assert abs(clock() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
    assert clock() <= clock()


def test_lease_of_a_canceled_task_does_not_hold(now: Clock) -> None:
    ends = LeaseEnds(60)
    known = ends.end_of(now.now)

    ends.canceled[LEASE] = now.now

    assert not ends.holds(LEASE, known)
    assert ends.holds(OTHER, known)
