"""Tasks that record their start and end in a ledger that all processes share."""

import asyncio
import ctypes
import os
import resource
import signal
import time
from pathlib import Path

from alligator import current_task

GIGABYTE = 1 << 30


def note(word: str) -> None:
    """Append a line to the ledger: *word*, the task, the process id and the time."""
    task = current_task()
    assert task is not None
    line = f"{word} {task.task_id} {os.getpid()} {time.monotonic():.6f}\n"
    # One write at the end of the file, so that lines of several processes do not mix.
    with open(os.environ["LEDGER"], "ab", buffering=0) as file:
        file.write(line.encode())


def is_first() -> bool:
    """Return whether this is the first run of this task."""
    task = current_task()
    assert task is not None
    ledger = Path(os.environ["LEDGER"])
    return not ledger.exists() or f"begin {task.task_id} " not in ledger.read_text()


def record() -> None:
    """Record the start and the end."""
    note("begin")
    note("end")


def work() -> None:
    """Run for some time."""
    note("begin")
    time.sleep(0.005)
    note("end")


async def doze() -> None:
    """Run for some time, on an event loop."""
    note("begin")
    await asyncio.sleep(0.3)
    note("end")


def end_and_stop() -> None:
    """Finish, and stop this process with SIGSTOP if this is the first run."""
    first = is_first()
    record()
    if first:
        os.kill(os.getpid(), signal.SIGSTOP)


def hold() -> None:
    """Wait until a file named after the task exists beside the ledger."""
    note("begin")
    _wait()
    note("end")


def hold_then_fail() -> None:
    """Wait for the file, and fail."""
    note("begin")
    _wait()
    raise RuntimeError("it was to fail")


def hold_first() -> None:
    """Wait for the file and fail if this is the first run; otherwise succeed."""
    if is_first():
        hold_then_fail()
    else:
        record()


def fail() -> None:
    """Raise."""
    note("begin")
    raise RuntimeError("it was to fail")


def leave() -> None:
    """End the process at once."""
    note("begin")
    os._exit(3)


def crash() -> None:
    """Read from an invalid address, as a broken extension does."""
    note("begin")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def spin() -> None:
    """Loop forever in Python code."""
    note("begin")
    while True:
        pass


def hog() -> None:
    """Allocate more memory than is available."""
    note("begin")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + GIGABYTE // 8, before[1]))
    try:
        taken = []
        while True:
            taken.append(bytearray(GIGABYTE // 64))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _wait() -> None:
    task = current_task()
    assert task is not None
    gate = Path(f"{os.environ['LEDGER']}.{task.task_id}")
    end = time.monotonic() + 60
    while not gate.exists() and time.monotonic() < end:
        time.sleep(0.005)
