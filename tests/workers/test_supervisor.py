"""A worker stops at a signal, whatever its tasks do, and its process ends then."""

import asyncio
import atexit
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Thread

import pytest

from alligator import Gator, Task
from alligator.workers.liveness import Liveness, WorkerHealth
from tests.harness.programs import ROOT, SLACK, Program, environment, eventually, lines, running
from tests.harness.sample_tasks import record

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

NOT_IGNORED = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
IGNORED = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
RUN = "import sys; from alligator.cli import main; main(sys.argv[1:])"


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/queue.db"


def work(dsn: str, tmp_path: Path, *options: str) -> AbstractContextManager[Program]:
    return running(dsn, *options, log=tmp_path / "log")


# Tasks.


def compute(path: str) -> None:
    """Compute in C, with the interpreter lock released."""
    record(path, "began")
    hashlib.pbkdf2_hmac("sha512", b"a", b"b", 2**31 - 1)


def ignore_signals(path: str) -> None:
    """Ignore signals."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    record(path, "ran")


def handle_on_a_loop(path: str) -> None:
    """Let an event loop handle a signal, which resets the handler when it ends."""

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)

    asyncio.run(main())
    record(path, "ran")


def fork(path: str) -> None:
    """Return twice."""
    os.fork()
    record(path, f"ran {os.getpid()}")


def note_success(task: Task, result: object) -> None:
    """A hook that writes a line."""
    record(task.func_args[0], "succeeded")


def leave_thread() -> None:
    """Leave a thread behind."""
    Thread(target=time.sleep, args=(60,)).start()


def leave_daemon() -> None:
    """Leave a process behind that is to end with this one."""
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True).start()


def leave_process() -> None:
    """Leave a process behind that this one waits for."""
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()


def leave_function() -> None:
    """Leave a function behind that is called at the end, and hangs."""
    atexit.register(time.sleep, 60)


def go_away(path: str) -> None:
    """Go to another folder."""
    os.chdir(path)


def use_the_current_loop() -> None:
    """Run a coroutine as programs of old did."""
    asyncio.get_event_loop().run_until_complete(asyncio.sleep(0))


async def be_a_coroutine() -> None:
    """Do nothing, on an event loop."""


# Signals.


def test_signal_is_handled_while_the_only_thread_is_busy_in_c(dsn: str, tmp_path: Path) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    gator.task(compute, str(out))
    with work(dsn, tmp_path, "--shutdown-timeout", "0.2") as worker:
        eventually(lambda: lines(out))

        worker.send_signal(signal.SIGTERM)

        assert worker.wait(30) == 1
        assert worker.said("not finished in time")
    assert (gator.stats().ready, gator.stats().leased) == (1, 0)


@pytest.mark.parametrize(
    ("before", "number", "code"),
    [
        (NOT_IGNORED, signal.SIGHUP, 0),
        (NOT_IGNORED, signal.SIGTERM, 0),
        (IGNORED, signal.SIGTERM, 0),
        (IGNORED, signal.SIGHUP, None),
    ],
    ids=["hangup", "term", "term under nohup", "hangup under nohup"],
)
def test_hangup_ends_a_worker_gracefully_unless_it_was_ignored_before(
    dsn: str, tmp_path: Path, before: str, number: int, code: int | None
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        worker = subprocess.Popen(
            [sys.executable, "-c", f"{before}\n{RUN}", dsn],
            env=environment(),
            cwd=ROOT,
            stderr=stderr,
        )
    try:
        eventually(lambda: "starts on" in log.read_text())

        worker.send_signal(number)

        if code is None:
            gator, out = Gator(dsn), tmp_path / "out"
            gator.task(record, str(out), "still here")
            eventually(lambda: lines(out))
        else:
            assert worker.wait(30) == code
            assert "has stopped" in log.read_text()
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.parametrize("task", [ignore_signals, handle_on_a_loop])
def test_handlers_that_a_task_has_replaced_are_set_again(
    dsn: str, tmp_path: Path, task: Callable[[str], None]
) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    gator.task(task, str(out))
    gator.task(time.sleep, 0.2)
    with work(dsn, tmp_path) as worker:
        eventually(lambda: worker.said("has replaced the signal handlers of SIGTERM"))
        eventually(lambda: gator.stats().succeeded == 2)

        worker.send_signal(signal.SIGTERM)

        assert worker.wait(30) == 0
        assert worker.said("has stopped after 2 tasks")


def test_signal_to_a_child_of_a_task_does_not_stop_the_worker(dsn: str, tmp_path: Path) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    gator.task(terminate_a_child, str(out))
    with work(dsn, tmp_path) as worker:
        eventually(lambda: lines(out))
        gator.task(record, str(out), "next")
        eventually(lambda: len(lines(out)) == 2)

        assert not worker.said("is stopping")
    assert lines(out) == [str(-signal.SIGTERM), "next"]


def terminate_a_child(path: str) -> None:
    """Start a process and end it at once."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join(30)
    record(path, str(child.exitcode))


