"""Children that are kept running, without a queue."""

import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from tests.harness.programs import environment, eventually, lines

PROGRAM = """
import logging, os, signal, sys, threading, time
from pathlib import Path
from alligator.workers.liveness import Liveness
from alligator.workers.prefork import Prefork
from alligator.workers.shared_health import SharedHealth

out = Path(sys.argv[1])
logging.basicConfig(level="INFO")

def note(word):
    with out.open("a") as file:
        file.write(word + "\\n")

def work(slot):
    note("begin")
    {work}

liveness = Liveness(SharedHealth({count}).health)
{setup}
sys.exit(Prefork({count}, work, liveness, shutdown_timeout=0.1, renew={renew}).run())
"""

UNTIL_TOLD = """
    received = []
    signal.signal(signal.SIGTERM, lambda *_: received.append(1))
    note("ready")
    while not received:
        time.sleep(0.01)
    return {status}
"""


def start(
    out: Path, work: str, count: int = 2, *, renew: bool = False, setup: str = ""
) -> subprocess.Popen[bytes]:
    code = PROGRAM.format(work=work, count=count, renew=renew, setup=setup)
    with log_of(out).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(out)], env=environment(), stderr=log
        )


def log_of(out: Path) -> Path:
    return out.with_suffix(".log")


def ending(program: subprocess.Popen[bytes]) -> int:
    """Wait for its end, and return its status."""
    try:
        return program.wait(timeout=30)
    finally:
        program.kill()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_children_that_finish_are_not_replaced(out: Path) -> None:
    status = ending(start(out, "return 0", count=3))

    assert status == 0
    assert lines(out) == ["begin"] * 3


def test_child_that_dies_is_replaced_after_a_pause(out: Path) -> None:
    began = monotonic()
    work = "return 0 if len(out.read_text().splitlines()) > 2 else os._exit(7)"

    status = ending(start(out, work, count=1))

    assert status == 0
    assert lines(out) == ["begin"] * 3
    assert log_of(out).read_text().count("ended with status 7") == 2
    assert monotonic() - began > 1.4  # half a second, then a whole one


def test_child_that_reached_its_task_limit_is_replaced_at_once(out: Path) -> None:
    program = start(out, "return 0", count=1, renew=True)
    began = monotonic()
    eventually(lambda: len(lines(out)) >= 7)
    took = monotonic() - began

    program.terminate()

    assert ending(program) == 0
    assert took < 20  # with pauses it would be half a minute
    assert "a replacement starts" not in log_of(out).read_text()


def test_each_signal_is_handed_on(out: Path) -> None:
    work = """
    received = []
    signal.signal(signal.SIGTERM, lambda *_: received.append(note("received")))
    note("ready")
    while len(received) < 2:
        time.sleep(0.01)
    return 0
"""
    program = start(out, work, count=2)
    eventually(lambda: lines(out).count("ready") == 2)

    program.terminate()
    eventually(lambda: lines(out).count("received") == 2)
    program.terminate()

    assert ending(program) == 0
    assert lines(out).count("received") == 4


def test_child_that_raises_is_replaced(out: Path) -> None:
    work = "return 0 if len(out.read_text().splitlines()) > 1 else 1 / 0"

    status = ending(start(out, work, count=1))

    assert status == 0
    assert "ZeroDivisionError" in log_of(out).read_text()


def test_children_that_cannot_work_at_all_end_the_program(out: Path) -> None:
    status = ending(start(out, "return 2"))

    assert status == 2
    assert "a replacement starts" not in log_of(out).read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_passed_to_every_child(out: Path, number: signal.Signals) -> None:
    program = start(out, UNTIL_TOLD.format(status=0), count=3)
    eventually(lambda: lines(out).count("ready") == 3)

    program.send_signal(number)

    assert ending(program) == 0


def test_work_left_unfinished_by_a_child_is_told(out: Path) -> None:
    program = start(out, UNTIL_TOLD.format(status=1))
    eventually(lambda: lines(out).count("ready") == 2)

    program.terminate()

    assert ending(program) == 1


def test_child_that_ignores_signals_is_killed(out: Path) -> None:
    work = "signal.signal(signal.SIGTERM, signal.SIG_IGN); note('deaf'); time.sleep(60)"
    program = start(out, work, count=1)
    eventually(lambda: "deaf" in lines(out))

    program.terminate()

    assert ending(program) == 1


def test_signal_during_a_pause_ends_it(out: Path) -> None:
    program = start(out, "os._exit(7)", count=1)
    eventually(lambda: "a replacement starts in 2.0 s" in log_of(out).read_text())

    program.terminate()

    assert ending(program) == 0


FORK_THAT_FAILS = """
forks = []
fork = os.fork

def fork_or_fail():
    forks.append(1)
    if len(forks) in (3, 4):
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()

os.fork = fork_or_fail
"""


def test_fork_that_fails_is_repeated_while_the_other_children_continue(out: Path) -> None:
    work = """
    if slot == 0 and len(out.read_text().splitlines()) <= 2:
        os._exit(7)
    if slot == 0:
        return 0
    while lines := out.read_text().splitlines():
        if lines.count("begin") > 2:
            note("survived")
            return 0
        time.sleep(0.01)
"""
    status = ending(start(out, work, setup=FORK_THAT_FAILS))

    assert status == 0
    assert lines(out) == ["begin"] * 3 + ["survived"]
    assert log_of(out).read_text().count("a worker process cannot be started") == 2
