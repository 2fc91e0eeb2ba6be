"""Chancy, asynchronously: its concurrent commits use as many connections.

Its worker may run 100 coroutines at once.
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
library: Any = import_module("chancy")
_open: dict[int, Any] = {}


async def count() -> None:
    """Count the task."""
    await async_tick()


async def record(*, sent: float) -> None:
    """Record the latency."""
    await async_mark(sent)


run_tick = library.job(queue="bench")(count)
run_mark = library.job(queue="bench")(record)


async def _opened(connections: int = 1) -> Any:
    if connections not in _open:
        limits = {"min_connection_pool_size": connections, "max_connection_pool_size": connections}
        chancy = library.Chancy(DSN, **limits)
        await chancy.__aenter__()
        await chancy.migrate()
        _open[connections] = chancy
    return _open[connections]


async def _push(n: int, chancy: Any) -> None:
    for _ in range(n):
        await chancy.push(run_tick.job)


async def push(n: int) -> None:
    await _push(n, await _opened())


async def push_batches(n: int, size: int) -> None:
    chancy = await _opened()
    for _ in range(n // size):
        async for _ in chancy.push_many([run_tick.job] * size):
            pass


async def push_marks(n: int, pause: float) -> None:
    chancy = await _opened()
    for _ in range(n):
        await asyncio.sleep(pause)
        await chancy.push(run_mark.job.with_kwargs(sent=time.monotonic()))


async def commit(n: int, threads: int) -> None:
    chancy = await _opened(threads)
    await asyncio.gather(*(_push(n // threads, chancy) for _ in range(threads)))


async def work() -> None:
    """Run tasks until the process is killed."""
    executor = "chancy.executors.asyncex.AsyncExecutor"
    async with library.Chancy(DSN) as chancy:
        await chancy.migrate()
        await chancy.declare(
            library.Queue("bench", concurrency=PLACES, executor=executor, polling_interval=1)
        )
        async with library.Worker(chancy) as worker:
            await worker.wait_for_shutdown()
