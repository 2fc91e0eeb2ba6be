"""What the tasks of every queue do: count themselves, and write down when the last one ran."""

import atexit
import json
import os
import time
from pathlib import Path
from typing import Any

REDIS = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/0")
EXPECTED = int(os.environ.get("BENCH_EXPECTED", "0"))
WARM_UP = EXPECTED // 10
"""So many of the tasks are not in the figures."""
RESULT = os.environ.get("BENCH_RESULT", "")
STAMP_EVERY = 50
"""After so many tasks the time is noted, if that is asked for."""

_count = 0
_began = 0.0
_began_cpu = 0.0
_waits: list[float] = []
_stamps: list[float] | None = [] if "BENCH_STAMPS" in os.environ else None


def tick() -> None:
    """Do nothing, and be counted."""
    global _count, _began, _began_cpu
    _count += 1
    if _stamps is not None and _count % STAMP_EVERY == 0:
        _stamps.append(time.monotonic())
    if _count == WARM_UP:
        _began, _began_cpu = time.monotonic(), time.process_time()
    elif _count == EXPECTED:
        write_ticks()


def mark(sent: float) -> None:
    """Note how long ago that was by the clock that all processes share."""
    _waits.append(time.monotonic() - sent)
    if len(_waits) == 1:
        Path(f"{RESULT}.first").touch()
    if len(_waits) == EXPECTED:
        write({"waits": _waits})


def letter(text: str) -> None:
    """Be a task with an argument of some size, that is never run."""


def write_ticks() -> None:
    """Write down when the tasks ran, and what they cost."""
    now, cpu = time.monotonic(), time.process_time()
    timed = _count - WARM_UP
    write({"began": _began, "ended": now, "cpu": cpu - _began_cpu, "timed": timed})


def write(result: dict[str, Any]) -> None:
    """Leave *result* where the benchmark looks for it, all at once."""
    if RESULT:
        part = Path(f"{RESULT}.part")
        part.write_text(json.dumps(result))
        part.rename(RESULT)


async def async_tick(*_: object) -> None:
    """Be `tick`, for queues that run coroutines."""
    tick()


async def async_mark(sent: float) -> None:
    """Be `mark`, for queues that run coroutines."""
    mark(sent)


async def async_letter(text: str) -> None:
    """Be `letter`, for queues that run coroutines."""


if _stamps is not None:
    # Several workers share the tasks, so that none of them knows which is its last.
    atexit.register(lambda: write({"stamps": _stamps}))
