"""Measure whether the process is idle while a test waits."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

BUSY = 0.3
"""The share of a core from which on something spins; a spinning thread has nearly a whole core."""


@contextmanager
def process_rests() -> Iterator[None]:
    """Fail if the process spins during the block, which lasts half a second or longer.

    The garbage collector stops meanwhile: in a large test process one run takes tenths of a second.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        began, used = time.monotonic(), time.process_time()
        yield
        lasted, used = time.monotonic() - began, time.process_time() - used
    finally:
        if collects:
            gc.enable()
    assert used < BUSY * lasted, f"{used:.2f} s of CPU time within {lasted:.2f} s"
