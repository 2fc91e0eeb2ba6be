"""Oban, which is asynchronous only: its concurrent commits use as many connections.

Its worker may run 100 tasks at once.
"""

import asyncio
import os
import time
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.counting import async_mark, async_tick

# As a module that is imported: the names of its tasks must be those of the producer.
WORKER = ["-c", f"import asyncio, {__name__} as peer; asyncio.run(peer.work())"]

PLACES = 100

DSN = os.environ["BENCH_POSTGRES"]
library: Any = import_module("oban")
schema: Any = import_module("oban.schema")
_open: dict[int, Any] = {}


async def count() -> None:
    """Count the task."""
    await async_tick()


async def record(sent: float) -> None:
    """Record the latency."""
    await async_mark(sent)


run_tick = library.job(queue="bench")(count)
run_mark = library.job(queue="bench")(record)


async def _opened(connections: int = 1) -> Any:
    if connections not in _open:
        pool = await library.Oban.create_pool(DSN, min_size=connections, max_size=connections)
        async with pool.connection() as connection:
            found = await connection.execute("SELECT to_regclass('oban_jobs')")
            is_new = await found.fetchone() == (None,)
        if is_new:
            await schema.install(pool)
        _open[connections] = library.Oban(pool=pool, name=f"bench {connections}")
    return _open[connections]


async def _push(n: int, oban: Any) -> None:
    for _ in range(n):
        await oban.enqueue(run_tick.new())


async def push(n: int) -> None:
    await _push(n, await _opened())


async def push_batches(n: int, size: int) -> None:
    oban = await _opened()
    for _ in range(n // size):
        await oban.enqueue_many([run_tick.new() for _ in range(size)])


async def push_marks(n: int, pause: float) -> None:
    oban = await _opened()
    for _ in range(n):
        await asyncio.sleep(pause)
        await oban.enqueue(run_mark.new(time.monotonic()))


async def commit(n: int, threads: int) -> None:
    oban = await _opened(threads)
    await asyncio.gather(*(_push(n // threads, oban) for _ in range(threads)))


async def work() -> None:
    """Run tasks until the process is killed."""
    pool = await library.Oban.create_pool(DSN)
    async with library.Oban(pool=pool, queues={"bench": PLACES}):
        await asyncio.Event().wait()
