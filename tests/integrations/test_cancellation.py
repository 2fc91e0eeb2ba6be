"""A cancelled request ends at once, its loop is idle, and its tasks are not queued."""

import asyncio
import socket
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import Message
from asgi_alligator import AlligatorEndpoint, AlligatorMiddleware
from tests.harness.cpu_time import process_rests
from tests.harness.programs import eventually
from tests.harness.requirements import needed
from tests.harness.sample_tasks import add
from tests.harness.store_servers import valkey_server
from tests.integrations.test_context import serving

SECONDS = 1.0
"""How long the event loop is watched after a request was cancelled."""

COMMIT_SECONDS = 0.5
"""How long a commit to a store that hangs may take: it ends while the loop is watched."""

HTTP: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "method": "GET",
    "path": "/",
    "headers": [],
}


class Slow(locmem_backend.Client):
    """A store that is called in a thread, and answers when the test allows it."""

    blocking = True

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.asked, self.go_on, self.undone = (threading.Event() for _ in range(3))

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        self.asked.set()
        assert self.go_on.wait(20)
        super().push_many(messages, commit_id=commit_id)

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        super().abort(commit_id, messages)
        self.undone.set()


class Gathering(Slow):
    """A slow store that groups concurrent commits."""

    groups_commits: ClassVar[bool] = True


class Hanging(Gator):
    """A gator whose store takes a push and does not answer."""

    come_back: Callable[[], object]
    """Let the store answer."""


@contextmanager
def hanging_valkey(folder: Path) -> Iterator[Hanging]:
    with needed(), valkey_server() as server:
        gator = Hanging(server.dsn)
        gator.len()
        server.freeze()
        gator.come_back = server.thaw
        yield gator
        server.thaw()
        gator.client.close()


