"""A real MariaDB or MySQL for tests, started as a process."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tests.harness.programs import temporary_folder
from tests.harness.store_servers import PATIENCE, Missing

USER = "nobody"
"""Who runs the server if root runs the tests."""


class MySQLServer:
    """A running server, which listens on a socket in its folder."""

    def __init__(self, process: "subprocess.Popen[bytes]", path: Path) -> None:
        self.process = process
        self.socket = path

    @property
    def url(self) -> str:
        """The URL of its database for SQLAlchemy."""
        return f"mysql+pymysql://root@localhost/test?unix_socket={self.socket}"


def find_programs() -> tuple[list[str], list[str]]:
    """Return the commands that create a database and that run a server."""
    mysqld = os.environ.get("MYSQLD")  # to run the tests with MySQL
    if mysqld:
        server = [mysqld, "--no-defaults", "--secure-file-priv=NULL"]
        return [*server, "--initialize-insecure"], [*server, "--mysqlx=OFF"]
    mariadbd, install = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if mariadbd is None or install is None:
        raise Missing("mariadb-server: apt-get install mariadb-server")
    root = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    return [install, "--no-defaults", *root], [mariadbd, "--no-defaults"]


@contextmanager
def mysql_server() -> Iterator[MySQLServer]:
    """Run a MariaDB that is on the PATH, or the MySQL that the variable MYSQLD names."""
    install, server = find_programs()
    with temporary_folder() as name:
        folder = Path(name)
        user = USER if os.geteuid() == 0 else None
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        data = folder / "data"
        made = subprocess.run(
            [*install, f"--datadir={data}"],
            user=user,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if made.returncode:
            raise RuntimeError(made.stdout.decode(errors="replace"))
        path = folder / "socket"
        with (folder / "log").open("wb") as out:
            process = subprocess.Popen(
                [
                    *(*server, f"--datadir={data}", f"--socket={path}", "--skip-networking"),
                    *("--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=2"),
                ],
                user=user,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait(process, path, folder / "log")
            _create_database(path)
            yield MySQLServer(process, path)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", path: Path, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        with closing(socket.socket(socket.AF_UNIX)) as probe, suppress(OSError):
            probe.connect(str(path))
            return
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(log.read_text(errors="replace"))
        time.sleep(0.05)


def _create_database(path: Path) -> None:
    import pymysql  # type: ignore[import-untyped]

    with closing(pymysql.connect(unix_socket=str(path), user="root")) as connection:
        connection.cursor().execute("CREATE DATABASE IF NOT EXISTS test")
