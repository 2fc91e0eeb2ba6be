"""Functions that tests put on queues, in a module that a worker process can import."""

import asyncio
import os
import signal
import time
from pathlib import Path

from alligator.exceptions import BackendUnavailable


def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


async def add_later(a: int, b: int) -> int:
    """Return the sum, as a coroutine function that gives way once."""
    await asyncio.sleep(0)
    return a + b


def fail(message: str = "no luck") -> None:
    """Raise a `RuntimeError`."""
    raise RuntimeError(message)


def miss_a_store() -> None:
    """Raise what a store that is away raises."""
    raise BackendUnavailable("some other store is away")


async def fail_later(message: str = "no luck") -> None:
    """Raise a `RuntimeError` from a coroutine function."""
    await asyncio.sleep(0)
    raise RuntimeError(message)


def record(path: str, line: str) -> None:
    """Append *line* to a file, in one write, so that lines of several processes do not mix."""
    with open(path, "ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


async def record_later(path: str, line: str) -> None:
    """Append *line* to a file from a coroutine function."""
    await asyncio.sleep(0)
    record(path, line)


def record_pid(path: str) -> None:
    """Append the id of the process that runs this to a file."""
    record(path, str(os.getpid()))


def record_both_ends(path: str, line: str, seconds: float) -> None:
    """Append ``begin`` and, *seconds* later, ``end`` to a file."""
    record(path, f"begin {line}")
    time.sleep(seconds)
    record(path, f"end {line}")


def record_and_fail(path: str, line: str) -> None:
    """Append *line* to a file, then raise a `RuntimeError`."""
    record(path, line)
    raise RuntimeError(line)


def record_and_crash(path: str, line: str) -> None:
    """Append *line* to a file, then end the process without any clean-up."""
    record(path, line)
    os._exit(3)


def record_and_die(path: str, line: str) -> None:
    """Append *line* to a file, then have the process killed."""
    record(path, line)
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_for(seconds: float) -> float:
    """Sleep, and return for how long."""
    time.sleep(seconds)
    return seconds


async def sleep_later(seconds: float) -> float:
    """Sleep on the event loop, and return for how long."""
    await asyncio.sleep(seconds)
    return seconds


def sleep_until(path: str, timeout: float = 30.0) -> None:
    """Sleep until a file of that name exists."""
    end = time.monotonic() + timeout
    while not Path(path).exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.01)


def crash() -> None:
    """End the process at once, without any clean-up."""
    os._exit(3)


def die() -> None:
    """Have the process killed with SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)
