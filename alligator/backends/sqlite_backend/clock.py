"""Times in the file: whole microseconds since 1970."""

from time import time
from typing import Final

from ..base import bounded

SECOND: Final = 1_000_000


def now() -> int:
    """Return the time in microseconds since 1970."""
    return int(time() * SECOND)


def micros(seconds: float) -> int:
    """Return *seconds* in microseconds."""
    return round(bounded(seconds) * SECOND)


def is_set_back(moment: int, last: int) -> bool:
    """Return whether the clock was set back between the times *last* and *moment*.

    A difference of up to one second counts as drift.
    """
    return moment < last - SECOND
