"""A store, a web server and workers as processes of their own, and a client that asks for work."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from random import Random
from threading import Event, Thread
from time import monotonic, sleep
from urllib.parse import urlencode

from alligator import Gator
from tests.faults.books import BROKEN, REFUSED, Answer, Books
from tests.faults.stores import SQS, Cluster, SQLite, Store, Valkey, running
from tests.programs import ROOT, environment

LEASE_SECONDS = 1.0
"""How long a lease is here."""
DRAIN_SECONDS = 30.0
"""How long everything that was accepted may take to be run, once all is well again."""
CLIENT_SECONDS = 15.0
"""How long the client waits for an answer: so long that a late one is noticed as such."""

SITES = {
    "flask": "gunicorn -b 127.0.0.1:0 --threads 8 tests.faults.app:wsgi",
    "preloaded": "gunicorn -b 127.0.0.1:0 --threads 4 --workers 2 --preload tests.faults.app:wsgi",
    "starlette": "uvicorn --host 127.0.0.1 --port 0 tests.faults.app:asgi",
}
"""How a web server is started, after ``python -m``."""


class Broken(AssertionError):
    """Something did not come about in time."""


def eventually(condition: Callable[[], object], what: str, seconds: float = DRAIN_SECONDS) -> None:
    """Wait until *condition* holds."""
    end = monotonic() + seconds
    while not condition():
        if monotonic() > end:
            raise Broken(f"I5: {what}: not within {seconds:g} s")
        sleep(0.01)


class House:
    """Everything that one fault is done to; nothing in it runs before it is asked for."""

    def __init__(
        self, kind: str, store: Store, folder: Path, seed: int, *, thorough: bool = True
    ) -> None:
        self.kind = kind
        self.store = store
        self.thorough = thorough
        """Whether every place is to be tried, or some of them."""
        self.folder = folder
        self.random = Random(seed)
        self.books = Books(folder / "runs")
        self.dsn = store.dsn
        """Where web server and workers find the store: a proxy may stand before it."""
        self.environ: dict[str, str] = {}
        self.site = self.random.choice(["flask", "starlette"])
        self.gator = Gator(store.dsn)
        self.gator.client.ping()  # which makes the tables where there are any
        self.workers: list[subprocess.Popen[bytes]] = []
        self.struck: set[int] = set()
        self.strikes = 0
        self.outages = 0
        self.lossy = False
        """Whether replies are lost so often that a worker may be quicker than an undoing."""
        self.extra: set[str] = set()
        """Tasks that come onto the queue past the client."""
        self.doomed: set[str] = set()
        """Tasks that are to be dead in the end."""
        # The stand-in for SQS does a few dozen calls in a second.
        self.haste = 0.15 if kind == "sqs" else 1.0
        """How busy clients are, and how fast all that was accepted is to be run."""
        self.measured: float | None = None
        self.notes: list[str] = []
        self._since = monotonic()
        self._web: subprocess.Popen[bytes] | None = None
        self._url = ""
        self._numbers = count(1)

    @property
    def sqlite(self) -> SQLite:
        assert isinstance(self.store, SQLite)
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
        """Start a Python module as the leader of a group of its own."""
        path = os.pathsep.join([str(ROOT), str(ROOT / "integrations")])
        settings = {
            "PYTHONPATH": path,
            "ALLIGATOR_CONN": self.dsn,
            "LEDGER": str(self.books.ledger),
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
        """Start the web server, in place of the one before."""
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
        eventually(lambda: self._ask("HEAD", "/") > 0, "the web server answers")
        return process

    def end_web(self, number: int = signal.SIGKILL) -> None:
        """Send the web server and all of its processes a signal, and wait for its end."""
        if self._web is not None:
            self._url = ""
            self._kill(self._web, number)
            self._web.wait(60)

    @property
    def web_pids(self) -> list[int]:
        """The web server's processes."""
        assert self._web is not None
        return [self._web.pid, *_children(self._web.pid)]

    def strike(self, process: "subprocess.Popen[bytes]", number: int = signal.SIGKILL) -> None:
        """Send a worker a signal, and write it down when it is one that makes it repeat its task."""
        self.strikes += 1
        if number not in (signal.SIGTERM, signal.SIGCONT):
            self.struck.add(process.pid)
        self._kill(process, number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            process.wait(30)
        elif number == signal.SIGSTOP:
            os.waitpid(process.pid, os.WUNTRACED)
        self.mark()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Count what the block does as an outage of the store; recovery begins with its end."""
        self.strikes += 1
        self.outages += 1
        yield
        self.mark()

    def mark(self) -> None:
        """Let the time of recovery begin here."""
        self._since = monotonic()

    @contextmanager
    def kept(self, number: int = 2) -> Iterator[None]:
        """Keep so many workers running during the block, as a supervisor would."""
        ended = Event()

        def keep() -> None:
            while not ended.wait(0.02):
                for place, process in enumerate(self.workers):
                    if process.poll() is not None:
                        self.struck.add(process.pid)
                        self.strikes += 1
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

    def is_well(self, seconds: float = 15) -> None:
        """Wait until clients are answered 201 again."""
        eventually(lambda: self.ask(1).status == 201, "tasks are taken again", seconds)

    def ask(self, n: int = 3, **query: object) -> Answer:
        """Ask the web server for *n* tasks, and write down what it answers."""
        name = f"t{next(self._numbers)}"
        start = monotonic()
        status = self._ask("POST", f"/?{urlencode({'id': name, 'n': n, **query})}")
        ids = tuple(f"{name}-{number}" for number in range(n))
        answer = Answer(ids, status, monotonic() - start)
        self.books.answers.append(answer)
        return answer

    def _ask(self, method: str, path: str) -> int:
        if not self._url:
            return REFUSED
        connection = HTTPConnection("127.0.0.1", int(self._url), timeout=CLIENT_SECONDS)
        with closing(connection):
            try:
                connection.connect()
            except OSError:
                return REFUSED
            try:
                connection.request(method, path)
                return connection.getresponse().status
            except (OSError, HTTPException):
                return BROKEN

    @contextmanager
    def traffic(self, threads: int = 3, **query: object) -> Iterator[None]:
        """Let clients ask during the block, some for what fails."""
        ended = Event()

        def ask() -> None:
            while not ended.is_set():
                fate = self.random.random()
                failing = {} if fate < 0.8 else {"fail": "500" if fate < 0.9 else "raise"}
                self.ask(self.random.randint(1, 4), **{**query, **failing})
                pause = 0.06 * self.random.random() + (0 if self._url else 0.05)
                sleep(pause / self.haste)

        clients = [Thread(target=ask) for _ in range(threads)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            ended.set()
            for client in clients:
                client.join()

    def pause(self, least: float, most: float) -> None:
        """Let things go on for a while."""
        sleep(self.random.uniform(least, most))

    # In the end.

    def drain(self) -> None:
        """Wait until nothing is left but the dead, and note how long that took."""
        if not any(process.poll() is None for process in self.workers):
            self.worker()
        eventually(
            lambda: all(state == "dead" for state in self.store.census().values()),
            "all that was accepted has run",
            DRAIN_SECONDS / self.haste,
        )
        self.measured = monotonic() - self._since if self.measured is None else self.measured

    def close(self) -> None:
        """End what is running."""
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
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


@contextmanager
def opened(kind: str, folder: Path, seed: int, *, thorough: bool) -> Iterator[House]:
    """Build a house with a store of that kind, and tear it down."""
    with running(kind, folder) as store:
        house = House(kind, store, folder, seed, thorough=thorough)
        try:
            yield house
        finally:
            house.close()
