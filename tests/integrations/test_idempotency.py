"""A request that is repeated under its idempotency key: one table for all integrations."""

import asyncio
import logging
from collections.abc import Sequence
from threading import Event
from typing import Any
from uuid import uuid4

import pytest

import asgi_alligator
import wsgi_alligator
from alligator import Gator, Transaction
from alligator.backends import locmem_backend
from alligator.backends.base import Duplicates, Message
from alligator.exceptions import BackendUnavailable
from tests.harness.programs import eventually
from tests.harness.sample_tasks import add
from tests.harness.web_sites import Get, Reply, Site, View

ANN = {"Authorization": "Bearer ann", "Idempotency-Key": "order-7"}


class LosesReplies(locmem_backend.Client):
    """A store that accepts a push and then fails, as long as *lost* is above zero."""

    lost = 0

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        pushed = super().push_many(messages, commit_id=commit_id, undo=undo)
        if LosesReplies.lost:
            LosesReplies.lost -= 1
            raise BackendUnavailable("the store did not answer")
        return pushed


class IsAway(locmem_backend.Client):
    """A store that cannot be reached, as long as *pushes* is above zero."""

    pushes = 0

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        if IsAway.pushes:
            IsAway.pushes -= 1
            raise BackendUnavailable("the store cannot be reached")
        return super().push_many(messages, commit_id=commit_id, undo=undo)


def pushing(*gators: Gator, status: int = 201) -> View:
    def view(transaction: Transaction) -> Reply:
        for gator in gators:
            gator.task(add, 1, 2)
        return Reply(status)

    return view


def two_queues() -> list[Gator]:
    """Return gators of two queues in one new store."""
    dsn = f"locmem://{uuid4().hex}"
    return [Gator(dsn, name) for name in ("mail", "print")]


