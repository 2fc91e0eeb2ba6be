"""Alligator, used by its public names."""

import os
import time

from alligator import Gator
from tests.benchmarks.peers import counting, crowd
from tests.benchmarks.peers.counting import REDIS, letter, mark, tick

gator = Gator(REDIS, "bench")

WORKER = ["-m", "tests.benchmarks.worker", REDIS]


def push(n: int) -> None:
    for _ in range(n):
        gator.task(tick)


def push_batches(n: int, size: int) -> None:
    names = os.environ.get("BENCH_FUNCTION", "tick").split(",")
    funcs = [getattr(counting, name) for name in names]
    for start in range(0, n, size):
        with gator.transaction():
            for number in range(start, min(start + size, n)):
                gator.task(funcs[number % len(funcs)])


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        gator.task(mark, time.monotonic())


def push_letters(n: int, text: str) -> None:
    for _ in range(n):
        gator.task(letter, text)


def enqueue(k: int) -> None:
    for _ in range(k):
        gator.task(tick)


async def enqueue_async(k: int) -> None:
    enqueue(k)


def with_waiting(waiting: int, calls: int) -> dict[str, float]:
    return crowd.with_waiting(gator, waiting, calls)
