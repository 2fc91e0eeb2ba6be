"""rq in one process: its other worker makes a process for each task."""

import time
from importlib import import_module
from typing import Any

import redis

from tests.benchmarks.peers.counting import REDIS, letter, mark, tick

library: Any = import_module("rq")
queue = library.Queue("bench", connection=redis.Redis.from_url(REDIS))

WORKER = [
    *("-m", "rq.cli", "worker", "bench", "--url", REDIS),
    *("--worker-class", "rq.worker.SimpleWorker", "--quiet"),
]


def push(n: int) -> None:
    for _ in range(n):
        queue.enqueue(tick)


def push_batches(n: int, size: int) -> None:
    for _ in range(n // size):
        queue.enqueue_many([library.Queue.prepare_data(tick) for _ in range(size)])


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        queue.enqueue(mark, time.monotonic())


def push_letters(n: int, text: str) -> None:
    for _ in range(n):
        queue.enqueue(letter, text)


def enqueue(k: int) -> None:
    push(k)


async def enqueue_async(k: int) -> None:
    push(k)
