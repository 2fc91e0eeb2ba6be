"""Run latergator as a process, and wait for its effects."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic, sleep

ROOT = Path(__file__).parents[2]

SLACK = 10.0
"""Seconds that a busy machine may add to a limit; no limit in the tests measures speed."""


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until *condition* is true; fail if it takes too long."""
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "it did not come about in time"
        sleep(0.01)


def accept_signals() -> None:
    """Reset ignored signals, because started programs would ignore them as well.

    A shell that starts something in the background has it ignore SIGINT, nohup SIGHUP. A signal that
    is handled, in whichever way, is at its default in a new program.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


@contextmanager
def temporary_folder() -> Iterator[str]:
    """Yield a new folder, which this process removes at the end.

    `TemporaryDirectory` would also remove it when a forked child ends that runs exit handlers.
    """
    folder, pid = mkdtemp(prefix="gator-"), os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == pid:
            rmtree(folder, ignore_errors=True)


def lines(path: Path) -> list[str]:
    """Return the lines of a file; none if it does not exist yet."""
    return path.read_text().splitlines() if path.exists() else []


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment that finds this checkout, without settings of other queues."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALLIGATOR_")}
    return {**kept, "PYTHONPATH": str(ROOT), **(more or {})}


def run(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    program: Sequence[str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run latergator to its end; *program* replaces ``python -m alligator``."""
    return subprocess.run(
        [*(program or (sys.executable, "-m", "alligator")), *arguments],
        env=environment(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


class Program(subprocess.Popen[bytes]):
    """A running latergator, which logs to the file *log*."""

    log: Path

    def said(self, text: str) -> bool:
        """Return whether it has logged *text*."""
        return text in self.log.read_text()


@contextmanager
def running(
    *arguments: str, log: Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[Program]:
    """Run latergator during the block, and kill its remaining processes at the end."""
    with log.open("wb") as stderr:
        program = Program(
            [sys.executable, "-m", "alligator", *arguments],
            env=environment(env),
            cwd=cwd,
            stderr=stderr,
        )
    program.log = log
    try:
        yield program
    finally:
        program.kill()
        program.wait()
