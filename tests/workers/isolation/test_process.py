"""Processes of isolated tasks that die, hang or are killed."""

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from alligator import Gator, Task, Worker
from tests.harness.isolation import burst, lives
from tests.harness.programs import eventually, lines
from tests.harness.sample_tasks import (
    add,
    crash,
    die,
    hang_in_native_code,
    interrupt,
    record,
    record_pid,
    segfault,
    spin,
    start_and_hang,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.mark.parametrize(
    ("func", "reason"),
    [
        (segfault, "TaskCrashed: its process was killed by SIGSEGV"),
        (crash, "TaskCrashed: its process ended with status 3"),
        (die, "TaskCrashed: its process was killed by SIGKILL, perhaps for lack of memory"),
        (interrupt, "KeyboardInterrupt: "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_process_that_dies_costs_its_task_one_attempt(
    gator: Gator, out: Path, func: Callable[[], None], reason: str
) -> None:
    dying = gator.options(retries=1, backoff=0).task(func)
    for number in range(5):
        gator.task(record, str(out), str(number))

    burst(gator)

    [letter] = gator.dead_letters()
    assert (letter.task_id, letter.reason) == (dying.task_id, reason)
    assert sorted(lines(out)) == ["0", "1", "2", "3", "4"]
    assert (gator.stats().retried, gator.stats().lost) == (1, 0)


def test_process_crash_is_shown_in_the_dead_letter(gator: Gator) -> None:
    gator.task(segfault)

    burst(gator)

    [letter] = gator.dead_letters()
    assert "sample_tasks.py" in letter.traceback
    assert "in segfault" in letter.traceback
    assert "isolation.py" not in letter.traceback


def test_process_crash_is_logged_with_its_task(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    task = gator.options(retries=1, backoff=0).task(crash)

    burst(gator)

    logged = [
        (record.__dict__["alligator_event"], record.__dict__["attempt"], record.__dict__["reason"])
        for record in caplog.records
        if getattr(record, "task_id", "") == task.task_id
    ]
    reason = "TaskCrashed: its process ended with status 3"
    assert logged == [
        ("failed; will be retried", 1, reason),
        ("failed permanently; moved to the dead letters", 2, reason),
    ]


def test_process_that_hangs_in_native_code_is_killed(gator: Gator, out: Path) -> None:
    gator.options(timeout=0.3, on_error=grant_one_more).task(hang_in_native_code)
    gator.task(record, str(out), "next")
    began = time.monotonic()

    burst(gator)

    [letter] = gator.dead_letters()
    assert letter.reason == "TaskTimeout: the task took longer than 0.3 seconds, and was killed"
    assert "in hang_in_native_code" in letter.traceback
    assert (gator.stats().retried, gator.stats().succeeded) == (1, 1)
    assert time.monotonic() - began < 20


def grant_one_more(task: Task, error: BaseException) -> None:
    """A hook that grants one more attempt, once."""
    task.backoff = 0
    task.retries = int(task.attempt == 1)


def test_process_survives_a_task_that_can_be_interrupted(gator: Gator, out: Path) -> None:
    gator.task(record_pid, str(out))
    gator.options(timeout=0.1).task(spin)
    gator.task(record_pid, str(out))

    burst(gator)

    assert gator.dead_letters()[0].reason == "TaskTimeout: the task took longer than 0.1 seconds"
    assert len(lines(out)) == 2
    assert len(set(lines(out))) == 1


def test_process_is_killed_with_all_that_its_task_started(gator: Gator, out: Path) -> None:
    gator.options(timeout=0.3).task(start_and_hang, str(out))

    burst(gator)

    pids = [int(pid) for pid in lines(out)[0].split()]
    eventually(lambda: not any(lives(pid) for pid in pids))


def test_process_killed_between_two_tasks_is_replaced(gator: Gator, out: Path) -> None:
    worker = Worker(gator, isolate=True)
    thread = Thread(target=worker.run_forever)
    thread.start()
    gator.task(record_pid, str(out))
    eventually(lambda: gator.stats().succeeded == 1)

    os.kill(int(lines(out)[0]), signal.SIGKILL)
    eventually(lambda: not lives(int(lines(out)[0])))
    gator.task(record_pid, str(out))
    eventually(lambda: gator.stats().succeeded == 2)
    worker.stop()
    thread.join(10)

    assert len(set(lines(out))) == 2
    assert gator.stats().retried == 0


def test_process_leaves_no_descriptor_open(gator: Gator) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    logging.getLogger("alligator").setLevel(logging.CRITICAL)
    burst(gator)
    before = count()
    for _ in range(5):
        gator.task(crash)

    burst(gator)

    eventually(lambda: count() <= before)


def test_process_without_free_descriptors_releases_its_task(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    gator.task(add, 1, 2)
    worker = Worker(gator, isolate=True)
    worker.prepare()
    counts = []

    def no_file() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("alligator.workers.isolation.process.TemporaryFile", no_file)
    monkeypatch.setattr(
        "alligator.execution.attempt.MAX_RELEASE_PAUSE", 0.0
    )  # or it would be scheduled
    for _ in range(3):
        assert not worker.check_and_run_task()
        assert "Too many open files" in worker.unrunnable["tests.harness.sample_tasks.add"]
        counts.append(len(os.listdir("/proc/self/fd")))
    assert worker.isolation is not None
    worker.isolation.close()

    assert len(set(counts)) == 1
    assert gator.stats().ready == 1
