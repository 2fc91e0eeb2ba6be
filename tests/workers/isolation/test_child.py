"""What an isolated task does to its own process, on purpose or not, harms no other task."""

import ctypes
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alligator import Gator
from alligator.constants import MAX_TIMEOUT
from tests.harness.isolation import burst, lives
from tests.harness.programs import environment, eventually, lines, run, running
from tests.harness.sample_tasks import add, fail, record, record_pid

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]


in_each_mode = pytest.mark.parametrize(
    "mode",
    [[], ["-c", "2"], ["-p", "2"], ["--isolate"]],
    ids=lambda mode: " ".join(mode) or "plain",
)


# A process that a task has forked.


def fork_and_return(path: str) -> None:
    """Fork, and return in both processes."""
    record(path, "forks")
    if os.fork() == 0:
        time.sleep(0.05)


def fork_and_raise(path: str) -> None:
    """Fork, and raise in the child."""
    record(path, "forks")
    if os.fork() == 0:
        raise RuntimeError("in the child")


def fork_without_hooks(path: str) -> None:
    """Fork as an extension may do it: Python does not know, so no hook closes anything."""
    record(path, "forks")
    ctypes.PyDLL(None).fork()


@pytest.mark.parametrize("func", [fork_and_return, fork_and_raise, fork_without_hooks])
def test_task_that_forks_answers_once(gator: Gator, out: Path, func: Callable[[str], None]) -> None:
    for number in range(5):
        gator.task(func, str(out))
        gator.task(fail)
        gator.task(record, str(out), str(number))

    burst(gator)

    stats = gator.stats()
    assert (stats.succeeded, stats.dead, stats.lost) == (10, 5, 0)
    assert {letter.reason for letter in gator.dead_letters()} == {"RuntimeError: no luck"}
    assert sorted(lines(out)) == [*map(str, range(5)), *["forks"] * 5]


def start_a_daemon(path: str) -> None:
    """Start a process that `multiprocessing` would end at the exit of this one."""
    process = multiprocessing.get_context("fork").Process(
        target=time.sleep, args=(60,), daemon=True
    )
    process.start()
    record(path, str(process.pid))


def fork_and_stay(path: str) -> None:
    """Leave a child running."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    record(path, str(pid))


@pytest.mark.parametrize("func", [start_a_daemon, fork_and_stay])
def test_process_that_a_task_has_left_ends_with_its_own(
    gator: Gator, out: Path, func: Callable[[str], None]
) -> None:
    gator.task(func, str(out))

    burst(gator)

    [pid] = map(int, lines(out))
    eventually(lambda: not lives(pid))
    assert gator.stats().succeeded == 1


def terminate_a_child(path: str) -> None:
    """Start a process, terminate it, and record what came of it."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(20)
    record(path, str(process.exitcode))
    process.kill()


@in_each_mode
def test_process_that_a_task_starts_can_be_terminated(
    tmp_path: Path, gator: Gator, out: Path, mode: list[str]
) -> None:
    gator.task(terminate_a_child, str(out))

    assert run(gator.conn_string, "--burst", *mode).returncode == 0

    assert lines(out) == ["-15"]


# What is in a payload.


@pytest.mark.parametrize("timeout", ["1e7", "1e300", "0.001", "1e999", "NaN"])
def test_payload_is_not_used_before_its_signature_is_verified(tmp_path: Path, timeout: str) -> None:
    gator = Gator(f"sqlite://{tmp_path}/queue.db", secret="secret", allow="tests.*")
    for task_id in ("first", "second"):
        data = (
            f'{{"task_id": "{task_id}", "retries": 0, "is_async": true, "module": "os", "callable": '
            f'"getpid", "args": [], "kwargs": {{}}, "options": {{"timeout": {timeout}}}}}'
        )
        gator.client.push("all", task_id, data)
    gator.task(add, 1, 2)

    worker = burst(gator)

    assert worker.results == [3]
    assert [letter.reason.partition(":")[0] for letter in gator.dead_letters()] == [
        "BadSignature"
    ] * 2


def test_longest_timeout_is_accepted(gator: Gator, out: Path) -> None:
    gator.options(timeout=MAX_TIMEOUT).task(record, str(out), "long")

    burst(gator)

    assert lines(out) == ["long"]
    assert gator.stats().succeeded == 1


# Standard streams.


@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    "mode", [[], ["-p", "2"], ["--isolate"]], ids=lambda mode: " ".join(mode) or "plain"
)
def test_isolated_worker_runs_without_standard_streams(
    gator: Gator, out: Path, mode: list[str], redirections: str
) -> None:
    gator.task(record_pid, str(out))

    shell = ["sh", "-c", f'exec "$@" {redirections}', "sh"]
    program = [sys.executable, "-m", "alligator", gator.conn_string, "--burst", *mode]
    status = subprocess.call([*shell, *program], env=environment(), timeout=60)

    assert status == 0
    assert len(lines(out)) == 1


def close_streams() -> None:
    """Close the standard streams."""
    sys.stdout.close()
    sys.stderr.close()


@in_each_mode
def test_task_that_closes_its_streams_ends_no_worker(
    tmp_path: Path, gator: Gator, out: Path, mode: list[str]
) -> None:
    gator.task(close_streams)
    gator.options(delay_by=0.5).task(record, str(out), "next")

    with running(gator.conn_string, *mode, log=tmp_path / "log") as worker:
        eventually(lambda: lines(out) == ["next"])
        worker.terminate()
        assert worker.wait(30) == 0

    log = (tmp_path / "log").read_text()
    assert "a replacement starts" not in log
    assert log.count(" INFO done ") == 2
