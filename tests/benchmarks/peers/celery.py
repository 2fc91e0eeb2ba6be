"""celery with the pool that runs tasks in the worker's own process."""

import time
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.counting import REDIS, letter, mark, tick

library: Any = import_module("celery")
app = library.Celery("bench", broker=REDIS)
run_tick = app.task(name="tick")(tick)
run_mark = app.task(name="mark")(mark)
run_letter = app.task(name="letter")(letter)

WORKER = [
    *("-m", "celery", "-A", f"{__name__}:app", "worker", "--pool", "solo"),
    *("--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
]


def push(n: int) -> None:
    for _ in range(n):
        run_tick.delay()


def push_batches(n: int, size: int) -> None:
    for _ in range(n // size):
        library.group(run_tick.s() for _ in range(size)).apply_async()


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        run_mark.delay(time.monotonic())


def push_letters(n: int, text: str) -> None:
    for _ in range(n):
        run_letter.delay(text)


def enqueue(k: int) -> None:
    push(k)


async def enqueue_async(k: int) -> None:
    push(k)
