"""The unique keys of a queue in memory."""

from alligator.backends.locmem_backend.keys import STALE, Keys
from alligator.backends.unique import Unique


def test_keys_that_are_free_are_forgotten() -> None:
    keys = Keys()
    kept = keys.add("kept", Unique("kept"), 0.0)

    for number in range(20 * STALE):
        keys.add("other", Unique(str(number), seconds=1.0), float(number)).finish()

    assert len(keys._holds) <= 2 * STALE
    assert keys.holder("kept", 1e6) is kept


def test_key_is_held_until_the_later_of_start_and_time() -> None:
    hold = Keys().add("a", Unique("k", seconds=5.0), 10.0)
    keys = Keys()
    keys._holds["k"] = hold

    assert keys.holder("k", 99.0) is hold
    hold.start()
    assert keys.holder("k", 14.9) is hold
    assert keys.holder("k", 15.0) is None
