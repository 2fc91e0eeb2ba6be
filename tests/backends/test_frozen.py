"""A worker that is frozen until its task has been run by another: real processes on one store."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alligator import WAITING, Gator
from tests.harness.programs import ROOT, environment, eventually, lines
from tests.harness.sample_tasks import record, sleep_until

WORKER = """
import sys
from alligator import Gator, Worker
sys.exit(Worker(Gator(sys.argv[1]), lease_for=1.5).run_forever())
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


@pytest.mark.parametrize("dsn", ["sqlite", "valkey", "postgres"], indirect=True)
def test_frozen_worker_does_not_ack_a_newer_task_of_its_id(
    shared_dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, gate, out = Gator(shared_dsn), tmp_path / "gate", tmp_path / "out"
    report = gator.options(task_id="report-7")
    report.task(sleep_until, str(gate), 120.0)
    frozen = start()
    eventually(lambda: gator.stats().leased == 1, 60)
    frozen.send_signal(signal.SIGSTOP)
    other = start()
    eventually(lambda: gator.stats().lost == 1 and gator.stats().leased == 1, 60)
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