def post(get: Get, path: str = "/orders", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return get(path, method="POST", headers={**ANN, **named}).status


def test_repeated_request_queues_its_tasks_once(site: Site, gator: Gator) -> None:
    get = site(pushing(gator), {"gator": gator, "idempotency_key": True})

    assert [post(get), post(get)] == [201, 201]

    assert gator.len() == 1


def test_repeated_request_queues_nothing_after_its_tasks_have_run(site: Site, gator: Gator) -> None:
    get = site(pushing(gator), {"gator": gator, "idempotency_key": True})
    post(get)
    assert gator.pop() is not None

    assert post(get) == 201

    assert gator.len() == 0


def test_request_without_a_key_queues_its_tasks_each_time(site: Site, gator: Gator) -> None:
    get = site(pushing(gator), {"gator": gator, "idempotency_key": True})

    for key in ("", " "):
        post(get, Idempotency_Key=key)
    get("/orders", method="POST", headers={"Authorization": "Bearer ann"})

    assert gator.len() == 3


def test_keys_are_ignored_unless_they_are_switched_on(site: Site, gator: Gator) -> None:
    get = site(pushing(gator), {"gator": gator})

    post(get)
    post(get)

    assert gator.len() == 2


def test_key_can_be_in_another_header(site: Site, gator: Gator) -> None:
    get = site(pushing(gator), {"gator": gator, "idempotency_key": "X-Request-Key"})

    post(get, X_Request_Key="a")
    post(get, X_Request_Key="a")
    assert gator.len() == 1

    post(get)  # the default header means nothing now
    post(get)
    assert gator.len() == 3


# What a key is scoped by.


def test_key_is_scoped_by_method_path_and_credentials(site: Site, gator: Gator) -> None:
    get = site(pushing(gator), {"gator": gator, "idempotency_key": True})
    bob = {**ANN, "Authorization": "Bearer bob"}
    requests: list[tuple[str, str, dict[str, str]]] = [
        ("POST", "/orders", ANN),
        ("PUT", "/orders", ANN),
        ("POST", "/orders/7", ANN),
        ("POST", "/orders", bob),
        ("POST", "/orders", {**ANN, "Idempotency-Key": "order-8"}),
        ("POST", "/orders", {**ANN, "Cookie": "session=1"}),
        ("POST", "/orders", {"Idempotency-Key": "order-7", "Cookie": "session=1"}),
        ("POST", "/orders", {"Idempotency-Key": "order-7", "Cookie": "session=2"}),
    ]

    for method, path, headers in requests * 2:
        assert get(path, method=method, headers=headers).status == 201

    assert gator.len() == len(requests)


def test_query_is_not_part_of_the_scope(site: Site, gator: Gator) -> None:
    get = site(pushing(gator), {"gator": gator, "idempotency_key": True})

    post(get, "/orders?attempt=1")
    post(get, "/orders?attempt=2")

    assert gator.len() == 1


def test_key_of_an_unknown_client_is_ignored_with_a_warning(
    site: Site, gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    get = site(pushing(gator), {"gator": gator, "idempotency_key": True})

    for _ in range(3):
        assert get("/", method="POST", headers={"Idempotency-Key": "1"}).status == 201

    assert gator.len() == 3
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "pass idempotency_client" in warning.getMessage()


def tenant(request: Any) -> Any:
    """Read a header of a request, whichever framework it is of."""
    if isinstance(request, dict) and "headers" in request:
        found = dict(request["headers"])
        return found[b"x-tenant"].decode() if b"x-tenant" in found else None
    if isinstance(request, dict):
        return request.get("HTTP_X_TENANT")
    return request.headers.get("x-tenant")


def test_function_says_what_identifies_a_client(site: Site, gator: Gator) -> None:
    settings = {"gator": gator, "idempotency_key": True, "idempotency_client": tenant}
    get = site(pushing(gator), settings)

    post(get, X_Tenant="a")
    post(get, X_Tenant="a", Authorization="Bearer a-newer-token")
    assert gator.len() == 1

    post(get, X_Tenant="b")
    assert gator.len() == 2

    get("/orders", method="POST", headers=ANN)  # of no tenant
    get("/orders", method="POST", headers=ANN)
    assert gator.len() == 4


@pytest.mark.parametrize("returned", [True, b"a", object()])
def test_function_that_identifies_no_client_fails_the_request(
    site: Site, gator: Gator, returned: object
) -> None:
    get = site(
        pushing(gator),
        {"gator": gator, "idempotency_key": True, "idempotency_client": lambda _: returned},
    )

    assert post(get) == 500

    assert gator.len() == 0


# Failures.


def test_failed_request_does_not_use_up_its_key(site: Site, gator: Gator) -> None:
    statuses = iter([500, 422, 201, 201])

    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        return Reply(next(statuses))

    get = site(view, {"gator": gator, "idempotency_key": True})

    assert [post(get) for _ in range(4)] == [500, 422, 201, 201]
    assert gator.len() == 1


def test_always_task_of_a_failed_request_is_queued_once(site: Site, gator: Gator) -> None:
    def view(transaction: Transaction) -> Reply:
        with gator.options(always=True) as opts:
            opts.task(add, 1, 2)
        gator.task(add, 3, 4)
        return Reply(next(statuses))

    statuses = iter([401, 401, 201, 201])
    get = site(view, {"gator": gator, "idempotency_key": True})

    assert [post(get), post(get)] == [401, 401]
    assert gator.len() == 1

    assert [post(get), post(get)] == [201, 201]
    assert gator.len() == 3


@pytest.mark.parametrize("store", [LosesReplies, IsAway])
def test_request_that_is_repeated_after_a_503_queues_its_tasks_once(
    site: Site, store: type[locmem_backend.Client]
) -> None:
    gator = Gator("locmem://", backend_class=store)
    get = site(pushing(gator), {"gator": gator, "idempotency_key": True})
    LosesReplies.lost = IsAway.pushes = 1

    answer = get("/orders", method="POST", headers=ANN)
    assert answer.status == 503
    assert b"repeat the request with the same idempotency key" in answer.body
    assert [post(get), post(get)] == [201, 201]

    assert gator.len() == 1


def test_several_gators_are_completed_by_a_repeated_request(site: Site) -> None:
    first = Gator("locmem://")
    second = Gator("locmem://", backend_class=IsAway)
    get = site(pushing(first, second), {"gator": [first, second], "idempotency_key": True})
    IsAway.pushes = 1

    assert [post(get), post(get), post(get)] == [503, 201, 201]

    assert (first.len(), second.len()) == (1, 1)


def test_several_gators_may_share_a_store(site: Site) -> None:
    gators = two_queues()
    get = site(pushing(*gators), {"gator": gators, "idempotency_key": True})

    post(get)
    post(get)

    assert [gator.len() for gator in gators] == [1, 1]


def test_inner_middleware_may_share_the_store_of_the_outer(site: Site) -> None:
    gators = two_queues()
    layers = [{"gator": gator, "idempotency_key": True} for gator in gators]
    get = site(pushing(*gators), *layers)

    post(get)
    post(get)

    assert [gator.len() for gator in gators] == [1, 1]


# A commit under a key is never undone: another request may have counted on it.


def test_commit_stays_when_a_wsgi_server_refuses_the_response(gator: Gator) -> None:
    def page(environ: Any, start_response: Any) -> list[bytes]:
        gator.task(add, 1, 2)
        start_response("201 Created", [])
        return [b"done"]

    def refuse(status: str, headers: Any, exc_info: Any = None) -> Any:
        raise ValueError("this server does not send that")

    app = wsgi_alligator.AlligatorMiddleware(page, gator, idempotency_key=True)
    environ = {"REQUEST_METHOD": "POST", "HTTP_COOKIE": "a=1", "HTTP_IDEMPOTENCY_KEY": "1"}
    with pytest.raises(ValueError, match="does not send"):
        app(dict(environ), refuse)
    assert gator.len() == 1

    app(dict(environ), lambda status, headers, exc_info=None: print)

    assert gator.len() == 1


class Slow(locmem_backend.Client):
    """A store that answers a push when the test allows it."""

    blocking = True
    asked, go_on = Event(), Event()

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        self.asked.set()
        assert self.go_on.wait(20)
        return super().push_many(messages, commit_id=commit_id, undo=undo)


@pytest.mark.parametrize("groups", [False, True])
def test_cancelled_request_is_queued_once_when_repeated(
    groups: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slow, "groups_commits", groups)
    Slow.asked.clear()
    Slow.go_on.clear()
    gator = Gator("locmem://", backend_class=Slow)
    statuses: list[int] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    app = asgi_alligator.AlligatorMiddleware(page, gator, idempotency_key=True)
    headers = [(b"cookie", b"a=1"), (b"idempotency-key", b"1")]

    def request() -> Any:
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        return app(scope, None, send)  # type: ignore[arg-type]

    async def main() -> None:
        cancelled = asyncio.create_task(request())
        await asyncio.to_thread(Slow.asked.wait, 20)
        cancelled.cancel()
        Slow.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await request()

    asyncio.run(main())
    eventually(lambda: gator.len() == 1)
    assert statuses == [201]
