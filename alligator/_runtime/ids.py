"""Unique ids of tasks and commits."""

import os
from time import time_ns

from .forks import run_in_forked_child

AT_ONCE = 64
"""For how many ids random bytes are read at once: one call of the system for each takes longer."""

_random: list[str] = []


def new_id() -> str:
    """Return a new id: 32 hexadecimal digits, of which the last 16 are random.

    The others are the time, so that tasks from the same time are close together in an index of a store.
    """
    while True:
        try:
            return f"{time_ns():x}{_random.pop()}"
        except IndexError:
            digits = os.urandom(8 * AT_ONCE).hex()
            _random.extend([digits[at : at + 16] for at in range(0, 16 * AT_ONCE, 16)])


run_in_forked_child(_random.clear)  # or two processes would use the same digits
