"""A request never joins a transaction that its context holds: that may be one of another request."""

import asyncio
import contextvars
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from alligator import Gator, Transaction
from asgi_alligator import AlligatorMiddleware
from tests.harness.programs import eventually
from tests.harness.sample_tasks import add
from tests.harness.web_sites import Reply, Site


class Boom(Exception):
    """The error of the other request."""


def test_request_has_its_own_transaction_in_any_context(site: Site, gator: Gator) -> None:
    seen: list[Any] = []

    def view(transaction: Transaction) -> Reply:
        task = gator.task(add, 1, 2)
        seen.append((transaction == gator.current, task.retries, task.headers.get("tenant")))
        return Reply(200)

    with pytest.raises(Boom), gator.transaction(headers={"tenant": "acme"}):
        answer = site(view, {"gator": gator, "options": {"retries": 2}})()
        depth = gator.len()
        raise Boom

    assert answer.status == 200
    assert seen == [(True, 2, None)]
    assert (depth, gator.len()) == (1, 1)


def test_transaction_of_the_view_joins_that_of_its_request(site: Site, gator: Gator) -> None:
    statuses = iter([200, 404])
    depths: list[int] = []

    def view(transaction: Transaction) -> Reply:
        with gator.transaction():
            gator.task(add, 1, 2)
        depths.append(gator.len())
        return Reply(next(statuses))

    get = site(view, {"gator": gator})
    get()
    get()

    assert depths == [0, 1]
    assert gator.len() == 1


def test_nested_adapter_belongs_to_the_same_request(site: Site, gator: Gator) -> None:
    other = Gator("locmem://")
    statuses = iter([404, 200])

    def view(transaction: Transaction) -> Reply:
        with gator.transaction():
            gator.task(add, 1, 2)
            other.task(add, 1, 2)
        return Reply(next(statuses))

    get = site(view, {"gator": other}, {"gator": gator})

    with pytest.raises(Boom), gator.transaction(), other.transaction():
        get()
        assert (gator.len(), other.len()) == (0, 0)
        get()
        raise Boom

    assert (gator.len(), other.len()) == (1, 1)


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_scope_that_is_no_request_joins_no_transaction(gator: Gator, kind: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(gator.current)
        gator.task(add, 1, 2)

    async def main() -> None:
        with gator.transaction() as transaction:
            await AlligatorMiddleware(app, gator)({"type": kind}, None, None)  # type: ignore[arg-type]  # not used
            assert gator.current is transaction
            assert gator.len() == 1

    asyncio.run(main())

    assert seen == [None]


def test_request_made_by_another_request_has_its_own_transaction(gator: Gator) -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def silent(message: Any) -> None:
        pass

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 3, 4)
        scope = {"type": "http", "method": "GET"}
        request = AlligatorMiddleware(inner, gator)(scope, receive, silent)
        await asyncio.create_task(request)
        assert gator.len() == 1
        raise Boom

    with pytest.raises(Boom):
        asyncio.run(
            AlligatorMiddleware(outer, gator)({"type": "http", "method": "GET"}, None, silent)  # type: ignore[arg-type]
        )

    assert gator.len() == 1


# The servers that share a context between requests of one connection.


@contextmanager
def serving(app: Any, **settings: Any) -> Iterator[str]:
    """Run uvicorn in a thread."""
    # Its log goes where that of the test goes.
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", **settings)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: contextvars.Context().run(server.run))
    thread.start()
    try:
        eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


PROTOCOLS = [(loop, http) for loop in ("asyncio", "uvloop") for http in ("h11", "httptools")]


@pytest.mark.parametrize(("loop", "protocol"), PROTOCOLS)
@pytest.mark.parametrize("commit_at", ["start", "end"])
def test_requests_of_one_connection_do_not_mix(
    gator: Gator, loop: str, protocol: str, commit_at: Any
) -> None:
    for needed in {loop, protocol} - {"asyncio"}:
        pytest.importorskip(needed)
    ended = threading.Event()
    tenants: list[Any] = []

    def options(scope: Any) -> dict[str, Any]:
        tenant = dict(scope["headers"]).get(b"x-tenant")
        return {"headers": {"tenant": tenant.decode()}} if tenant else {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        tenants.append(gator.task(add, 1, 2).headers.get("tenant"))
        await send({"type": "http.response.start", "status": 200, "headers": LENGTH})
        await send({"type": "http.response.body", "body": b"done"})
        if scope["path"] == "/one":  # as a BackgroundTask that takes its time and fails
            await asyncio.to_thread(ended.wait, 10)
            raise Boom

    middleware = AlligatorMiddleware(app, gator, commit_at=commit_at, options=options)
    with serving(middleware, loop=loop, http=protocol) as url:
        try:
            # A body that makes the server pause to read, and the next request of the connection.
            assert answers(url, head("POST", "/one", "acme", 400_000), head("GET", "/two"))
            # Two requests at once.
            assert answers(url, head("GET", "/one", "acme") + head("GET", "/two"))
        finally:
            ended.set()

    assert sorted(map(str, tenants)) == ["None", "None", "acme", "acme"]
    assert gator.len() == (4 if commit_at == "start" else 2)


def head(method: str, path: str, tenant: str = "", length: int = 0) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Content-Length: {length}"]
    lines += [f"X-Tenant: {tenant}"] if tenant else []
    return "\r\n".join([*lines, "", ""]).encode() + b"x" * length


def answers(url: str, *requests: bytes) -> bool:
    """Send what is given on one connection, a request after the answer to those before."""
    place = urlsplit(url)
    received = b""
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        for request in requests:
            connection.sendall(request)
            expected = received.count(b"done") + request.count(b"HTTP/1.1")
            while received.count(b"done") < expected:
                data = connection.recv(65536)
                assert data, received
                received += data
    return received.count(b"200 OK") == 2


LENGTH = [(b"content-length", b"4")]
