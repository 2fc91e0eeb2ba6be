"""Run latergator as people do, and wait for what it does."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

ROOT = Path(__file__).parent.parent

SLACK = 2.5
"""Seconds that a machine with other work may add to a bound; no bound is there to time anything."""


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until *condition* holds; fail when it does not in time."""
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "it did not come about in time"
        sleep(0.01)


def lines(path: Path) -> list[str]:
    """Read the lines of a file; none when it is not there yet."""
    return path.read_text().splitlines() if path.exists() else []


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make an environment that finds this checkout, and nothing that speaks of another queue."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALLIGATOR_")}
    return {**kept, "PYTHONPATH": str(ROOT), **(more or {})}


def run(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run latergator to its end."""
    return subprocess.run(
        [sys.executable, "-m", "alligator", *arguments],
        env=environment(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class Program(subprocess.Popen[bytes]):
    """A latergator that is running; what it logs is in the file *log*."""

    log: Path

    def said(self, text: str) -> bool:
        """Whether it has logged *text*."""
        return text in self.log.read_text()


@contextmanager
def running(
    *arguments: str, log: Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[Program]:
    """Run latergator during the block, and see to it that nothing of it is left."""
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
