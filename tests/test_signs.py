"""How a worker in a container shows that it lives."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from alligator import Gator, Worker, lanes, shared_signs, signs
from alligator.backends.base import WorkerInfo
from alligator.backends.locmem_backend import Client
from alligator.exceptions import BackendUnavailable, ConfigurationError
from alligator.health_server import HealthServer
from alligator.shared_signs import SharedSigns
from alligator.signs import HealthFile, Sign
from tests.programs import ROOT, Program, eventually, running

gate = Event()

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


def wait() -> None:
    """Be a task that takes as long as the test wants."""
    gate.wait(30)


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}{path}", method=method), timeout=10) as found:
            return found.status, found.read().decode().strip()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode().strip()
    except OSError:
        return 0, "it does not listen"


@pytest.mark.parametrize(
    ("sign", "live", "ready"),
    [(Sign(True, True), 200, 200), (Sign(True, False), 200, 503), (Sign(False, True), 503, 503)],
)
def test_over_http_a_worker_lives_without_its_store_and_is_ready_with_it(
    sign: Sign, live: int, ready: int
) -> None:
    with closing(HealthServer(lambda: sign, 0)) as server:
        assert ask(server.port, "/health/live")[0] == live
        assert ask(server.port, "/health/ready")[0] == ready
        assert ask(server.port, "/health/ready", "HEAD") == (ready, "")
        assert ask(server.port, "/stats")[0] == 404


def test_a_port_that_is_taken_is_refused() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigurationError, match="--health-port"),
    ):
        HealthServer(lambda: Sign(True, True), taken.getsockname()[1])


def test_the_file_is_touched_while_the_worker_lives_and_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs, "TOUCH_SECONDS", 0.01)
    path = tmp_path / "alive"
    now = Sign(True, False)
    with closing(HealthFile(lambda: now, str(path))):
        assert path.read_text() == "the store does not answer\n"
        now = Sign(True, True)
        eventually(lambda: path.read_text() == "the store answers\n")
        now = Sign(False, True)
        path.unlink()
        assert not path.exists()
    assert not path.exists()


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--health-file"):
        HealthFile(lambda: Sign(True, True), str(tmp_path / "nowhere" / "alive"))


def test_a_worker_lives_while_its_store_is_away() -> None:
    class Away(Client):
        def beat(self, worker: WorkerInfo, ttl: float) -> None:
            raise BackendUnavailable("away")

    there, away = Worker(Gator("locmem://")), Worker(Gator("locmem://", backend_class=Away))
    there._announce(alive=True)
    with pytest.raises(BackendUnavailable):
        away._announce(alive=True)

    assert there.sign() == Sign(True, True)
    assert away.sign() == Sign(True, False)


def test_a_worker_is_ready_while_it_beats() -> None:
    signs_of_life: list[Sign] = []

    class Curious(Client):
        """A store during whose answer somebody asks how the worker is."""

        def beat(self, worker: WorkerInfo, ttl: float) -> None:
            signs_of_life.append(curious.sign())
            super().beat(worker, ttl)

    curious = Worker(Gator("locmem://", backend_class=Curious))

    curious._announce(alive=True)
    curious._announce(alive=True)

    assert [sign.store for sign in signs_of_life] == [False, True]


def test_a_worker_that_does_not_beat_is_stuck() -> None:
    worker = Worker(Gator("locmem://"))
    worker._announce(alive=True)
    worker.lease_for = 0

    assert not worker.sign().lives


@pytest.mark.parametrize(("timeout", "lives"), [(0.2, False), (None, True)])
def test_a_worker_is_stuck_when_all_its_tasks_do_not_heed_their_timeout(
    timeout: float | None, lives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "OVERRUN_SECONDS", 0.05)
    gate.clear()
    gator = Gator("locmem://")
    gator.options(timeout=timeout).task(wait)
    worker = Worker(gator, max_tasks=1)
    thread = Thread(target=worker.run_forever)
    thread.start()
    try:
        eventually(lambda: any(lane.running_for(0.3) for lane in list(worker.lanes)))

        assert worker.sign().lives is lives
    finally:
        gate.set()
        thread.join()


def test_latergator_shows_that_it_lives_by_file_and_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = tmp_path / "alive"
    dsn = f"sqlite://{tmp_path}/queue.db"
    command = [sys.executable, "-m", "alligator", dsn]
    command += ["--health-file", str(path), "--health-port", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as latergator:
        try:
            eventually(path.exists)
            eventually(lambda: ask(port, "/health/ready")[0] == 200)
            assert ask(port, "/health/live") == (200, '{"status": "pass"}')
        finally:
            latergator.terminate()
        assert latergator.wait(30) == 0
    assert not path.exists()


@contextmanager
def two_processes(folder: Path) -> Iterator[tuple[Program, Path, int]]:
    """Run two workers, and give their file and their port when they are ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = folder / "alive"
    command = [f"sqlite://{folder}/queue.db", "-p", "2"]
    command += ["--health-file", str(path), "--health-port", str(port)]
    (folder / "sitecustomize.py").write_text(
        "from alligator import shared_signs\nshared_signs.SILENT_SECONDS = 2.5\n"
    )
    env = {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    with running(*command, log=folder / "log", env=env) as latergator:
        eventually(lambda: ask(port, "/health/ready")[0] == 200)
        yield latergator, path, port


def workers_of(latergator: Program) -> list[int]:
    found = re.findall(r"process (\d+) has started", latergator.log.read_text())
    return [int(pid) for pid in found]


@needs_fork
def test_several_processes_live_while_each_of_them_does(tmp_path: Path) -> None:
    with two_processes(tmp_path) as (latergator, path, port):
        assert path.exists()
        one, other = workers_of(latergator)

        os.kill(one, signal.SIGSTOP)
        eventually(lambda: ask(port, "/health/live")[0] == 503)
        os.kill(one, signal.SIGCONT)
        eventually(lambda: ask(port, "/health/live")[0] == 200)
        os.kill(other, signal.SIGKILL)  # and is replaced
        eventually(lambda: len(workers_of(latergator)) == 3)
        eventually(lambda: ask(port, "/health/ready")[0] == 200)

        latergator.terminate()
        assert latergator.wait(30) == 0
        assert not path.exists()
        assert ask(port, "/health/live")[0] == 0


@needs_fork
def test_nobody_answers_for_processes_whose_parent_is_gone(tmp_path: Path) -> None:
    with two_processes(tmp_path) as (latergator, path, port):
        latergator.kill()

        eventually(lambda: ask(port, "/health/live")[0] == 0)
        eventually(lambda: not path.exists())


@needs_fork
def test_several_processes_are_told_that_their_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "alligator", "locmem://", "-p", "2", "--health-port", port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert "--health-port" in done.stderr


def test_a_silent_worker_does_not_live_and_one_that_has_ended_is_not_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_signs, "SILENT_SECONDS", 0)
    signs = SharedSigns(2)
    silent = signs.sign()

    for place in (0, 1):
        with signs.posting(place, lambda: Sign(lives=True, store=False)):
            pass

    assert silent == Sign(lives=False, store=False)
    assert signs.sign() == Sign(lives=True, store=True)
