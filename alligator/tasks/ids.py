"""The ids of tasks."""

import os
from time import time_ns


def new_id() -> str:
    """Return a new task id: 32 hexadecimal digits, of which the last 16 are random.

    The others are the time, so that tasks from the same time are close together in an index of a store.
    """
    return f"{time_ns():x}{os.urandom(8).hex()}"