@contextmanager
def locked_sqlite(folder: Path) -> Iterator[Hanging]:
    gator = Hanging(f"sqlite://{folder}/queue.db")
    gator.len()
    other = sqlite3.connect(folder / "queue.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    gator.come_back = other.rollback
    yield gator
    other.close()
    gator.client.close()


STORES = {"valkey": hanging_valkey, "sqlite": locked_sqlite}


@pytest.fixture(params=STORES)
def hanging(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hanging]:
    """Yield a gator of each store that hangs."""
    with STORES[request.param](tmp_path) as gator:
        gator.client.commit_seconds = COMMIT_SECONDS
        yield gator


# Who cancels: each gives a function that does it.

Cancel = Callable[[], object]


@asynccontextmanager
async def anyio_scope() -> AsyncIterator[Cancel]:
    with anyio.CancelScope() as scope:
        yield scope.cancel
    assert scope.cancelled_caught


@asynccontextmanager
async def anyio_group() -> AsyncIterator[Cancel]:
    async with anyio.create_task_group() as group:
        yield group.cancel_scope.cancel
    assert group.cancel_scope.cancelled_caught


@asynccontextmanager
async def time_limit() -> AsyncIterator[Cancel]:
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            yield lambda: limit.reschedule(loop.time())


@asynccontextmanager
async def canceler() -> AsyncIterator[Cancel]:
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(asyncio.CancelledError):
        yield task.cancel
    task.uncancel()


def soon(cancel: Cancel) -> None:
    asyncio.get_running_loop().call_later(0.1, cancel)


def once(event: threading.Event, cancel: Cancel) -> None:
    """Cancel when *event* is set."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        assert event.wait(20)
        loop.call_soon_threadsafe(cancel)

    threading.Thread(target=wait).start()


LIMITS = {"anyio": anyio_scope, "group": anyio_group, "asyncio": time_limit, "cancel": canceler}
Limit = Callable[[], Any]


@pytest.fixture(params=LIMITS)
def limit(request: pytest.FixtureRequest) -> Limit:
    return LIMITS[request.param]


async def loop_rests() -> None:
    """Fail if the loop is busy, or a cancellation strikes outside of its scope."""
    with process_rests():
        await asyncio.sleep(SECONDS)


def application(gator: Gator, sent: list[Any], then: Callable[[], Any] | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        if then is not None:
            then()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    middleware = AlligatorMiddleware(app, gator)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    return lambda: middleware({**HTTP}, None, send)  # type: ignore[arg-type]  # not asked for


# A store that hangs.


def test_request_that_waits_for_a_hanging_store_can_be_cancelled(
    hanging: Hanging, limit: Limit
) -> None:
    sent: list[Any] = []
    hanging.client.commit_seconds = 5.0

    async def main() -> None:
        began = time.monotonic()
        async with limit() as cancel:
            soon(cancel)
            await application(hanging, sent)()
        assert time.monotonic() - began < 4.5  # of the five of the commit
        await loop_rests()
        hanging.come_back()

    asyncio.run(main())

    assert sent == []


def test_cancelled_request_is_not_queued_when_the_store_comes_back(tmp_path: Path) -> None:
    with needed(), valkey_server() as server:
        gator = Gator(server.dsn)
        gator.len()
        server.freeze()

        async def main() -> None:
            async with time_limit() as cancel:
                soon(cancel)
                await application(gator, [])()

        asyncio.run(main())
        server.thaw()
        # That push is over before this one begins: it was given two seconds.
        eventually(lambda: _pushes(gator))
        eventually(lambda: gator.len() == 1)
        gator.client.close()


def _pushes(gator: Gator) -> bool:
    try:
        gator.task(add, 3, 4)
    except Exception:
        return False
    return True


def test_transaction_that_waits_for_a_hanging_store_can_be_cancelled(
    hanging: Hanging, limit: Limit
) -> None:
    async def main() -> None:
        async with limit() as cancel, hanging.transaction():
            soon(cancel)
            hanging.task(add, 1, 2)
        await loop_rests()

    asyncio.run(main())


def test_commit_in_a_thread_can_be_cancelled(hanging: Hanging, limit: Limit) -> None:
    called: list[str] = []

    async def main() -> None:
        async with limit() as cancel, hanging.transaction() as transaction:
            soon(cancel)
            hanging.task(add, 1, 2)
            transaction.on_commit(lambda: called.append("queued"))
        await loop_rests()

    asyncio.run(main())

    assert called == []


def test_health_check_that_hangs_can_be_cancelled(hanging: Hanging) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.05) as scope:
            endpoint = AlligatorEndpoint(hanging, authorize=ask_for_a_while)
            await endpoint({**HTTP, "path": "/stats"}, None, None)  # type: ignore[arg-type]
        assert scope.cancelled_caught
        with process_rests():
            await asyncio.sleep(1)

    asyncio.run(main())


def ask_for_a_while(scope: Any) -> bool:
    time.sleep(1)
    return False


# A commit that is through when its request has been cancelled.


@pytest.mark.parametrize("kind", [Gathering, Slow])
@pytest.mark.parametrize("way", ["push", "callback", "several", "always"])
def test_commit_whose_client_has_no_response_is_undone(
    kind: type[Slow], way: str, limit: Limit
) -> None:
    gator = Gator("locmem://", backend_class=kind)
    second = Gator("locmem://")
    store: Any = gator.backend
    called: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        if way == "callback":
            gator.current.on_commit(lambda: called.append("queued"))  # type: ignore[union-attr]
        if way == "several":
            second.task(add, 1, 2)
        if way == "always":
            with gator.options(always=True) as opts:
                opts.task(add, 5, 6)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def main() -> None:
        gators = [second, gator] if way == "several" else gator
        async with limit() as cancel:
            once(store.asked, cancel)
            await AlligatorMiddleware(app, gators)({**HTTP}, None, None)  # type: ignore[arg-type]
        store.go_on.set()
        await asyncio.to_thread(store.undone.wait, 20)

    asyncio.run(main())

    eventually(lambda: gator.len() == (1 if way == "always" else 0))
    if way == "several":
        eventually(lambda: second.len() == 0)


@pytest.mark.parametrize("turns", range(30))
@pytest.mark.parametrize("kind", ["sqlite", "valkey"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_queue_matches_the_response_after_a_cancellation_at_any_turn(
    turns: int, kind: str, loop: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        gator = Gator(f"sqlite://{tmp_path}/queue.db?timeout=15")
    else:
        gator = Gator(f"{request.getfixturevalue('valkey')}?ns={uuid4().hex}")
    sent: list[str] = []

    async def main() -> None:
        task = asyncio.create_task(application(gator, sent)())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    factory = None if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())

    eventually(lambda: gator.len() == (1 if sent else 0))
    gator.client.close()


def test_time_limit_outside_gives_a_response_that_is_true() -> None:
    gator = Gator("locmem://", backend_class=Gathering)
    store: Any = gator.backend
    sent: list[Any] = []

    async def outside() -> int:
        try:
            async with asyncio.timeout(None) as limit:
                once(store.asked, lambda: limit.reschedule(asyncio.get_running_loop().time()))
                await application(gator, sent)()
            return 200
        except TimeoutError:
            return 504

    async def main() -> int:
        status = await outside()
        store.go_on.set()
        await asyncio.to_thread(store.undone.wait, 20)
        return status

    assert asyncio.run(main()) == 504
    assert gator.len() == 0


def test_failed_request_keeps_its_always_tasks_though_it_is_cancelled(limit: Limit) -> None:
    gator = Gator("locmem://", backend_class=Slow)
    store: Any = gator.backend

    async def main() -> None:
        async with limit() as cancel, gator.transaction() as transaction:
            once(store.asked, cancel)
            with gator.options(always=True) as opts:
                opts.task(add, 1, 2)
            gator.task(add, 3, 4)
            transaction.doom()
        store.go_on.set()
        await loop_rests()

    asyncio.run(main())

    eventually(lambda: gator.len() == 1)


@pytest.mark.parametrize("kind", [Gathering, Slow])
@pytest.mark.parametrize("way", ["push", "callback", "several"])
def test_cancelled_commit_at_the_end_continues_for_its_client(
    kind: type[Slow], way: str, limit: Limit
) -> None:
    gator = Gator("locmem://", backend_class=kind)
    second = Gator("locmem://")
    store: Any = gator.backend
    sent: list[str] = []
    called: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        if way == "callback":
            gator.current.on_commit(lambda: called.append("queued"))  # type: ignore[union-attr]
        if way == "several":
            second.task(add, 1, 2)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def main() -> None:
        gators = [second, gator] if way == "several" else gator
        async with limit() as cancel:
            once(store.asked, cancel)
            middleware = AlligatorMiddleware(app, gators, commit_at="end")
            await middleware({**HTTP}, None, send)  # type: ignore[arg-type]
        store.go_on.set()

    asyncio.run(main())

    eventually(lambda: gator.len() == 1)
    assert sent == ["http.response.start"]
    if way == "callback":
        eventually(lambda: called == ["queued"])
    if way == "several":
        assert second.len() == 1


# A client that leaves.


def test_client_that_leaves_a_stream_during_the_commit_burns_no_core(hanging: Hanging) -> None:
    left = asyncio.Event()
    hanging.client.commit_seconds = 5.0

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one "

    async def view(request: Request) -> StreamingResponse:
        hanging.task(add, 1, 2)
        return StreamingResponse(chunks())

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def main() -> None:
        app = Starlette(
            routes=[Route("/", view)], middleware=[Middleware(AlligatorMiddleware, gator=hanging)]
        )
        asyncio.get_running_loop().call_later(0.1, left.set)
        began = time.monotonic()
        await app({**HTTP, "query_string": b""}, receive, None)  # type: ignore[arg-type]
        assert time.monotonic() - began < 4.5  # of the five of the commit
        await loop_rests()
        hanging.come_back()

    asyncio.run(main())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_clients_that_leave_a_server_during_the_commit_burn_no_core(
    hanging: Hanging, loop: str
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one "

    async def view(request: Request) -> StreamingResponse:
        hanging.task(add, 1, 2)
        return StreamingResponse(chunks())

    async def plain(request: Request) -> PlainTextResponse:
        return PlainTextResponse("fine")

    app = Starlette(
        routes=[Route("/", view), Route("/plain", plain)],
        middleware=[Middleware(AlligatorMiddleware, gator=hanging)],
    )
    with serving(app, loop=loop) as url:
        place = urlsplit(url)
        for _ in range(5):
            with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with process_rests():
            time.sleep(SECONDS)
        assert httpx.get(f"{url}/plain", timeout=20).text == "fine"
