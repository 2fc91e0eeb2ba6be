"""Alligator on a SQLite file."""

import os
import time

from alligator import Gator
from tests.benchmarks.peers.counting import mark, tick

DSN = f"sqlite://{os.environ['BENCH_FILE']}"
gator = Gator(DSN, "bench")

WORKER = ["-m", "tests.benchmarks.worker", DSN]


def push_batches(n: int, size: int) -> None:
    for _ in range(n // size):
        with gator.transaction():
            for _ in range(size):
                gator.task(tick)


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        gator.task(mark, time.monotonic())
