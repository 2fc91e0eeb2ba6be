"""A worker that is frozen until its task has been run by another: real processes on one store."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import sleep

import pytest

from alligator import WAITING, Gator
from tests.harness.programs import ROOT, environment, eventually, lines
from tests.harness.sample_tasks import record, sleep_until

WORKER = """
import sys
from alligator import Gator, Worker
sys.exit(Worker(Gator(sys.argv[1]), lease_for=3).run_forever())
"""

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(shared_dsn: str) -> Iterator[Start]:
    """Start a worker, and end it with the test."""
    programs: list[subprocess.Popen[bytes]] = []

    def start_one() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", WORKER, shared_dsn]
        programs.append(
            subprocess.Popen(command, env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
        )
        return programs[-1]

    yield start_one
    for program in programs:
        program.kill()
        program.wait()


def freeze(program: "subprocess.Popen[bytes]", dsn: str) -> None:
    """Stop a process at a moment at which it does not hold the lock of its SQLite file."""
    while True:
        program.send_signal(signal.SIGSTOP)
        os.waitpid(program.pid, os.WUNTRACED)
        if not is_locked(dsn):
            return
        program.send_signal(signal.SIGCONT)
        sleep(0.01)


def is_locked(dsn: str) -> bool:
    """Return whether a process is writing to the SQLite file; False for other stores."""
    path = dsn.partition("?")[0].removeprefix("sqlite://")
    if path == dsn.partition("?")[0]:
        return False
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


@pytest.mark.parametrize("dsn", ["sqlite", "valkey", "postgres"], indirect=True)
def test_frozen_worker_does_not_ack_a_newer_task_of_its_id(
    shared_dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, gate, out = Gator(shared_dsn), tmp_path / "gate", tmp_path / "out"
    report = gator.options(task_id="report-7")
    report.task(sleep_until, str(gate), 120.0)
    frozen = start()
    eventually(lambda: gator.stats().leased == 1, 60)
    freeze(frozen, shared_dsn)
    other = start()
    eventually(lambda: gator.stats().lost >= 1 and gator.stats().leased == 1, 60)
    gate.touch()
    eventually(lambda: gator.stats().succeeded == 1, 60)
    other.terminate()
    other.wait(60)

    newer = report.task(record, str(out), "newer")
    frozen.send_signal(signal.SIGCONT)
    # It acknowledges what it was given, and takes what is there.
    eventually(lambda: lines(out) == ["newer"] and gator.stats().succeeded == 2, 60)

    assert newer.status == WAITING
    assert gator.stats().pushed == 2
