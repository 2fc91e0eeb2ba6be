"""Liveness and readiness of workers: the file, the port, and malicious clients."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from alligator import Gator, Worker
from alligator.backends.base import WorkerInfo
from alligator.backends.locmem_backend import Client
from alligator.exceptions import BackendUnavailable, ConfigurationError
from alligator.workers import liveness, threads
from alligator.workers.liveness import MAX_CONNECTIONS, Liveness, WorkerHealth
from tests.harness.programs import ROOT, Program, eventually, running

gate = Event()

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


def wait() -> None:
    """Wait until the test opens the gate."""
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
    ("health", "live", "ready"),
    [
        (WorkerHealth(True, True), 200, 200),
        (WorkerHealth(True, False), 200, 503),
        (WorkerHealth(False, True), 503, 503),
    ],
)
def test_worker_over_http_is_alive_without_its_store_and_ready_with_it(
    health: WorkerHealth, live: int, ready: int
) -> None:
    served = Liveness(lambda: health, port=0)
    with served.served():
        assert ask(served.port, "/health/live")[0] == live
        assert ask(served.port, "/health/ready")[0] == ready
        assert ask(served.port, "/health/ready", "HEAD") == (ready, "")
        assert ask(served.port, "/stats")[0] == 404
        assert ask(served.port, "/health/live", "POST")[0] == 404
    assert ask(served.port, "/health/live")[0] == 0


def test_port_that_is_taken_is_refused() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigurationError, match="--health-port"),
    ):
        Liveness(lambda: WorkerHealth(True, True), port=taken.getsockname()[1])


def test_file_is_touched_while_the_worker_lives_and_removed_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "TOUCH_SECONDS", 0.01)
    path = tmp_path / "alive"
    now = WorkerHealth(True, False)
    reads = 0

    def read_health() -> WorkerHealth:
        nonlocal reads
        reads += 1
        return now

    def wait_for_touches() -> None:
        """Wait until what was read before has been written, and the health was read again."""
        before = reads
        eventually(lambda: reads > before + 1)

    with Liveness(read_health, str(path)).served():
        assert path.read_text() == "the store does not answer\n"
        now = WorkerHealth(True, True)
        eventually(lambda: path.read_text() == "the store answers\n")
        now = WorkerHealth(False, True)
        wait_for_touches()
        path.unlink()
        wait_for_touches()
        assert not path.exists()
        now = WorkerHealth(True, True)
        eventually(path.exists)
    assert not path.exists()


def test_file_is_whole_whenever_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "TOUCH_SECONDS", 0.0)
    path = tmp_path / "alive"
    with Liveness(lambda: WorkerHealth(True, True), str(path)).served():
        assert {path.read_text() for _ in range(2_000)} == {"the store answers\n"}


def test_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "alive").symlink_to(victim)
    served = Liveness(lambda: WorkerHealth(True, True), str(tmp_path / "alive"))
    assert victim.read_text() == "mine"
    served.close()
    (tmp_path / "alive.new").symlink_to(victim)
    with pytest.raises(ConfigurationError, match="--health-file"):
        Liveness(lambda: WorkerHealth(True, True), str(tmp_path / "alive"))
    assert victim.read_text() == "mine"


def test_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--health-file"):
        Liveness(lambda: WorkerHealth(True, True), str(tmp_path / "nowhere" / "alive"), 0)


def test_worker_is_alive_while_its_store_cannot_be_reached() -> None:
    class Away(Client):
        def beat(self, worker: WorkerInfo, ttl: float) -> None:
            raise BackendUnavailable("away")

    there, away = Worker(Gator("locmem://")), Worker(Gator("locmem://", backend_class=Away))
    there._announce(alive=True)
    with pytest.raises(BackendUnavailable):
        away._announce(alive=True)

    assert there.health() == WorkerHealth(True, True)
    assert away.health() == WorkerHealth(True, False)


def test_worker_is_ready_while_it_sends_heartbeats() -> None:
    seen: list[WorkerHealth] = []

    class Curious(Client):
        """A store that probes the health of its worker during each call."""

        def beat(self, worker: WorkerInfo, ttl: float) -> None:
            seen.append(curious.health())
            super().beat(worker, ttl)

    curious = Worker(Gator("locmem://", backend_class=Curious))

    curious._announce(alive=True)
    curious._announce(alive=True)

    assert [health.store_answers for health in seen] == [False, True]


def test_worker_without_heartbeats_is_stuck() -> None:
    worker = Worker(Gator("locmem://"))
    worker._announce(alive=True)
    worker.lease_for = 0

    assert not worker.health().is_alive


@pytest.mark.parametrize(("timeout", "lives"), [(0.2, False), (None, True)])
def test_worker_is_stuck_when_all_its_tasks_exceed_their_timeout(
    timeout: float | None, lives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "OVERRUN_SECONDS", 0.05)
    gate.clear()
    gator = Gator("locmem://")
    gator.options(timeout=timeout).task(wait)
    worker = Worker(gator, max_tasks=1)
    thread = Thread(target=worker.run_forever)
    thread.start()
    try:
        eventually(lambda: any(each.running_for(0.3) for each in list(worker.threads)))

        assert worker.health().is_alive is lives
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
        "from alligator.workers import liveness, shared_health\n"
        "shared_health.SILENT_SECONDS, liveness.TOUCH_SECONDS = 2.5, 0.1\n"
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
def test_port_is_closed_when_the_supervisor_has_died(tmp_path: Path) -> None:
    with two_processes(tmp_path) as (latergator, path, port):
        latergator.kill()

        eventually(lambda: ask(port, "/health/live")[0] == 0)
        touched = path.stat().st_mtime_ns  # it stays, as that of a single worker does, and gets old
        eventually(lambda: not any(is_alive(pid) for pid in workers_of(latergator)))
        assert path.stat().st_mtime_ns == touched


@needs_fork
def test_clients_that_hang_stop_neither_the_probe_nor_the_supervisor(tmp_path: Path) -> None:
    with two_processes(tmp_path) as (latergator, path, port):
        hanging = [connect(port) for _ in range(MAX_CONNECTIONS - 1)]
        touched = path.stat().st_mtime_ns
        os.kill(workers_of(latergator)[0], signal.SIGKILL)

        eventually(lambda: len(workers_of(latergator)) == 3)
        eventually(lambda: path.stat().st_mtime_ns > touched)
        assert ask(port, "/health/live")[0] == 200
        latergator.terminate()
        assert latergator.wait(30) == 0
    for client in hanging:
        client.close()


@needs_fork
def test_death_of_a_child_ends_the_sleep_of_the_supervisor(tmp_path: Path) -> None:
    # Nothing else would wake it: it has no pause to wait for, and no file to touch.
    served = Liveness(lambda: WorkerHealth(True, True))
    reader, writer = socket.socketpair()
    with reader, writer:
        before = signal.signal(signal.SIGCHLD, lambda *_: None)
        writer.setblocking(False)
        fd_before = signal.set_wakeup_fd(writer.fileno())
        try:
            child = subprocess.Popen([sys.executable, "-c", "pass"])
            assert served.serve(reader, 60)
        finally:
            signal.set_wakeup_fd(fd_before)
            signal.signal(signal.SIGCHLD, before)
    assert child.wait(60) == 0


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@needs_fork
def test_several_processes_report_that_their_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "alligator", "locmem://", "-p", "2", "--health-port", port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert "--health-port" in done.stderr


# Clients that mean no good.


@pytest.fixture
def server() -> Iterator[Liveness]:
    served = Liveness(lambda: WorkerHealth(is_alive=True, store_answers=True), port=0)
    with served.served():
        yield served


def connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(b"GET /health/live HTTP/1.1\r\nX: ")
    return client


def has_ended(client: socket.socket) -> bool:
    with suppress(OSError):
        return client.recv(1) == b""
    return True


def say(port: int, *sent: bytes) -> bytes:
    """Send *sent* piece by piece, and return all that is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in sent:
            client.sendall(piece)
        answer = b""
        while piece := client.recv(4096):
            answer += piece
        return answer


