"""Children that are kept running, without a queue."""

import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from tests.programs import environment, eventually, lines

PROGRAM = """
import logging, os, signal, sys, threading, time
from pathlib import Path
from alligator.processes import Processes

out = Path(sys.argv[1])
logging.basicConfig(level="INFO")

def note(word):
    with out.open("a") as file:
        file.write(word + "\\n")

def work(place):
    note("begin")
    {work}

sys.exit(Processes({count}, work, shutdown_timeout=0.1, renew={renew}).run())
"""

UNTIL_TOLD = """
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    note("ready")
    while not told:
        time.sleep(0.01)
    return {status}
"""


def start(out: Path, work: str, count: int = 2, *, renew: bool = False) -> subprocess.Popen[bytes]:
    code = PROGRAM.format(work=work, count=count, renew=renew)
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


def test_a_child_that_dies_is_replaced_after_a_pause(out: Path) -> None:
    began = monotonic()
    work = "return 0 if len(out.read_text().splitlines()) > 2 else os._exit(7)"

    status = ending(start(out, work, count=1))

    assert status == 0
    assert lines(out) == ["begin"] * 3
    assert log_of(out).read_text().count("ended with status 7") == 2
    assert monotonic() - began > 1.4  # half a second, then a whole one


def test_a_child_that_had_its_share_is_replaced_at_once(out: Path) -> None:
    program = start(out, "return 0", count=1, renew=True)
    began = monotonic()
    eventually(lambda: len(lines(out)) >= 7)
    took = monotonic() - began

    program.terminate()

    assert ending(program) == 0
    assert took < 20  # with pauses it would be half a minute
    assert "another starts" not in log_of(out).read_text()


def test_each_signal_is_handed_on(out: Path) -> None:
    work = """
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(note("told")))
    note("ready")
    while len(told) < 2:
        time.sleep(0.01)
    return 0
"""
    program = start(out, work, count=2)
    eventually(lambda: lines(out).count("ready") == 2)

    program.terminate()
    eventually(lambda: lines(out).count("told") == 2)
    program.terminate()

    assert ending(program) == 0
    assert lines(out).count("told") == 4


def test_a_child_that_raises_is_replaced_too(out: Path) -> None:
    work = "return 0 if len(out.read_text().splitlines()) > 1 else 1 / 0"

    status = ending(start(out, work, count=1))

    assert status == 0
    assert "ZeroDivisionError" in log_of(out).read_text()


def test_children_that_cannot_work_at_all_end_the_program(out: Path) -> None:
    status = ending(start(out, "return 2"))

    assert status == 2
    assert "another starts" not in log_of(out).read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_to_every_child(out: Path, number: signal.Signals) -> None:
    program = start(out, UNTIL_TOLD.format(status=0), count=3)
    eventually(lambda: lines(out).count("ready") == 3)

    program.send_signal(number)

    assert ending(program) == 0


def test_work_left_unfinished_by_a_child_is_told(out: Path) -> None:
    program = start(out, UNTIL_TOLD.format(status=1))
    eventually(lambda: lines(out).count("ready") == 2)

    program.terminate()

    assert ending(program) == 1


def test_a_child_that_does_not_listen_is_killed(out: Path) -> None:
    work = "signal.signal(signal.SIGTERM, signal.SIG_IGN); note('deaf'); time.sleep(60)"
    program = start(out, work, count=1)
    eventually(lambda: "deaf" in lines(out))

    program.terminate()

    assert ending(program) == 1


def test_a_signal_during_a_pause_ends_it(out: Path) -> None:
    program = start(out, "os._exit(7)", count=1)
    eventually(lambda: "another starts in 2.0 s" in log_of(out).read_text())

    program.terminate()

    assert ending(program) == 0
