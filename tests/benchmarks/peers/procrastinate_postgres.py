"""Procrastinate; its worker may run 100 tasks at once."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import psycopg

from tests.benchmarks.peers.counting import async_mark, async_tick

WORKER = ["-m", "tests.benchmarks.peers.procrastinate_postgres"]

PLACES = 100

DSN = os.environ["BENCH_POSTGRES"]
library: Any = import_module("procrastinate")
app = library.App(connector=library.SyncPsycopgConnector(conninfo=DSN, max_size=20))
with psycopg.connect(DSN) as connection:
    ready = connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone() != (None,)
app.open()
if not ready:
    app.schema_manager.apply_schema()

tick = app.task(queue="bench", name="tick")(async_tick)
mark = app.task(queue="bench", name="mark")(async_mark)


def push(n: int) -> None:
    for _ in range(n):
        tick.defer()


def push_batches(n: int, size: int) -> None:
    for _ in range(n // size):
        tick.batch_defer(*({} for _ in range(size)))


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        mark.defer(sent=time.monotonic())


def commit(n: int, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(push, [n // threads] * threads))


if __name__ == "__main__":
    connector = library.PsycopgConnector(conninfo=DSN)
    app.with_connector(connector).run_worker(queues=["bench"], concurrency=PLACES)