def test_probe_is_answered_however_many_clients_are_slow(server: Liveness) -> None:
    slow = [connect(server.port) for _ in range(5 * MAX_CONNECTIONS)]

    assert ask(server.port, "/health/live")[0] == 200
    assert has_ended(slow[0])
    assert len(server._open) <= MAX_CONNECTIONS
    for client in slow:
        client.close()
    eventually(lambda: not server._open)


def test_client_that_drips_is_disconnected(
    server: Liveness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "MAX_SECONDS", 0.5)
    client = connect(server.port)
    client.settimeout(0.02)

    def drip() -> bool:
        try:
            client.sendall(b"x")
            return client.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    with client:
        eventually(drip)
    eventually(lambda: not server._open)


def test_client_that_sends_without_end_is_disconnected(server: Liveness) -> None:
    with connect(server.port) as client, pytest.raises(ConnectionError):
        while True:
            client.sendall(b"x" * 4096)


def test_no_descriptor_is_left(server: Liveness) -> None:
    ask(server.port, "/health/live")
    eventually(lambda: not server._open)
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(3 * MAX_CONNECTIONS):
        connect(server.port).close()

    eventually(lambda: not server._open and len(os.listdir("/proc/self/fd")) == before)


def test_client_that_leaves_early_is_not_logged(
    server: Liveness, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET /health/live HTTP/1.1\r\n\r\n")
        reset = struct.pack("ii", 1, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        client.close()

    assert ask(server.port, "/health/live")[0] == 200
    eventually(lambda: not server._open)
    assert capfd.readouterr().err == ""
    assert caplog.records == []


def test_internal_error_is_logged_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> WorkerHealth:
        raise LookupError("no health")

    served = Liveness(fail, port=0)
    with served.served():
        assert ask(served.port, "/health/live")[0] == 503
        assert ask(served.port, "/health/live")[0] == 503

    assert "no health" in caplog.text


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ((b"GET /health/live HTTP/1.1\r\n\r\n",), 200),
        ((b"GET /health", b"/live HTTP/1.0\r\nHost: a\r\n", b"\r\n"), 200),
        ((b"GET /health/live HTTP/1.1\n\n",), 200),
        ((b"GET /health/live HTTP/1.1\r\n\r\n" * 100,), 200),
        ((b"GET /health/live?a=b HTTP/1.1\r\n\r\n",), 404),
        ((b"GET /\xff HTTP/1.1\r\n\r\n",), 404),
        ((b"GET /health/live\r\n\r\n",), 200),
        ((b"\r\n\r\n",), 404),
        ((b"\x16\x03\x01\n\n",), 404),
        ((b"BREW /health/live HTTP/1.1\r\n\r\n",), 404),
    ],
)
def test_request_of_any_bytes_is_answered_once(
    server: Liveness, sent: tuple[bytes, ...], status: int
) -> None:
    answer = say(server.port, *sent)

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in answer


@needs_fork
def test_forked_child_does_not_keep_the_port() -> None:
    served = Liveness(lambda: WorkerHealth(True, True), port=0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = os.fork()
        if not pid:
            served.release()
            theirs.sendall(b"released")
            ours.close()
            theirs.recv(1)
            os._exit(0)
        assert ours.recv(8) == b"released"
        served.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", served.port), timeout=20)
        ours.shutdown(socket.SHUT_WR)
        os.waitpid(pid, 0)
