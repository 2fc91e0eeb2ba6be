"""The minimum of a queue on Redis: no options, no retries, no guarantees."""

import json
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

import redis
import redis.asyncio

from tests.benchmarks.peers.counting import REDIS, mark, tick

QUEUE = "raw"
PAYLOAD = 300
"""The length of the payload in the measurement of memory."""
client = redis.Redis.from_url(REDIS)
async_client = redis.asyncio.Redis.from_url(REDIS)
collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)

WORKER = ["-m", "tests.benchmarks.peers.raw", "brpop"]
BATCH_WORKER = ["-m", "tests.benchmarks.peers.raw", "batches"]

STEP = """
local done = tonumber(ARGV[1])
if done > 0 then redis.call('LTRIM', KEYS[2], 0, -1 - done) end
local tasks = redis.call('RPOP', KEYS[1], ARGV[2])
if not tasks then return {} end
redis.call('LPUSH', KEYS[2], unpack(tasks))
return tasks
"""
"""Acknowledge the last batch, and keep the next in a list of those that run."""


TASKS: dict[str, Callable[..., None]] = {"tick": tick, "mark": mark}


def message(name: str, *args: Any) -> str:
    """Return the payload of a task."""
    return json.dumps({"id": str(uuid4()), "name": name, "args": args, "kwargs": {}})


def push(n: int) -> None:
    for _ in range(n):
        client.lpush(QUEUE, message("tick"))


def push_batches(n: int, size: int) -> None:
    for _ in range(n // size):
        with client.pipeline(transaction=False) as pipe:
            for _ in range(size):
                pipe.lpush(QUEUE, message("tick"))
            pipe.execute()


def push_scripts(n: int, size: int = 1) -> None:
    script = client.register_script("return 1")
    for _ in range(n // size):
        script(keys=[QUEUE], args=[message("tick") for _ in range(size)])


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        client.lpush(QUEUE, message("mark", time.monotonic()))


def push_letters(n: int, text: str) -> None:
    for _ in range(n):
        client.lpush(QUEUE, message("letter", text).ljust(PAYLOAD))


def enqueue(k: int) -> None:
    """Send a request's tasks by one LPUSH."""
    if k:
        client.lpush(QUEUE, *[message("tick") for _ in range(k)])


async def enqueue_async(k: int) -> None:
    """Keep a request's tasks for the middleware that flushes them."""
    held = collected.get()
    assert held is not None
    held.extend(message("tick") for _ in range(k))


def run(text: bytes) -> None:
    """Run a task."""
    task = json.loads(text)
    TASKS[task["name"]](*task["args"])


def brpop() -> None:
    """Run tasks one at a time, each removed before it runs."""
    while True:
        popped: Any = client.brpop([QUEUE], 30)
        if popped:
            run(popped[1])


def batches(size: int = 100) -> None:
    """Run tasks in batches, at least once each."""
    step = client.register_script(STEP)
    done = 0
    while True:
        tasks: Any = step(keys=[QUEUE, f"{QUEUE}:run"], args=[done, size])
        for task in tasks:
            run(task)
        done = len(tasks)
        if not done:
            time.sleep(0.001)


if __name__ == "__main__":
    {"brpop": brpop, "batches": batches}[sys.argv[1]]()
