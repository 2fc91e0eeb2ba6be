"""dramatiq, one process with one thread."""

import time
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.counting import REDIS, letter, mark, tick

library: Any = import_module("dramatiq")
broker: Any = import_module("dramatiq.brokers.redis").RedisBroker(url=REDIS)
library.set_broker(broker)
run_tick = library.actor(tick)
run_mark = library.actor(mark)
run_letter = library.actor(letter)

WORKER = ["-m", "dramatiq", __name__, "--processes", "1", "--threads", "1"]


def push(n: int) -> None:
    for _ in range(n):
        run_tick.send()


def push_batches(n: int, size: int) -> None:
    for _ in range(n // size):
        library.group([run_tick.message() for _ in range(size)]).run()


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        run_mark.send(time.monotonic())


def push_letters(n: int, text: str) -> None:
    for _ in range(n):
        run_letter.send(text)


def enqueue(k: int) -> None:
    push(k)


async def enqueue_async(k: int) -> None:
    push(k)
