"""Unique keys: the records of the contract, as stores remember them."""

import pytest

from alligator.backends.unique import Held, read_duplicates, write_duplicates


@pytest.mark.parametrize(
    ("duplicates", "text"),
    [
        ([], ""),
        ([0, 12], "0 12"),
        ([0, Held(3, "a b"), Held(10, "3"), 11], "0 3 10 11\x1f3 a b\x1f10 3"),
    ],
)
def test_duplicates_are_read_as_they_were_written(duplicates: list[int], text: str) -> None:
    assert write_duplicates(duplicates) == text

    found = read_duplicates(text) or []
    assert found == duplicates
    holders = [each.task_id if isinstance(each, Held) else None for each in found]
    assert holders == [each.task_id if isinstance(each, Held) else None for each in duplicates]
    assert (read_duplicates(text) is None) == (not duplicates)
