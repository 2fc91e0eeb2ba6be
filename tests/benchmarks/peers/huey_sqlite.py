"""huey on a SQLite file, with its defaults."""

import os
import time
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.counting import mark, tick

library: Any = import_module("huey")
huey = library.SqliteHuey("bench", filename=os.environ["BENCH_FILE"], results=False)
run_tick = huey.task()(tick)
run_mark = huey.task()(mark)

WORKER = ["-m", "huey.bin.huey_consumer", f"{__name__}.huey", "-w", "1", "-q"]


def push(n: int) -> None:
    for _ in range(n):
        run_tick()


def push_batches(n: int, size: int) -> None:
    push(n)


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        run_mark(time.monotonic())
