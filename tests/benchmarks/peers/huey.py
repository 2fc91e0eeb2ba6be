"""huey, one thread."""

import time
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.counting import REDIS, letter, mark, tick

library: Any = import_module("huey")
huey = library.RedisHuey("bench", url=REDIS, results=False)
run_tick = huey.task()(tick)
run_mark = huey.task()(mark)
run_letter = huey.task()(letter)

WORKER = ["-m", "huey.bin.huey_consumer", f"{__name__}.huey", "-w", "1", "-q"]


def push(n: int) -> None:
    for _ in range(n):
        run_tick()


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        run_mark(time.monotonic())


def push_letters(n: int, text: str) -> None:
    for _ in range(n):
        run_letter(text)


def enqueue(k: int) -> None:
    push(k)


async def enqueue_async(k: int) -> None:
    push(k)
