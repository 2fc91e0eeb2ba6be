"""saq with its defaults."""

import asyncio
import time
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.counting import REDIS, async_mark, async_tick

library: Any = import_module("saq")
queue = library.Queue.from_url(REDIS, name="bench")


async def run_mark(_: object, *, sent: float) -> None:
    """Take the context that saq gives first."""
    await async_mark(sent)


async def run_tick(_: object) -> None:
    """Take the context that saq gives first."""
    await async_tick()


settings = {"queue": queue, "functions": [run_tick, run_mark]}

WORKER = ["-m", "saq", f"{__name__}.settings", "--quiet"]


async def push(n: int) -> None:
    for _ in range(n):
        await queue.enqueue("run_tick")


async def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        await asyncio.sleep(pause)
        await queue.enqueue("run_mark", sent=time.monotonic())


async def push_letters(n: int, text: str) -> None:
    for _ in range(n):
        await queue.enqueue("run_letter", text=text)


async def enqueue_async(k: int) -> None:
    await push(k)
