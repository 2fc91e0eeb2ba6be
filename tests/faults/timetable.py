"""A gator with a schedule of one second, and a clock for its ticks that is wrong."""

import os
import time

from alligator import Gator
from alligator.schedules import ticker
from tests.faults import tasks

OFFSET = "CLOCK_OFFSET"
"""The variable that says by how many seconds the clock of this process is ahead."""


def wrong() -> float:
    """Return the time of the wrong clock. It is that of the ticks only: a file has one machine's."""
    return time.time() + float(os.environ[OFFSET])


def make() -> Gator:
    """Return the gator of the store that the environment names."""
    setattr(ticker, "time", wrong)  # noqa: B010 - it is no attribute for type checkers
    gator = Gator.from_env()
    gator.every(1, tasks.record, name="second")
    return gator
