"""streaq with its defaults."""

import asyncio
import time
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.counting import REDIS, async_letter, async_mark, async_tick

library: Any = import_module("streaq")
worker = library.Worker(redis_url=REDIS, queue_name="bench")
run_tick = worker.task(name="tick")(async_tick)
run_mark = worker.task(name="mark")(async_mark)
run_letter = worker.task(name="letter")(async_letter)

WORKER = ["-m", "streaq", "run", f"{__name__}:worker"]

_open: list[Any] = []


async def _opened() -> None:
    if not _open:
        _open.append(worker)
        await worker.__aenter__()


async def push(n: int) -> None:
    await _opened()
    for _ in range(n):
        await run_tick.enqueue()


async def push_batches(n: int, size: int) -> None:
    await _opened()
    for _ in range(n // size):
        await worker.enqueue_many([run_tick.enqueue() for _ in range(size)])


async def push_marks(n: int, pause: float) -> None:
    await _opened()
    for _ in range(n):
        await asyncio.sleep(pause)
        await run_mark.enqueue(time.monotonic())


async def push_letters(n: int, text: str) -> None:
    await _opened()
    for _ in range(n):
        await run_letter.enqueue(text)


async def enqueue_async(k: int) -> None:
    await push(k)
