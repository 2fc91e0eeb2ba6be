"""Unique ids."""

import os

from alligator._runtime import ids
from alligator._runtime.ids import new_id


def test_ids_differ_and_begin_with_the_time() -> None:
    made = [new_id() for _ in range(3 * ids.AT_ONCE)]

    assert len(set(made)) == len({each[16:] for each in made}) == len(made)
    assert {(len(each), each[:5]) for each in made} == {(32, made[0][:5])}


def test_ids_of_a_forked_child_have_other_random_digits() -> None:
    new_id()
    ours = set(ids._random)
    reading, writing = os.pipe()

    if (child := os.fork()) == 0:
        os.write(writing, " ".join([new_id()[16:] for _ in range(ids.AT_ONCE)]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 4096).decode().split()
    os.close(reading)
    os.close(writing)

    assert len(theirs) == ids.AT_ONCE
    assert ours.isdisjoint(theirs)
