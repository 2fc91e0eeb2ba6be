"""The promise under the ways in which web servers run an application: forks, threads, cancellation."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import coroutine
from typing import Any
from uuid import uuid4

import httpx
import pytest

from alligator import Gator
from alligator.backends.base import Lease
from asgi_alligator import AlligatorMiddleware
from tests.harness.programs import eventually
from tests.harness.sample_tasks import add, record
from tests.harness.web_process import web_process
from tests.harness.web_servers import get
from tests.harness.web_sites import Reply, asgi, wsgi


@pytest.fixture(params=["sqlite", "valkey"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the DSN of a new and empty store, of each kind in turn."""
    if request.param == "sqlite":
        # Patient, for the disk of a machine that runs other tests as well: a 503 is not the point.
        return f"sqlite://{tmp_path}/queue.db?timeout=15"
    return f"{request.getfixturevalue('valkey')}?ns={uuid4().hex}"


def take_all(gator: Gator) -> list[Lease]:
    """Remove all tasks from the queue."""
    taken: list[Lease] = []
    while leases := gator.client.reserve(gator.queue_name, limit=100):
        taken += leases
    return taken


# Servers that fork. The application uses its gator while it is imported, so that a connection is
# open when the server forks, if it imports before.

APP = """
import os

from alligator import Gator
from tests.harness.sample_tasks import record

gator = Gator(os.environ["ALLIGATOR_CONN"])
gator.task(record, "", "imported")


def work(path):
    for part in ("a", "b", "c"):
        gator.task(record, "", path + part)
    if path.startswith("/raise"):
        raise RuntimeError("the view fails")
    return 404 if path.startswith("/missing") else 200
"""

WSGI = """
from wsgi_alligator import AlligatorMiddleware


def pages(environ, start_response):
    status = work(environ["PATH_INFO"])
    start_response(f"{status} Whatever", [("X-Pid", str(os.getpid()))])
    return [b"done"]


app = AlligatorMiddleware(pages, gator)
"""

ASGI = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from starlette_alligator import AlligatorMiddleware


async def page(request):
    return Response(b"done", work(request.url.path), {"X-Pid": str(os.getpid())})


