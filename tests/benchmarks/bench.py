"""The bench of all measurements: its own Redis, and the measured processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from redis import Redis

from tests.benchmarks import environments
from tests.harness.postgres_servers import PostgresServer, postgres_server
from tests.harness.store_servers import Missing, redis_server, valkey_server

PATIENCE = 120.0
"""Seconds that a measurement may take."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of measurements: for a figure, or only for a quick check."""

    tasks: int = 5_000
    """Tasks that each queue pushes; Alligator and the raw limits drain ten times as many."""
    marks: int = 200
    """Tasks whose latency is measured."""
    seconds: float = 3.0
    """How long a web server is under load, and how long a worker idles."""
    calls: int = 20_000
    """How often a function of microseconds is called."""
    crowd: int = 1_000_000
    """The largest number of waiting tasks."""


FULL = Sizes()
QUICK = Sizes(tasks=2_000, marks=80, seconds=1.5, calls=5_000, crowd=100_000)
TINY = Sizes(tasks=100, marks=5, seconds=0.2, calls=50, crowd=1_000)


class Failed(Exception):
    """A process failed."""


class Bench:
    """A Redis, a folder and the Pythons of all cases, during the block."""

    def __init__(self, sizes: Sizes, pythons: Mapping[str, Path | str] | None = None) -> None:
        self.sizes = sizes
        self.pythons: dict[str, Path | str] = dict(pythons or {})
        self._stack = ExitStack()
        self._results = 0

    def __enter__(self) -> Self:
        self.folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="gator-bench-")))
        try:
            self.redis = self._stack.enter_context(redis_server())
        except Missing:
            self.redis = self._stack.enter_context(valkey_server())
        self.client = Redis.from_url(self.redis.dsn)
        self._stack.callback(self.client.close)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def peers(self) -> list[str]:
        """The other queues of this run that use Redis."""
        return [name for name in self._peers() if name not in environments.ON_POSTGRES]

    @property
    def peers_on_postgres(self) -> list[str]:
        """The other queues of this run that use PostgreSQL."""
        return [name for name in self._peers() if name in environments.ON_POSTGRES]

    def _peers(self) -> list[str]:
        return [name for name in environments.PEERS if name in self.pythons]

    @cached_property
    def postgres(self) -> PostgresServer:
        """A PostgreSQL that syncs to the disk; it runs as long as the bench."""
        server = postgres_server(fsync="on", full_page_writes="on", shared_buffers="256MB")
        return self._stack.enter_context(server)

    def python(self, case: str) -> str:
        """Return the Python with the libraries of *case*."""
        case = case.partition("_")[0]
        return str(self.pythons.get(case) or self.pythons.get("alligator") or sys.executable)

    def info(self, section: str) -> dict[str, Any]:
        """Return the INFO of the Redis."""
        found: Any = self.client.info(section)
        return dict(found)

    def empty(self) -> None:
        """Delete all tasks."""
        self.client.flushall()

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of a process."""
        kept = {name: value for name, value in os.environ.items() if name[:10] != "ALLIGATOR_"}
        return {**kept, "PYTHONPATH": environments.PATH, "BENCH_REDIS": self.redis.dsn, **more}

    @contextmanager
    def process(
        self, case: str, words: Sequence[str], env: Mapping[str, str], log: str = "log"
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Run ``python *words*`` during the block, and kill its processes afterwards."""
        with (self.folder / log).open("wb") as out:
            process = subprocess.Popen(
                [self.python(case), *words],
                env=self.environ(**env),
                cwd=environments.ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            # Asked first: what the children of a killed process have used would be taken for others'.
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @contextmanager
    def agent(self, case: str, **env: str) -> Iterator["Agent"]:
        """Run the producer of *case* during the block."""
        log = self.folder / "agent-log"
        with log.open("wb") as err:
            process = subprocess.Popen(
                [self.python(case), "-m", "tests.benchmarks.peers.agent", case],
                env=self.environ(**env),
                cwd=environments.ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
            )
        try:
            yield Agent(case, process, log)
        finally:
            process.kill()
            process.communicate()

    def result_path(self) -> Path:
        """Return the path of a new file."""
        self._results += 1
        return self.folder / f"result-{self._results}"

    def result(self, path: Path, *processes: "subprocess.Popen[bytes]") -> dict[str, Any]:
        """Wait for the file *path* of a process, and return its content."""
        wait_for(path, *processes, log=self.folder / "log")
        found: dict[str, Any] = json.loads(path.read_text())
        return found


class Agent:
    """A producer in its own process, which executes commands in lines of JSON."""

    def __init__(self, case: str, process: "subprocess.Popen[str]", log: Path) -> None:
        self.case = case
        self._process = process
        self._log = log

    def call(self, name: str, *arguments: Any) -> dict[str, Any]:
        """Call a function in the process; return its duration and its result."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.case}: {name}: {self._log.read_text()[-800:]}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise LookupError(name)
        return answer

    def fill(self, n: int) -> None:
        """Put *n* tasks on the queue in the fastest way."""
        try:
            self.call("push_batches", n, 100)
        except LookupError:
            self.call("push", n)

    @property
    def worker(self) -> list[str]:
        """The command of a worker of its queue."""
        words: list[str] = self.call("WORKER")["value"]
        return words


def wait_for(
    path: Path, *processes: "subprocess.Popen[bytes]", log: Path, patience: float = PATIENCE
) -> None:
    """Wait until a file exists; fail if the processes that should write it have ended."""
    deadline = time.monotonic() + patience
    while not path.exists():
        ended = processes and all(process.poll() is not None for process in processes)
        if (ended and not path.exists()) or time.monotonic() > deadline:
            raise Failed(log.read_text(errors="replace")[-800:] or "nothing came of it")
        time.sleep(0.01)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
