"""The minimum of a queue in a SQLite file, with Alligator's pragmas."""

import json
import os
import sqlite3
import time
from uuid import uuid4

from tests.benchmarks.peers.counting import tick

WORKER = ["-m", "tests.benchmarks.peers.raw_sqlite"]

BATCH = 100


def connect(synchronous: str) -> sqlite3.Connection:
    """Open the file; pushes are synced to the disk, a lost acknowledgement is harmless."""
    connection = sqlite3.connect(os.environ["BENCH_FILE"], isolation_level=None, timeout=5)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS task "
        "(seq INTEGER PRIMARY KEY, id TEXT UNIQUE, data TEXT, taken INTEGER DEFAULT 0)"
    )
    return connection


def push_batches(n: int, size: int) -> None:
    connection = connect("FULL")
    for _ in range(n // size):
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(size):
            task_id = str(uuid4())
            data = json.dumps({"id": task_id, "name": "tick", "args": [], "kwargs": {}})
            connection.execute("INSERT INTO task (id, data) VALUES (?, ?)", (task_id, data))
        connection.execute("COMMIT")


def drain() -> None:
    """Run tasks in batches, at least once each: hidden from other workers before, deleted after."""
    connection = connect("NORMAL")
    last = 0
    while True:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM task WHERE seq <= ? AND taken", (last,))
        question = "SELECT seq, data FROM task WHERE NOT taken ORDER BY seq LIMIT ?"
        rows = connection.execute(question, (BATCH,)).fetchall()
        if rows:
            span = rows[0][0], rows[-1][0]
            connection.execute("UPDATE task SET taken = 1 WHERE seq BETWEEN ? AND ?", span)
        connection.execute("COMMIT")
        for seq, data in rows:
            json.loads(data)
            tick()
            last = seq
        if not rows:
            time.sleep(0.001)


if __name__ == "__main__":
    drain()
