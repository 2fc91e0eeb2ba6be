"""Workers in processes of their own, on a file."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alligator import DUPLICATE, WAITING, Gator, Task
from tests.harness.programs import eventually
from tests.harness.sample_tasks import (
    crash,
    record,
    record_and_die,
    record_and_wait,
    record_batch,
    record_both_ends,
    sleep_for,
    sleep_until,
)

ROOT = Path(__file__).parents[2]


PROGRAM = """
import json, sys
from alligator import Gator, Worker
dsn, settings = sys.argv[1], json.loads(sys.argv[2])
sys.exit(Worker(Gator(dsn), **settings).run_forever())
"""


class Program:
    """A worker in a process of its own."""

    def __init__(self, dsn: str, directory: Path, settings: dict[str, Any]) -> None:
        script = directory / "run_tasks.py"
        if not script.exists():  # to write it again would show others that start an empty program
            script.write_text(PROGRAM)
        self.log = directory / f"worker-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, script, dsn, json.dumps(settings)],
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def is_up(self) -> bool:
        return " starts on " in self.log.read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 10) -> int:
        return self.process.wait(seconds)


Start = Callable[..., Program]


@pytest.fixture
def start(dsn: str, tmp_path: Path) -> Iterator[Start]:
    """Start a worker as a program, and end it with the test."""
    programs: list[Program] = []

    def start_one(**settings: Any) -> Program:
        programs.append(Program(dsn, tmp_path, settings))
        return programs[-1]

    yield start_one
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_task_of_a_killed_worker_runs_again(dsn: str, tmp_path: Path, start: Start) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    gator.task(record_both_ends, str(out), "task", 0.8)
    first = start(lease_for=0.6)
    eventually(lambda: lines(out))

    first.signal(signal.SIGKILL)
    killed = time.monotonic()
    start(lease_for=0.6)
    eventually(lambda: len(lines(out)) == 2)
    waited = time.monotonic() - killed
    eventually(lambda: "end task" in lines(out))

    assert waited < 5
    assert lines(out) == ["begin task", "begin task", "end task"]


def test_sigterm_finishes_the_running_task_and_releases_the_rest(
    dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, out, gate = Gator(dsn), tmp_path / "out", tmp_path / "gate"
    gator.task(record, str(out), "before")
    gator.task(sleep_until, str(gate))
    for _ in range(3):
        gator.task(record, str(out), "after")
    worker = start()
    eventually(lambda: (gator.stats().succeeded, gator.stats().leased) == (1, 1))

    worker.signal(signal.SIGTERM)
    eventually(lambda: "is stopping" in worker.log.read_text())
    gate.touch()
    code = worker.wait()

    assert code == 0
    assert lines(out) == ["before"]
    assert (gator.stats().succeeded, gator.stats().ready, gator.stats().leased) == (2, 3, 0)


def test_task_of_a_killed_worker_keeps_its_unique_key(
    dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, out, gate = Gator(dsn), tmp_path / "out", tmp_path / "gate"

    def run_once(line: str) -> Task:
        options = gator.options(unique="nightly", unique_until="done")
        return options.task(record_and_wait, str(out), line, str(gate))

    first = run_once("first")
    worker = start(lease_for=0.6)
    eventually(lambda: lines(out) == ["first"])
    assert run_once("while it runs").task_id == first.task_id

    worker.signal(signal.SIGKILL)
    worker.wait()
    assert run_once("while it is lost").status == DUPLICATE
    gate.touch()
    start(lease_for=0.6)
    eventually(lambda: gator.stats().succeeded == 1)

    assert run_once("after it").status == WAITING
    eventually(lambda: gator.stats().succeeded == 2)
    assert lines(out) == ["first", "first", "after it"]


def test_follow_up_is_queued_once_although_workers_are_killed(
    dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    with gator.transaction() as tx:
        for _ in range(3):
            gator.task(record_and_die, str(tmp_path / "others"), "dies")
        for _ in range(20):
            gator.task(record, str(tmp_path / "others"), "other")
        tx.then(record_batch, str(out))

    workers = [start(lease_for=2, max_lost=1)]

    def has_run() -> bool:
        if workers[-1].process.poll() is not None:
            workers.append(start(lease_for=2, max_lost=1))
        return bool(lines(out))

    eventually(has_run, 180)
    assert len(workers) > 3
    stats = gator.stats()
    # On a busy machine, the lease of another task may have ended, too.
    assert stats.dead >= 3
    assert lines(out) == [f"23 tasks, {stats.dead} dead"]
    assert stats.pushed == 24


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_worker_ends_at_once_at_a_signal(start: Start, number: int) -> None:
    worker = start()
    eventually(worker.is_up)

    signalled = time.monotonic()
    worker.signal(number)

    assert worker.wait() == 0
    assert time.monotonic() - signalled < 10  # of the minute that it has for tasks
    assert "has stopped after 0 tasks" in worker.log.read_text()


@pytest.mark.parametrize("ending", ["second signal", "time-out"])
def test_unfinished_task_is_released_and_changes_the_exit_status(
    dsn: str, start: Start, ending: str
) -> None:
    gator = Gator(dsn)
    gator.task(sleep_for, 60)
    worker = start(shutdown_timeout=0.2 if ending == "time-out" else 60)
    eventually(lambda: gator.stats().leased == 1)

    worker.signal(signal.SIGTERM)
    if ending == "second signal":
        eventually(lambda: "is stopping" in worker.log.read_text())
        worker.signal(signal.SIGTERM)

    assert worker.wait() == 1
    assert "not finished in time; released" in worker.log.read_text()
    assert (gator.stats().ready, gator.stats().leased) == (1, 0)


def test_reserved_tasks_of_a_terminated_worker_run_elsewhere(
    dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    with gator.transaction():
        for number in range(900):
            gator.task(record, str(out), str(number))
    first = start()
    eventually(lambda: len(lines(out)) > 50)

    first.signal(signal.SIGTERM)
    code = first.wait()
    done = len(lines(out))
    leased = gator.stats().leased
    start(burst=True).wait(30)

    assert (code, leased) == (0, 0)
    assert 50 < done < 900
    assert lines(out) == [str(number) for number in range(900)]
    assert gator.stats().lost == 0


def test_task_that_kills_its_workers_is_dead_after_max_lost(
    dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    gator.task(crash)
    gator.task(record, str(out), "next")

    codes = [start(lease_for=0.3, max_lost=2).wait() for _ in range(2)]
    start(lease_for=0.3, max_lost=2)
    eventually(lambda: gator.stats().dead == 1 and lines(out))

    assert codes == [3, 3]
    assert "lost 2 times" in gator.dead_letters()[0].reason


def test_several_workers_run_each_task_once(dsn: str, tmp_path: Path, start: Start) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    with gator.transaction():
        for number in range(200):
            gator.task(record, str(out), str(number))

    workers = [start(burst=True), start(burst=True, concurrency=4)]
    codes = [worker.wait(30) for worker in workers]

    assert codes == [0, 0]
    assert sorted(lines(out), key=int) == [str(number) for number in range(200)]


def test_task_that_kills_two_workers_spares_the_third(
    dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    gator.task(record_and_die, str(out), "ran")

    workers = [start(lease_for=0.3, max_lost=2) for _ in range(3)]
    eventually(lambda: gator.stats().dead == 1)

    assert lines(out) == ["ran", "ran"]
    assert sum(worker.process.poll() is None for worker in workers) == 1


def cpu_seconds(pid: int) -> float:
    """Ask how long a process has had a core."""
    facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_waiting_worker_uses_almost_no_cpu(start: Start) -> None:
    worker = start()
    eventually(worker.is_up)
    time.sleep(0.5)  # until it has begun to wait
    before = cpu_seconds(worker.process.pid)

    time.sleep(2)

    assert cpu_seconds(worker.process.pid) - before < 0.15
