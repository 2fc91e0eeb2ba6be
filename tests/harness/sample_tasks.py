"""Functions that tests put on queues, in a module that a worker process can import."""

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from alligator import Gator, Task, current_task
from alligator.exceptions import BackendUnavailable


class NoMessage(Exception):
    """An error whose message exits."""

    def __str__(self) -> str:
        raise SystemExit(3)


class NoAttributes(Exception):
    """An error whose notes raise."""

    def __getattr__(self, name: str) -> object:
        raise KeyError(name)


def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


async def add_later(a: int, b: int) -> int:
    """Return the sum, from a coroutine function that yields once."""
    await asyncio.sleep(0)
    return a + b


def fail(message: str = "no luck") -> None:
    """Raise a `RuntimeError`."""
    raise RuntimeError(message)


def miss_a_store() -> None:
    """Raise the error of a store that cannot be reached."""
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
    """Append *line* to a file, then kill the process."""
    record(path, line)
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_for(seconds: float) -> float:
    """Sleep, and return the duration."""
    time.sleep(seconds)
    return seconds


async def sleep_later(seconds: float) -> float:
    """Sleep on the event loop, and return the duration."""
    await asyncio.sleep(seconds)
    return seconds


def sleep_until(path: str, timeout: float = 30.0) -> None:
    """Sleep until a file of that name exists."""
    end = time.monotonic() + timeout
    while not Path(path).exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.01)


def record_and_wait(path: str, line: str, gate: str) -> None:
    """Leave a line in a file, and wait until another file exists."""
    record(path, line)
    sleep_until(gate)


def crash() -> None:
    """End the process at once, without any clean-up."""
    os._exit(3)


def die() -> None:
    """Kill the process with SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    """Read from an invalid address."""
    ctypes.string_at(0)


def hang_in_native_code() -> None:
    """Run C code for longer than any test waits."""
    re.match(r"(a+)+$", "a" * 50 + "b")


def spin() -> None:
    """Loop forever in Python code."""
    while True:
        pass


def hog(mebibytes: int) -> int:
    """Allocate this much memory, and return how much."""
    return len(bytearray(mebibytes * 1024 * 1024)) // (1024 * 1024)


def record_task(path: str) -> None:
    """Append the attributes of the task to a file."""
    task = current_task()
    assert task is not None
    record(path, f"attempt {task.attempt} {task.headers}")


def record_error(task: Task, error: BaseException) -> None:
    """An `on_error` hook that writes the error into the file of the task's first argument."""
    record(task.func_args[0], f"attempt {task.attempt} {type(error).__name__}: {error}")


def segfault_of(path: str) -> None:
    """Raise an error; *path* is the file for hooks."""
    segfault()


def start_and_hang(path: str) -> None:
    """Start a program, write its pid and that of this process, and run C code."""
    program = subprocess.Popen(["sleep", "60"])
    record(path, f"{os.getpid()} {program.pid}")
    hang_in_native_code()


def interrupt() -> None:
    """Raise `KeyboardInterrupt`."""
    raise KeyboardInterrupt


def push_another(dsn: str, path: str, line: str) -> None:
    """Start a task in a task."""
    Gator(dsn).task(record, path, line)


def say(text: str) -> None:
    """Print to both streams."""
    print(text)
    print(text, file=sys.stderr)


def record_batch(path: str) -> None:
    """Append the numbers of the batch that this task has waited for."""
    task = current_task()
    assert task is not None
    assert task.batch is not None
    record(path, f"{task.batch.tasks} tasks, {task.batch.dead} dead")