@pytest.mark.parametrize("concurrency", ["1", "2"])
def test_fork_whose_child_returns_ends_in_the_child(
    dsn: str, tmp_path: Path, concurrency: str
) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    gator.options(on_success=note_success).task(fork, str(out))
    with work(dsn, tmp_path, "-c", concurrency) as worker:
        eventually(lambda: len(lines(out)) == 3)
        child = next(
            int(line.split()[1])
            for line in lines(out)
            if line.startswith("ran") and line != f"ran {worker.pid}"
        )
        eventually(lambda: not is_alive(child))
        gator.task(record, str(out), "next")
        eventually(lambda: "next" in lines(out))

        worker.send_signal(signal.SIGTERM)

        assert worker.wait(30) == 0
        assert worker.said("has stopped after 2 tasks")
        assert worker.said("returned from the task's function")
    assert lines(out).count("succeeded") == 1
    assert lines(out).count("next") == 1
    assert gator.stats().succeeded == 2


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# The end.


@pytest.mark.parametrize("task", [leave_thread, leave_daemon, leave_process, leave_function])
@pytest.mark.parametrize("how", ["burst", "signal"])
def test_worker_ends_though_tasks_left_threads_or_processes_behind(
    dsn: str, tmp_path: Path, task: Callable[[], None], how: str
) -> None:
    gator = Gator(dsn)
    gator.task(task)
    options = ["--shutdown-timeout", "2", *(["--burst"] if how == "burst" else [])]
    with work(dsn, tmp_path, *options) as worker:
        eventually(lambda: gator.stats().succeeded == 1)
        if how == "signal":
            worker.send_signal(signal.SIGTERM)
        eventually(lambda: worker.said("has stopped after 1 tasks"))
        began = time.monotonic()

        assert worker.wait(30) == 0
        assert time.monotonic() - began < 2 + 2 * SLACK
        assert task is leave_daemon or worker.said("the process is still waiting")


def test_process_1_of_a_container_ends_though_tasks_left_processes(
    dsn: str, tmp_path: Path
) -> None:
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a container needs rights that this user does not have")
    gator, log = Gator(dsn), tmp_path / "log"
    gator.task(leave_thread)
    with log.open("wb") as stderr:
        outside = subprocess.Popen(
            [*unshare, sys.executable, "-m", "alligator", dsn, "--shutdown-timeout", "2"],
            env=environment(),
            cwd=ROOT,
            stderr=stderr,
        )
    try:
        eventually(lambda: gator.stats().succeeded == 1)
        children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text()

        os.kill(int(children), signal.SIGTERM)

        assert outside.wait(30) == 0
        assert "has stopped after 1 tasks" in log.read_text()
    finally:
        outside.kill()
        outside.wait()


# The folder.


def test_health_file_stays_in_place_when_a_task_changes_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.workers.liveness.TOUCH_SECONDS", 0.01)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    now = WorkerHealth(True, False)

    with Liveness(lambda: now, "alive").served():
        os.chdir("elsewhere")
        now = WorkerHealth(True, True)
        eventually(lambda: (tmp_path / "alive").read_text() == "the store answers\n")

    assert [path.name for path in tmp_path.rglob("*")] == ["elsewhere"]


def test_coroutine_leaves_the_current_event_loop_to_the_next_task(dsn: str, tmp_path: Path) -> None:
    gator = Gator(dsn)
    gator.task(be_a_coroutine)
    gator.task(use_the_current_loop)
    with work(dsn, tmp_path, "--burst") as worker:
        assert worker.wait(30) == 0

    dead = gator.dead_letters()
    assert sys.version_info >= (3, 14) or [letter.reason for letter in dead] == []


# The streams.


def speak() -> None:
    """Write to both streams."""
    print("said", flush=True)
    print("said", file=sys.stderr, flush=True)


@pytest.mark.parametrize(
    "streams", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"]
)
@pytest.mark.parametrize("options", ["--burst", "--burst -c 2"])
def test_worker_works_without_standard_streams(dsn: str, streams: str, options: str) -> None:
    gator = Gator(dsn)
    gator.task(be_quiet)
    if "full" not in streams:
        gator.task(speak)

    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m alligator "$1" {options} {streams}', sys.executable, dsn],
        env=environment(),
        cwd=ROOT,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0
    assert (gator.stats().ready, gator.stats().dead) == (0, 0)


def be_quiet() -> None:
    """Write nothing."""
