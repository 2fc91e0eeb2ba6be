"""What ``make demo`` and ``make serve`` run."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from examples.processes import PATIENCE, running
from tests.servers import Server, valkey_server


@pytest.fixture
def valkey() -> Iterator[Server]:
    with valkey_server() as server:
        yield server


def play(arguments: str, log: Path) -> tuple[int, str]:
    """Run the demo to its end; return its exit status and what it printed."""
    with running(f"examples.demo {arguments}", log) as process:
        status = process.wait()
    return status, process.said()


def test_the_demo_keeps_every_promise_on_sqlite(tmp_path: Path) -> None:
    status, said = play("", tmp_path / "log")

    assert status == 0, said
    assert "SQLite" in said
    assert "Every promise was kept" in said


def test_the_demo_keeps_every_promise_on_redis_and_leaves_nothing_there(
    tmp_path: Path, valkey: Server
) -> None:
    status, said = play(f"--redis {valkey}", tmp_path / "log")

    assert status == 0, said
    assert "Redis" in said
    assert "Every promise was kept" in said
    with Redis.from_url(valkey) as connection:
        assert connection.keys() == []


def test_the_demo_prints_plain_lines_of_80_columns_into_a_log(tmp_path: Path) -> None:
    _, said = play("", tmp_path / "log")

    assert "\x1b" not in said
    assert "\r" not in said
    assert max(len(line) for line in said.splitlines()) <= 80


def test_the_demo_says_so_when_there_is_no_redis(tmp_path: Path) -> None:
    status, said = play("--redis redis://127.0.0.1:1/0", tmp_path / "log")

    assert status == 1
    assert "The demo failed" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_was_left_running(tmp_path: Path, number: signal.Signals) -> None:
    with running("examples.demo --serve", tmp_path / "log") as process:
        process.wait_for("Ctrl-C ends all of it")
        url = process.wait_for(r"http://127\.0\.0\.1:\d+")
        children = [int(pid) for pid in re.findall(r"pid (\d+)", process.said())]
        answered = httpx.get(f"{url}/alligator/health", timeout=PATIENCE, trust_env=False)
        os.kill(process.pid, number)
        status = process.wait()

    assert answered.status_code == 200
    assert status == 0
    assert len(children) == 2
    assert not any(is_running(pid) for pid in children)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
