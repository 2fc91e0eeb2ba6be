"""PgQueuer, which is asynchronous only: its concurrent commits use as many connections.

It uses asyncpg, with which its worker is several times faster than with psycopg. The worker takes
batches of 100.
"""

import asyncio
import json
import os
import time
from datetime import timedelta
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.counting import async_mark, async_tick

WORKER = ["-m", "tests.benchmarks.peers.pgqueuer_postgres"]

BATCH = 100

DSN = os.environ["BENCH_POSTGRES"]
library: Any = import_module("pgqueuer")
db: Any = import_module("pgqueuer.db")
driver: Any = import_module("asyncpg")
_open: list[Any] = []


async def _driver() -> Any:
    return db.AsyncpgDriver(await driver.connect(DSN))


async def _queries() -> Any:
    queries = library.Queries(await _driver())
    if not await queries.has_table("pgqueuer"):
        await queries.install()
    return queries


async def _opened() -> Any:
    if not _open:
        _open.append(await _queries())
    return _open[0]


async def _push(n: int, size: int, queries: Any) -> None:
    for _ in range(n // size):
        payloads = [json.dumps({}).encode() for _ in range(size)]
        await queries.enqueue(["tick"] * size, payloads, [0] * size)


async def push(n: int) -> None:
    await _push(n, 1, await _opened())


async def push_batches(n: int, size: int) -> None:
    await _push(n, size, await _opened())


async def push_marks(n: int, pause: float) -> None:
    queries = await _opened()
    for _ in range(n):
        await asyncio.sleep(pause)
        await queries.enqueue("mark", json.dumps(time.monotonic()).encode())


async def commit(n: int, threads: int) -> None:
    several = [await _queries() for _ in range(threads)]
    await asyncio.gather(*(_push(n // threads, 1, each) for each in several))


async def run_tick(job: Any) -> None:
    json.loads(job.payload)
    await async_tick()


async def run_mark(job: Any) -> None:
    await async_mark(json.loads(job.payload))


async def work() -> None:
    """Run tasks until the process is killed."""
    worker = library.PgQueuer(await _driver())
    worker.entrypoint("tick")(run_tick)
    worker.entrypoint("mark")(run_mark)
    await worker.run(dequeue_timeout=timedelta(seconds=30), batch_size=BATCH)


if __name__ == "__main__":
    asyncio.run(work())
