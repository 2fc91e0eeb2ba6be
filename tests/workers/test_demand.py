"""A dispatcher reserves what has a place, and short tasks ahead of time."""

import pytest

from alligator.workers.demand import LOOK_AHEAD, MAX_BATCH, Demand
from alligator.workers.places import Places


def fast(demand: Demand) -> Demand:
    for kind in (demand.plain, demand.coroutines):
        for _ in range(100):
            kind.note_end(1e-6)
    return demand


def slow(demand: Demand) -> Demand:
    for kind in (demand.plain, demand.coroutines):
        for _ in range(100):
            kind.note_end(10.0)
    return demand


def test_long_tasks_are_reserved_only_for_free_places() -> None:
    places = Places(10)
    demand = slow(Demand(places))

    assert demand.room(0, 0) == 10
    assert demand.room(3, 4) == 3
    for _ in range(10):
        places.take_for_coroutine()
    assert demand.room(0, 0) == 0


def test_short_tasks_are_reserved_ahead_in_growing_numbers() -> None:
    demand = fast(Demand(Places(1)))

    rooms = [demand.room(0, 0) for _ in range(10)]

    assert rooms[:4] == [2, 4, 8, 16]
    assert rooms[-1] == MAX_BATCH


def test_short_tasks_are_reserved_again_when_half_of_them_have_started() -> None:
    demand = fast(Demand(Places(1)))
    for _ in range(10):
        demand.room(0, 0)

    assert demand.room(MAX_BATCH // 2 + 1, 0) == 0
    assert demand.room(MAX_BATCH // 2, 0) == MAX_BATCH // 2


def test_never_more_than_a_batch_is_reserved_at_once() -> None:
    assert Demand(Places(10_000)).room(0, 0) == MAX_BATCH


def test_tasks_without_a_place_are_looked_at_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("alligator.workers.demand.monotonic", lambda: now[0])
    places = Places()
    demand = slow(Demand(places))
    places.take_for_plain()
    assert demand.room(0, 100) == 0
    assert demand.room(0, 0) == LOOK_AHEAD  # no plain task has a place

    demand.note_overflow(99, 0)
    assert demand.room(1, 0) == 0  # only for plain tasks, which have no place
    places.give_back_plain()
    assert demand.room(0, 0) == 1
    places.take_for_plain()
    now[0] += demand.pause_left()
    assert demand.room(1, 0) == LOOK_AHEAD

    pauses = []
    for _ in range(10):
        demand.note_overflow(99, 0)
        pauses.append(demand.pause_left())
        now[0] += pauses[-1]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(1.0)
    demand.note_found(1, 1)
    assert demand.pause_left() == 0


def test_one_kind_alone_is_looked_for_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("alligator.workers.demand.monotonic", lambda: now[0])
    demand = Demand(Places())

    looks = [demand.room(0, 150), demand.room(0, 150)]
    now[0] += demand.pause_left()
    looks.append(demand.room(0, 150))

    assert looks == [LOOK_AHEAD, 0, LOOK_AHEAD]


def test_kind_that_was_not_found_is_not_reserved_before_the_next_look() -> None:
    demand = slow(Demand(Places()))
    demand.note_overflow(18, 19)
    assert demand.room(0, 0) == 101

    demand.note_overflow(0, 1)  # for the place of a plain task, a coroutine was found

    assert demand.room(0, 0) == 100


def test_keep_is_what_has_a_place_or_will_have_one_soon() -> None:
    places = Places()

    assert slow(Demand(places)).keep() == (2, 101)
    assert fast(Demand(places)).keep() == (1 + MAX_BATCH, 100 + MAX_BATCH)
