"""Places limit how many tasks of each kind run at once."""

from alligator.workers.places import Places


def test_total_is_for_both_kinds() -> None:
    places = Places(2)

    taken = [places.take_for_plain(), places.take_for_coroutine(), places.take_for_coroutine()]

    assert taken == [True, True, False]
    assert (places.free(), places.free_for_plain(), places.coroutines) == (0, 0, 1)
    places.give_back_plain()
    assert places.take_for_coroutine()
    places.give_back_coroutine()
    assert places.free() == 1


def test_kinds_have_places_of_their_own_without_a_total() -> None:
    places = Places()

    assert places.free() == 101
    assert [places.take_for_plain(), places.take_for_plain()] == [True, False]
    assert sum(places.take_for_coroutine() for _ in range(200)) == 100
    assert places.free() == 0


def test_place_may_be_taken_for_what_runs_already() -> None:
    places = Places(1)

    assert places.take_for_plain(always=True)
    assert places.take_for_plain(always=True)
    assert places.free() == 0
    places.give_back_plain()
    assert places.free() == 0
