"""Start the server and the worker of an example, and stop them by their pid."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from time import monotonic, sleep
from types import FrameType

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0
"""After how many seconds an operation has failed."""

SERVERS = {
    "social_network": "gunicorn --config python:examples.gunicorn_settings --bind 127.0.0.1:{port} "
    "examples.social_network.app:app",
    "social_django": "gunicorn --config python:examples.gunicorn_settings --bind 127.0.0.1:{port} "
    "examples.social_django.app:app",
    "thumbnails": "uvicorn --port {port} examples.thumbnails.app:app",
    "orders_fastapi": "uvicorn --port {port} examples.orders_fastapi.app:app",
    "plain_wsgi": "examples.plain_wsgi.app {port}",
}
"""The command of each example's server, after ``python -m``."""

PREPARATIONS = {"social_django": "examples.social_django.manage migrate --verbosity 0"}
"""The command that an example needs before, after ``python -m``."""

WORKERS = {
    "orders_fastapi": "alligator --app examples.orders_fastapi.app:gator",
    "social_django": "examples.social_django.manage alligator worker",
    "social_network": "flask --app examples.social_network.app alligator worker",
}
"""The command of a worker, after ``python -m``, where ``alligator`` does not suffice."""


class Process:
    """A Python module that runs as a process; its output goes to *log*, if given."""

    def __init__(self, command: str, log: Path | None, environ: Mapping[str, str]) -> None:
        self.command = command
        self.log = log
        with log.open("ab") if log else nullcontext() as out:
            # A session of its own: Ctrl-C reaches us alone, and we end it in our order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command.split()],
                cwd=ROOT,
                env={**environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def said(self) -> str:
        """Return its output so far."""
        return self.log.read_text(errors="replace") if self.log else ""

    def wait_for(self, pattern: str) -> str:
        """Wait until its output matches *pattern*, and return the match."""
        deadline = monotonic() + PATIENCE
        while True:
            ended = self._process.poll() is not None
            said = self.said()
            found = re.search(pattern, said)
            if found:
                return found.group()
            if ended or monotonic() > deadline:
                raise RuntimeError(f"{self.command} did not come up:\n{said[-2000:]}")
            sleep(0.01)

    def wait(self) -> int:
        """Wait until it ends, and return its exit status."""
        return self._process.wait()

    def end(self) -> None:
        """Terminate it; kill it if it does not end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()


@contextmanager
def running(
    command: str, log: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Iterator[Process]:
    """Run ``python -m`` *command* during the block."""
    process = Process(command, log, environ)
    try:
        yield process
    finally:
        process.end()


@contextmanager
def serving(
    example: str, log: Path, environ: Mapping[str, str], port: int = 0
) -> Iterator[tuple[Process, str]]:
    """Run the server of *example*, on a free port unless *port* is given; also return its URL."""
    if example in PREPARATIONS:
        preparing = Process(PREPARATIONS[example], log, environ)
        if preparing.wait():
            raise RuntimeError(f"{preparing.command} failed:\n{preparing.said()[-2000:]}")
    with running(SERVERS[example].format(port=port), log, environ) as server:
        yield server, server.wait_for(r"http://127\.0\.0\.1:[1-9]\d*")


def working(
    log: Path | None, environ: Mapping[str, str], example: str = ""
) -> AbstractContextManager[Process]:
    """Run a worker, as ``latergator`` does, or that of *example*."""
    return running(WORKERS.get(example, "alligator"), log, environ)


def own_environ() -> dict[str, str]:
    """Return the environment of this program, without the settings of Alligator."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ALLIGATOR_")}


def stop_on_signals() -> None:
    """Make SIGINT, SIGTERM and SIGHUP end this program and its processes, as Ctrl-C does.

    Python leaves SIGINT ignored where a shell has started the program in the background. Who starts
    it with nohup wants it to ignore SIGHUP.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop)
