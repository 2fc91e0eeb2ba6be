"""Procrastinate."""

import os
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import psycopg

DSN = os.environ["BENCH_POSTGRES"]
library: Any = import_module("procrastinate")
app = library.App(connector=library.SyncPsycopgConnector(conninfo=DSN, max_size=20))
with psycopg.connect(DSN) as connection:
    ready = connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone() != (None,)
app.open()
if not ready:
    app.schema_manager.apply_schema()


def nothing() -> None:
    """A task that does nothing."""


tick = app.task(queue="bench", name="tick")(nothing)


def push(n: int) -> None:
    for _ in range(n):
        tick.defer()


def push_batches(n: int, size: int) -> None:
    for _ in range(n // size):
        tick.batch_defer(*({} for _ in range(size)))


def commit(n: int, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(push, [n // threads] * threads))
