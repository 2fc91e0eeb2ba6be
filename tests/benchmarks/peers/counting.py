"""The tasks of all queues: they count themselves, and record when the last one ran."""

import asyncio
import atexit
import json
import os
import time
from pathlib import Path
from typing import Any

REDIS = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/0")
EXPECTED = int(os.environ.get("BENCH_EXPECTED", "0"))
WARM_UP = EXPECTED // 10
"""How many tasks are not counted."""
RESULT = os.environ.get("BENCH_RESULT", "")
STAMP_EVERY = 50
"""After how many tasks the time is recorded, if requested."""

_count = 0
_coroutines = 0
_coroutines_of_half = 0
_began = 0.0
_began_cpu = 0.0
_client: Any = None
_waits: list[float] = []
_held: dict[str, float] = {}
"""What the process holds when the first of many sleeping tasks wakes."""
_stamps: list[float] | None = [] if "BENCH_STAMPS" in os.environ else None


def tick() -> None:
    """A task that only counts itself."""
    global _count, _began, _began_cpu, _coroutines_of_half
    _count += 1
    if _stamps is not None and _count % STAMP_EVERY == 0:
        _stamps.append(time.monotonic())
    if _count == WARM_UP and not _began:
        _began, _began_cpu = time.monotonic(), time.process_time()
    elif _count == EXPECTED // 2:
        _coroutines_of_half = _coroutines
    elif _count == EXPECTED:
        write_ticks()


def mark(sent: float) -> None:
    """Record the latency, by the clock that all processes share."""
    _waits.append(time.monotonic() - sent)
    if len(_waits) == 1:
        Path(f"{RESULT}.first").touch()
    if len(_waits) == EXPECTED:
        write({"waits": _waits})


def letter(text: str) -> None:
    """A task with a larger argument, which never runs."""


def write_ticks() -> None:
    """Record when the tasks ran, and their CPU time."""
    now, cpu = time.monotonic(), time.process_time()
    timed = _count - WARM_UP
    share = _coroutines_of_half / max(1, EXPECTED // 2)
    result = {"began": _began, "ended": now, "cpu": cpu - _began_cpu, "timed": timed}
    write({**result, "share": share, **_held})


def write(result: dict[str, Any]) -> None:
    """Write *result* atomically to the file that the benchmark reads."""
    if RESULT:
        part = Path(f"{RESULT}.part")
        part.write_text(json.dumps(result))
        part.rename(RESULT)


async def async_tick(*_: object) -> None:
    """Asynchronous version of `tick`."""
    global _coroutines
    _coroutines += 1
    tick()


async def async_sleep_and_tick() -> None:
    """Sleep for a second, and count."""
    global _began, _began_cpu
    if not _began:
        _began, _began_cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(1)
    if not _held:
        _held.update(held())
    tick()


def held() -> dict[str, float]:
    """Return the memory of this process in MiB, and the number of its descriptors."""
    status = Path("/proc/self/status").read_text()
    (kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return {"mib": int(kib) / 1024, "descriptors": len(os.listdir("/proc/self/fd")) - 1}


async def async_call() -> None:
    """Call a web server through a client that all tasks share, and count."""
    global _began, _began_cpu, _client
    if not _began:
        _began, _began_cpu = time.monotonic(), time.process_time()
    if _client is None:
        import httpx  # only these tasks need it

        limits = httpx.Limits(max_connections=None)
        _client = httpx.AsyncClient(base_url=os.environ["BENCH_SITE"], timeout=60, limits=limits)
    (await _client.get("/")).raise_for_status()
    tick()


async def async_mark(sent: float) -> None:
    """Asynchronous version of `mark`."""
    mark(sent)


async def async_letter(text: str) -> None:
    """Asynchronous version of `letter`."""


if _stamps is not None:
    # Several workers share the tasks, so that none of them knows which is its last.
    atexit.register(lambda: write({"stamps": _stamps}))
