"""What ``make demo`` and ``make serve`` run."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from redis import Redis

from examples.processes import PATIENCE, ROOT, running
from tests.harness.postgres_servers import postgres_server
from tests.harness.programs import environment
from tests.harness.requirements import needed
from tests.harness.store_servers import Server, valkey_server


@pytest.fixture
def valkey() -> Iterator[Server]:
    with valkey_server() as server:
        yield server


def play(arguments: str, log: Path) -> tuple[int, str]:
    """Run the demo to its end; return its exit status and what it printed."""
    with running(f"examples.demo {arguments}", log) as process:
        status = process.wait()
    return status, process.said()


def test_demo_keeps_every_promise_on_sqlite(tmp_path: Path) -> None:
    status, said = play("", tmp_path / "log")

    assert status == 0, said
    assert "SQLite" in said
    assert "Every promise was kept" in said


def test_demo_keeps_every_promise_on_redis_and_leaves_nothing_there(
    tmp_path: Path, valkey: Server
) -> None:
    status, said = play(f"--redis {valkey}", tmp_path / "log")

    assert status == 0, said
    assert "Redis" in said
    assert "Every promise was kept" in said
    with Redis.from_url(valkey) as connection:
        assert connection.keys() == []


@pytest.mark.slow
def test_demo_keeps_every_promise_on_postgresql_and_leaves_nothing_there(tmp_path: Path) -> None:
    with needed(), postgres_server() as server:
        status, said = play(f"--postgres {server.dsn}", tmp_path / "log")
        with psycopg.connect(server.dsn) as connection:
            schemas = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname ~ '^demo|alligator'"
            ).fetchall()

    assert status == 0, said
    assert "Every promise was kept" in said
    assert schemas == []


@pytest.mark.parametrize("dsn", ["postgresql://127.0.0.1:1/shop", "mysql://127.0.0.1/shop"])
def test_demo_reports_that_there_is_no_postgresql(tmp_path: Path, dsn: str) -> None:
    status, said = play(f"--postgres {dsn}", tmp_path / "log")

    assert status == 1
    assert "The demo failed" in said
    assert "Traceback" not in said


def test_demo_prints_plain_lines_of_80_columns_into_a_log(tmp_path: Path) -> None:
    _, said = play("", tmp_path / "log")

    assert "\x1b" not in said
    assert "\r" not in said
    assert max(len(line) for line in said.splitlines()) <= 80


def test_demo_reports_that_there_is_no_redis(tmp_path: Path) -> None:
    status, said = play("--redis redis://127.0.0.1:1/0", tmp_path / "log")

    assert status == 1
    assert "The demo failed" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["foreground", "background"])
def test_signal_ends_processes_that_were_left_running(
    tmp_path: Path, number: signal.Signals, place: str
) -> None:
    # A shell has what it starts in the background ignore SIGINT.
    before = signal.getsignal(signal.SIGINT)
    if place == "background":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with running("examples.demo --serve", tmp_path / "log") as process:
        signal.signal(signal.SIGINT, before)
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


def test_nohup_keeps_the_demo_running(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with running("examples.demo --serve", tmp_path / "log") as process:
        signal.signal(signal.SIGHUP, before)
        process.wait_for("Ctrl-C ends all of it")
        os.kill(process.pid, signal.SIGHUP)
        url = process.wait_for(r"http://127\.0\.0\.1:\d+")
        answered = httpx.get(f"{url}/alligator/health", timeout=PATIENCE, trust_env=False)
        os.kill(process.pid, signal.SIGINT)
        status = process.wait()

    assert answered.status_code == 200
    assert status == 0


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_demo_installs_only_what_it_needs(tmp_path: Path) -> None:
    command = ["make", "--dry-run", "demo", f"VENV={tmp_path}/venv"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert ".[demo]" in done.stdout
    assert ".[dev]" not in done.stdout


SAYS_ITS_SIGNALS = """
import subprocess, sys
from tests.harness.programs import accept_signals

accept_signals()
code = "import signal as s; print([s.getsignal(n) == s.SIG_IGN for n in (s.SIGINT, s.SIGHUP)])"
subprocess.run([sys.executable, "-c", code], check=True)
"""


def test_programs_that_tests_start_have_the_usual_signals() -> None:
    script = 'trap "" INT HUP QUIT; exec "$0" -c "$1"'

    done = subprocess.run(
        ["sh", "-c", script, sys.executable, SAYS_ITS_SIGNALS],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "[False, False]\n"


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
