"""Unique keys: a key that at most one task of a queue holds.

A message may have a key. Its task holds the key from the push until it is leased for the first time, or
until it is acked, and not for less than `Unique.seconds`. A push whose key is held does nothing, and the
call reports which task holds it.

A task that dies, is canceled, dropped or aborted does not hold its key any more, from that moment, and
does not get it back: a dead task that is made ready again has no key. A task that waits for its retry,
or whose lease was lost, has its key as before.

A push with `Unique.replace` replaces the task that holds the key, if that waits, was never leased, and
holds the key only until then: it is removed, and counts as canceled. If the push is aborted before a
worker has had its task, the replaced one is back in its place, with the key, unless its id waits again.
If it was aborted as well, the one that it had replaced is back, and so on.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self


class Unique(NamedTuple):
    """The key of a message."""

    key: str
    until_start: bool = True
    """Whether the key is free when the task is leased for the first time; if not, when it is done."""
    seconds: float = 0.0
    """For how long after the push the key is held at least, also by a task that is done."""
    replace: bool = False
    """Whether it replaces a task that holds the key only until its start. Then it does so, too."""


class Held(int):
    """The position of a task that was not queued because another one holds its key."""

    task_id: str
    """The id of the task that holds the key."""

    def __new__(cls, place: int, task_id: str) -> Self:
        held = super().__new__(cls, place)
        held.task_id = task_id
        return held


HOLDERS: Final = "\x1f"
"""What begins each part after the positions in a text of duplicates; no id contains it."""


def write_duplicates(duplicates: Sequence[int]) -> str:
    r"""Return the positions of duplicates as a text, in which a store remembers them.

    >>> write_duplicates([0, Held(3, "a b")])
    '0 3\x1f3 a b'
    """
    holders = [f"{each:d} {each.task_id}" for each in duplicates if isinstance(each, Held)]
    return HOLDERS.join([" ".join(f"{each:d}" for each in duplicates), *holders])


def read_duplicates(text: str) -> list[int] | None:
    """Return what `write_duplicates` has written; None if there are no duplicates."""
    if HOLDERS not in text:
        return [int(place) for place in text.split()] or None
    places, *parts = text.split(HOLDERS)
    holders = dict(part.split(" ", 1) for part in parts)
    return [
        Held(int(place), holders[place]) if place in holders else int(place)
        for place in places.split()
    ]