app = Starlette(
    routes=[Route("/{path:path}", page)],
    middleware=[Middleware(AlligatorMiddleware, gator=gator)],
)
"""

# A worker that has not had a core for half a minute would be taken for one that hangs.
GUNICORN = ["gunicorn", "robust_site:app", *("--workers", "2", "--timeout", "120")]
GUNICORN += ["-b", "127.0.0.1:0"]
UVICORN = ["uvicorn", "robust_site:app", "--workers", "2", "--host", "127.0.0.1", "--port", "0"]
SERVERS = {
    "sync": [*GUNICORN, "--preload"],
    "gthread": [*GUNICORN, "--preload", "--worker-class", "gthread", "--threads", "8"],
    "gevent": [*GUNICORN, "--preload", "--worker-class", "gevent"],
    "gevent without preload": [*GUNICORN, "--worker-class", "gevent"],
    "uvicorn": UVICORN,
}


@contextmanager
def serving(command: Sequence[str], dsn: str, folder: Path) -> Iterator[str]:
    """Run a server during the block; yield where."""
    kind = WSGI if command[0] == "gunicorn" else ASGI
    (folder / "robust_site.py").write_text(APP + kind)
    with web_process(["-m", *command], folder, ALLIGATOR_CONN=dsn) as web:
        yield web.url


@pytest.mark.parametrize("name", SERVERS)
def test_processes_and_threads_of_a_server_keep_the_promise(
    name: str, dsn: str, tmp_path: Path
) -> None:
    pytest.importorskip(SERVERS[name][0])
    if "gevent" in name:
        pytest.importorskip("gevent", reason="it is not installed: pip install gevent")
    paths = [f"/{kind}/{n}" for n in range(40) for kind in ("ok", "raise", "missing")]

    with serving(SERVERS[name], dsn, tmp_path) as url:

        def ask(path: str) -> tuple[str, int]:
            return path, get(url + path).status_code

        def ask_who(_: int) -> str | None:
            try:
                return get(f"{url}/missing").headers["x-pid"]
            except httpx.ConnectError:  # uvicorn says where it will be before it is there
                return None

        with ThreadPoolExecutor(16) as pool:
            eventually(lambda: len({*pool.map(ask_who, range(16))} - {None}) == 2)
            answers = list(pool.map(ask, paths))

    gator = Gator(dsn)
    queued = Counter(gator.read(lease).func_args[1] for lease in take_all(gator))
    gator.client.close()
    assert Counter(status for _, status in answers) == {200: 40, 404: 40, 500: 40}
    assert queued.pop("imported") >= 1
    succeeded = [path for path, status in answers if status == 200]
    assert queued == Counter(path + part for path in succeeded for part in "abc")


# One gator for all threads.


def test_requests_of_fifty_threads_do_not_mix(dsn: str) -> None:
    gator = Gator(dsn)

    def view(name: str, transaction: Any) -> Reply:
        for part in range(3):
            gator.task(record, name, str(part))
        if name.endswith("7"):
            raise RuntimeError("the view fails")
        if name.endswith("5"):
            transaction.doom()
        return Reply(404 if name.endswith("3") else 200)

    def requests(thread: int) -> list[str]:
        done = []
        for number in range(10):
            name = f"{thread}-{number}"
            options = {"headers": {"request_id": name}}
            site = (wsgi, asgi)[thread % 2]
            get = site(lambda tx, name=name: view(name, tx), {"gator": gator, "options": options})  # type: ignore[misc]
            if get().status == 200 and not name.endswith("5"):
                done.append(name)
        return done

    with ThreadPoolExecutor(50) as pool:
        succeeded = [name for done in pool.map(requests, range(50)) for name in done]

    tasks = [gator.read(lease) for lease in take_all(gator)]
    gator.client.close()
    assert len(succeeded) == 50 * 7
    assert all(task.headers["request_id"] == task.func_args[0] for task in tasks)
    assert Counter((task.func_args[0], task.func_args[1]) for task in tasks) == Counter(
        (name, part) for name in succeeded for part in "012"
    )


# A request that is cancelled, wherever it is.


class Exchange:
    """One request to an application, and what its client has seen."""

    def __init__(self, gator: Gator, give_way: Callable[[], Any]) -> None:
        self.gator = gator
        self.give_way = give_way
        self.seen: list[int] = []

    async def receive(self) -> dict[str, Any]:
        await self.give_way()
        return {"type": "http.request"}

    async def send(self, message: Any) -> None:
        await self.give_way()
        if message["type"] == "http.response.start":
            self.seen.append(message["status"])
        await self.give_way()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for number in range(3):
            self.gator.task(add, number, 1)
            await self.give_way()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})
        await self.give_way()

    def run(self) -> Coroutine[Any, Any, None]:
        middleware = AlligatorMiddleware(self.app, self.gator)
        return middleware({"type": "http", "method": "GET"}, self.receive, self.send)

    def keeps_the_promise(self, *, unknown: set[int] | None = None) -> bool:
        """Whether the queue matches the response; without a response, either is right."""
        expected = {(): unknown or {0}, (200,): {3}, (503,): {0}}
        return self.gator.len() in expected[tuple(self.seen)]


@coroutine
def step() -> Generator[None, None, None]:
    """Yield to the code that drives the coroutine."""
    yield


@pytest.mark.parametrize("cause", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
def test_request_ended_at_any_step_leaves_nothing_half_done(cause: type[BaseException]) -> None:
    seen: Counter[int] = Counter()
    finished = False
    while not finished:
        exchange = Exchange(Gator("locmem://"), step)
        running = exchange.run()
        try:
            for _ in range(sum(seen.values())):
                running.send(None)
            if cause is GeneratorExit:
                running.send(None)
                running.close()
            else:
                running.send(None)
                running.throw(cause())
        except StopIteration:
            finished = True
        except cause:
            pass
        finally:
            running.close()
        # The tasks are committed before the head of the response leaves: the one moment in which
        # they are queued and the client has not heard of it.
        assert exchange.keeps_the_promise(unknown={0, 3})
        seen[exchange.gator.len()] += 1

    assert {*seen} == {0, 3}
    assert sum(seen.values()) > 10


@pytest.mark.parametrize("turns", range(40))
def test_request_can_be_cancelled_after_any_turn_of_the_loop(turns: int, dsn: str) -> None:
    gator = Gator(dsn)
    exchange = Exchange(gator, lambda: asyncio.sleep(0))

    async def main() -> None:
        task = asyncio.create_task(exchange.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())

    assert exchange.keeps_the_promise(unknown={0, 3})
    gator.client.close()
