"""Alligator on PostgreSQL."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from alligator import Gator
from tests.benchmarks.peers.counting import mark, tick

DSN = os.environ["BENCH_POSTGRES"]
gator = Gator(DSN, "bench")

WORKER = ["-m", "tests.benchmarks.worker", DSN]


def push(n: int) -> None:
    for _ in range(n):
        gator.task(tick)


def push_batches(n: int, size: int) -> None:
    for _ in range(n // size):
        with gator.transaction():
            for _ in range(size):
                gator.task(tick)


def commit(n: int, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(push, [n // threads] * threads))


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        gator.task(mark, time.monotonic())
