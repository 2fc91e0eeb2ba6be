"""A store, a web server and workers as separate processes, and a client that sends requests."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from random import Random
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlencode

from alligator import Gator
from tests.faults.audit import BROKEN, REFUSED, Answer, AuditLog
from tests.faults.stores import SQS, Cluster, Postgres, SQLite, Store, Valkey, running
from tests.harness.programs import ROOT, environment

LEASE_SECONDS = 1.0
"""The length of a lease."""
DRAIN_SECONDS = 30.0
"""How long all accepted tasks may take to run after the fault has ended."""
CLIENT_SECONDS = 15.0
"""How long the client waits for a response: long enough to detect a late one."""

SQS_BACKLOG = 100
"""How many tasks may wait in moto, which needs seconds to find one of 500."""

FAILOVER_SECONDS = 2.0
"""How long clients may use a replaced master: they ask the Sentinels once a second."""

SITES = {
    "flask": "gunicorn -b 127.0.0.1:0 --threads 8 tests.faults.app:wsgi",
    "preloaded": "gunicorn -b 127.0.0.1:0 --threads 4 --workers 2 --preload tests.faults.app:wsgi",
    "starlette": "uvicorn --host 127.0.0.1 --port 0 tests.faults.app:asgi",
}
"""The commands of the web servers, after ``python -m``."""


class Broken(AssertionError):
    """A condition did not become true in time."""


def eventually(condition: Callable[[], object], what: str, seconds: float = DRAIN_SECONDS) -> None:
    """Wait until *condition* is true."""
    end = monotonic() + seconds
    while not condition():
        if monotonic() > end:
            raise Broken(f"I5: {what}: not within {seconds:g} s")
        sleep(0.01)


class Harness:
    """The processes of one fault; each is started on demand."""

    def __init__(
        self, kind: str, store: Store, folder: Path, seed: int, *, exhaustive: bool = True
    ) -> None:
        self.kind = kind
        self.store = store
        self.exhaustive = exhaustive
        """Whether to try every byte, or only some."""
        self.folder = folder
        self.random = Random(seed)
        self.audit_log = AuditLog(folder / "runs")
        self.dsn = store.dsn
        """The DSN of the store for web server and workers; maybe that of a proxy."""
        self.environ: dict[str, str] = {}
        self.site = self.random.choice(["flask", "starlette"])
        self.gator = Gator(store.dsn)
        self.gator.client.ping()  # which makes the tables where there are any
        self.workers: list[subprocess.Popen[bytes]] = []
        self.killed_or_frozen: set[int] = set()
        self.injections = 0
        self.outages = 0
        self.outage_times: list[tuple[float, float]] = []
        """When the store was down: (start, end), by `time.monotonic`."""
        self.killed: list[tuple[float, float]] = []
        """When a server was down that may have lost its last seconds: start and end."""
        self.lossy = False
        """Whether replies are lost so often that a worker may be faster than an undo."""
        self.forgets_reports = False
        """Whether the store may forget the last leases and acks when it crashes, but no task."""
        self.forgets = False
        """Whether losses are only measured."""
        self.extra: set[str] = set()
        """Tasks that were put on the queue without the client."""
        self.doomed: set[str] = set()
        """Tasks that must be dead letters in the end."""
        # moto handles a few dozen calls a second.
        self.speed = 0.15 if kind == "sqs" else 1.0
        """How fast clients send requests, and workers must run accepted tasks."""
        self.measured: float | None = None
        self.notes: list[str] = []
        self._since = monotonic()
        self.expect_master()
        self._web: subprocess.Popen[bytes] | None = None
        self._url = ""
        self._numbers = count(1)

    @property
    def sqlite(self) -> SQLite:
        assert isinstance(self.store, SQLite)
        return self.store

    @property
    def postgres(self) -> Postgres:
        assert isinstance(self.store, Postgres)
        return self.store

    @property
    def valkey(self) -> Valkey:
        assert isinstance(self.store, Valkey)
        return self.store

    @property
    def cluster(self) -> Cluster:
        assert isinstance(self.store, Cluster)
        return self.store

    @property
    def sqs(self) -> SQS:
        assert isinstance(self.store, SQS)
        return self.store

    # Processes.

    def spawn(self, module: str, log: str, **environ: str) -> "subprocess.Popen[bytes]":
        """Start a Python module as the leader of a new process group."""
        path = os.pathsep.join([str(ROOT), str(ROOT / "integrations")])
        settings = {
            "PYTHONPATH": path,
            "ALLIGATOR_CONN": self.dsn,
            "LEDGER": str(self.audit_log.ledger),
            "LEASE_SECONDS": str(LEASE_SECONDS),
            **self.environ,
            **environ,
        }
        with (self.folder / log).open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", *module.split()],
                env=environment(settings),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def worker(self, **environ: str) -> "subprocess.Popen[bytes]":
        """Start another worker."""
        self.workers.append(self.spawn("tests.faults.worker", "worker.log", **environ))
        return self.workers[-1]

    def web(self) -> "subprocess.Popen[bytes]":
        """Start the web server, after stopping the previous one."""
        self.end_web()
        log = f"web-{next(self._numbers)}.log"
        process = self._web = self.spawn(SITES[self.site], log)
        pattern = re.compile(r"(?:Listening at:|running on) http://127\.0\.0\.1:(\d+)")

        def up() -> bool:
            said = (self.folder / log).read_text(errors="replace")
            if process.poll() is not None:
                raise Broken(f"the web server ended:\n{said[-2000:]}")
            found = pattern.search(said)
            self._url = found[1] if found else ""
            return found is not None

        eventually(up, "the web server comes up")
        eventually(lambda: self.request("HEAD", "/") > 0, "the web server answers")
        return process

    def end_web(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to all processes of the web server, and wait for its end."""
        if self._web is not None:
            self._url = ""
            self._kill(self._web, number)
            self._web.wait(60)

    @property
    def web_pids(self) -> list[int]:
        """The web server's processes."""
        assert self._web is not None
        return [self._web.pid, *_children(self._web.pid)]

    def signal_worker(
        self, process: "subprocess.Popen[bytes]", number: int = signal.SIGKILL
    ) -> None:
        """Send a signal to a worker, and record it if its task may run again because of it."""
        self.injections += 1
        if number not in (signal.SIGTERM, signal.SIGCONT):
            self.killed_or_frozen |= {process.pid, *_session(process.pid)}
        self._kill(process, number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            # Those of isolated tasks have groups of their own; if the worker is killed, they end by
            # themselves, but a machine that is suspended freezes all of them.
            for pid in _session(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            process.wait(30)
        elif number == signal.SIGSTOP:
            os.waitpid(process.pid, os.WUNTRACED)
        self.mark()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Count the block as an outage of the store; recovery begins at its end."""
        self.injections += 1
        self.outages += 1
        start = monotonic()
        yield
        self.outage_times.append((start, monotonic()))
        self.mark()

    def kill_valkey(self) -> None:
        """Kill the server with SIGKILL."""
        start = monotonic()
        self.valkey.server.kill()
        if self.kind == "redis":
            self.killed.append((start, monotonic()))

    @contextmanager
    def failover(self) -> Iterator[None]:
        """Count the block as an outage that ends when a replica has become the master.

        The replica may lack what its master took in the last moments, and in those after it.
        """
        self.look_for_failovers()
        start = monotonic()
        with self.outage():
            old = self.valkey.master
            yield
            eventually(lambda: self.valkey.master is not old, "a replica becomes the master", 60)
        self._note_failover(start)

    def look_for_failovers(self) -> None:
        """Count an outage if the servers have chosen another master by themselves.

        They do on a machine that is so busy that a master does not answer them in time.
        """
        if self.store.master is not self._master:
            self.outages += 1
            self.notes.append("the servers chose another master by themselves")
            self._note_failover(self._seen)
        self.expect_master()

    def expect_master(self) -> None:
        """Remember the current master."""
        self._master, self._seen = self.store.master, monotonic()

    def _note_failover(self, start: float) -> None:
        self.killed.append((start, monotonic() + FAILOVER_SECONDS))
        self.expect_master()

    def mark(self) -> None:
        """Start to measure the recovery."""
        self._since = monotonic()

    @contextmanager
    def keep_workers(self, number: int = 2) -> Iterator[None]:
        """Keep this number of workers running during the block, as a supervisor does."""
        ended = Event()

        def keep() -> None:
            while not ended.wait(0.02):
                for place, process in enumerate(self.workers):
                    if process.poll() is not None:
                        self.killed_or_frozen.add(process.pid)
                        self.injections += 1
                        self.workers[place] = self.spawn("tests.faults.worker", "worker.log")

        while len(self.workers) < number:
            self.worker()
        keeper = Thread(target=keep)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join()

    # The client.

    def wait_until_well(self, seconds: float = 15) -> None:
        """Wait until requests get a 201 again."""
        eventually(lambda: self.ask(1).status == 201, "tasks are taken again", seconds)

    def ask(self, n: int = 3, *, name: str = "", key: str = "", **query: Any) -> Answer:
        """Send a request for *n* tasks, under an idempotency key if there is one; record the response.

        A request that repeats another has its *name*.
        """
        name = name or f"t{next(self._numbers)}"
        headers = {"Idempotency-Key": key, "Cookie": "client=harness"} if key else {}
        start = monotonic()
        path = f"/?{urlencode({'id': name, 'n': n, **query})}"
        status = self.request("POST", path, headers)
        ids = tuple(f"{name}-{number}" for number in range(n))
        answer = Answer(ids, status, monotonic() - start, start)
        self.audit_log.answers.append(answer)
        return answer

    def request(self, method: str, path: str, headers: Mapping[str, str] = {}) -> int:
        if not self._url:
            return REFUSED
        connection = HTTPConnection("127.0.0.1", int(self._url), timeout=CLIENT_SECONDS)
        with closing(connection):
            try:
                connection.connect()
            except OSError:
                return REFUSED
            try:
                connection.request(method, path, headers={**headers})
                return connection.getresponse().status
            except (OSError, HTTPException):
                return BROKEN

    @contextmanager
    def traffic(self, threads: int = 3, **query: Any) -> Iterator[None]:
        """Send requests during the block, some of which fail on purpose."""
        ended = Event()

        def ask() -> None:
            while not ended.is_set():
                if self._is_behind():
                    sleep(0.1)
                    continue
                fate = self.random.random()
                failing = {} if fate < 0.8 else {"fail": "500" if fate < 0.9 else "raise"}
                self.ask(self.random.randint(1, 4), **{**query, **failing})
                pause = 0.06 * self.random.random() + (0 if self._url else 0.05)
                sleep(pause / self.speed)

        clients = [Thread(target=ask) for _ in range(threads)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            ended.set()
            for client in clients:
                client.join()

    def _is_behind(self) -> bool:
        """Return whether clients must wait for the workers."""
        waiting = self.audit_log.accepted() - self.audit_log.ended() if self.kind == "sqs" else ()
        return len(waiting) > SQS_BACKLOG

    def pause(self, least: float, most: float) -> None:
        """Wait for a random time."""
        sleep(self.random.uniform(least, most))

    # In the end.

    def drain(self) -> None:
        """Wait until only dead letters are left, and record how long that took."""
        if not any(process.poll() is None for process in self.workers):
            self.worker()
        eventually(
            lambda: all(state == "dead" for state in self.store.census().values()),
            "all that was accepted has run",
            DRAIN_SECONDS / self.speed,
        )
        self.recovered()

    def recovered(self) -> None:
        """Record how long the recovery took, unless it was recorded before."""
        self.measured = monotonic() - self._since if self.measured is None else self.measured

    def close(self) -> None:
        """Kill all processes."""
        self.end_web()
        for process in self.workers:
            self._kill(process, signal.SIGKILL)
            process.wait()
        self.gator.client.close()

    def _kill(self, process: "subprocess.Popen[bytes]", number: int) -> None:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)


def _children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return _processes(1, pid)


def _session(pid: int) -> list[int]:
    """Return the processes of the session that a process leads."""
    return _processes(3, pid)


def _processes(field: int, wanted: int) -> list[int]:
    """Return the processes with that number in a *field* of proc(5)'s stat, counted from the state."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[field]) == wanted:
                found.append(int(path.parent.name))
    return found


@contextmanager
def opened(kind: str, folder: Path, seed: int, *, exhaustive: bool) -> Iterator[Harness]:
    """Create a harness with a store of that kind, and close it."""
    with running(kind, folder) as store:
        harness = Harness(kind, store, folder, seed, exhaustive=exhaustive)
        try:
            yield harness
        finally:
            harness.close()
