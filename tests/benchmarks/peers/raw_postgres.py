"""The minimum of a queue in PostgreSQL: one table, one index."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg

from tests.benchmarks.peers.counting import tick

WORKER = ["-m", "tests.benchmarks.peers.raw_postgres"]

BATCH = 100


def connect() -> psycopg.Connection:
    """Open a connection; the table exists afterwards."""
    connection = psycopg.connect(os.environ["BENCH_POSTGRES"], autocommit=True)
    connection.prepare_threshold = 0
    connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS raw.task (id text PRIMARY KEY, data text, taken boolean)"
    )
    return connection


def _task() -> tuple[str, str]:
    task_id = str(uuid4())
    return task_id, json.dumps({"id": task_id, "name": "tick", "args": [], "kwargs": {}})


def push(n: int, connection: psycopg.Connection | None = None) -> None:
    connection = connection or connect()
    for _ in range(n):
        connection.execute("INSERT INTO raw.task VALUES (%s, %s, false)", _task())


def push_batches(n: int, size: int) -> None:
    connection = connect()
    for _ in range(n // size):
        ids, data = zip(*(_task() for _ in range(size)), strict=True)
        connection.execute(
            "INSERT INTO raw.task SELECT *, false FROM unnest(%s::text[], %s::text[])",
            (list(ids), list(data)),
        )


def commit(n: int, threads: int) -> None:
    connections = [connect() for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(push, [n // threads] * threads, connections))


def drain() -> None:
    """Run tasks in batches, at least once each: hidden from other workers before, deleted after."""
    connection = connect()
    connection.execute("SET synchronous_commit = off")
    done: list[str] = []
    while True:
        with connection.pipeline():
            if done:
                connection.execute("DELETE FROM raw.task WHERE id = ANY(%s)", (done,))
            found = connection.execute(
                "UPDATE raw.task SET taken = true WHERE ctid = ANY (ARRAY("
                "SELECT ctid FROM raw.task WHERE NOT taken LIMIT %s FOR UPDATE SKIP LOCKED))"
                " RETURNING id, data",
                (BATCH,),
            )
        done = []
        for task_id, data in found.fetchall():
            json.loads(data)
            tick()
            done.append(task_id)
        if not done:
            time.sleep(0.001)


if __name__ == "__main__":
    drain()
