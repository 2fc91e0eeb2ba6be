"""The ids of tasks."""

from alligator.tasks.ids import new_id


def test_ids_differ_and_begin_with_the_time() -> None:
    first, second = new_id(), new_id()

    assert first != second
    assert (len(first), first[:8]) == (32, second[:8])
