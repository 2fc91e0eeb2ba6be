"""PgQueuer, which is asynchronous only: its concurrent commits use as many connections."""

import asyncio
import os
from importlib import import_module
from typing import Any

import psycopg

DSN = os.environ["BENCH_POSTGRES"]
db: Any = import_module("pgqueuer.db")
library: Any = import_module("pgqueuer.queries")


async def _queries() -> Any:
    connection = await psycopg.AsyncConnection.connect(DSN, autocommit=True)
    queries = library.Queries(db.PsycopgDriver(connection))
    if not await queries.has_table("pgqueuer"):
        await queries.install()
    return queries


async def _push(n: int, size: int, queries: Any) -> None:
    names, payloads, priorities = ["tick"] * size, [b"{}"] * size, [0] * size
    for _ in range(n // size):
        await queries.enqueue(names, payloads, priorities)


async def push(n: int) -> None:
    await _push(n, 1, await _queries())


async def push_batches(n: int, size: int) -> None:
    await _push(n, size, await _queries())


async def commit(n: int, threads: int) -> None:
    several = [await _queries() for _ in range(threads)]
    await asyncio.gather(*(_push(n // threads, 1, each) for each in several))
