"""taskiq on a Redis stream: of its brokers the one that acknowledges, and the faster one."""

import asyncio
import time
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.counting import REDIS, async_letter, async_mark, async_tick

library: Any = import_module("taskiq_redis")
broker = library.RedisStreamBroker(REDIS)
run_tick = broker.task(task_name="tick")(async_tick)
run_mark = broker.task(task_name="mark")(async_mark)
run_letter = broker.task(task_name="letter")(async_letter)

WORKER = [
    *("-m", "taskiq", "worker", f"{__name__}:broker"),
    *("--workers", "1", "--log-level", "WARNING"),
]


_open: list[Any] = []


async def _opened() -> None:
    if not _open:  # creates the consumer group, without which no worker sees what is pushed now
        _open.append(broker)
        await broker.startup()


async def push(n: int) -> None:
    await _opened()
    for _ in range(n):
        await run_tick.kiq()


async def push_marks(n: int, pause: float) -> None:
    await _opened()
    for _ in range(n):
        await asyncio.sleep(pause)
        await run_mark.kiq(time.monotonic())


async def push_letters(n: int, text: str) -> None:
    await _opened()
    for _ in range(n):
        await run_letter.kiq(text)


async def enqueue_async(k: int) -> None:
    await push(k)
