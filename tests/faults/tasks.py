"""Tasks that write down when they begin and when they end, in a ledger that all processes share."""

import ctypes
import os
import resource
import signal
import time
from pathlib import Path

from alligator import current_task

GIGABYTE = 1 << 30


def note(word: str) -> None:
    """Write a line into the ledger of runs: *word*, the task, the process, the moment."""
    task = current_task()
    assert task is not None
    line = f"{word} {task.task_id} {os.getpid()} {time.monotonic():.6f}\n"
    # One write at the end of the file, so that lines of several processes do not mix.
    with open(os.environ["LEDGER"], "ab", buffering=0) as file:
        file.write(line.encode())


def is_first() -> bool:
    """Whether nobody has begun this task before."""
    task = current_task()
    assert task is not None
    ledger = Path(os.environ["LEDGER"])
    return not ledger.exists() or f"begin {task.task_id} " not in ledger.read_text()


def record() -> None:
    """Begin and end."""
    note("begin")
    note("end")


def work() -> None:
    """Take some time."""
    note("begin")
    time.sleep(0.005)
    note("end")


def end_and_stop() -> None:
    """Come to the end and have the process stopped there, when it is the first to run its task."""
    first = is_first()
    record()
    if first:
        os.kill(os.getpid(), signal.SIGSTOP)


def hold() -> None:
    """Wait until it is let go: until a file named after it is beside the ledger."""
    note("begin")
    _wait()
    note("end")


def hold_then_fail() -> None:
    """Wait until it is let go, and fail."""
    note("begin")
    _wait()
    raise RuntimeError("it was to fail")


def hold_first() -> None:
    """Wait until it is let go when it is the first to run its task, and then fail; else succeed."""
    if is_first():
        hold_then_fail()
    else:
        record()


def fail() -> None:
    """Raise."""
    note("begin")
    raise RuntimeError("it was to fail")


def leave() -> None:
    """End the process at once, as a library may that gives up."""
    note("begin")
    os._exit(3)


def crash() -> None:
    """Read where nothing is to be read, as a broken extension does."""
    note("begin")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def spin() -> None:
    """Never end, in Python code."""
    note("begin")
    while True:
        pass


def hog() -> None:
    """Ask for more memory than there is to be had."""
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
