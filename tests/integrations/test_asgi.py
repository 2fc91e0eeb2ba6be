"""The middleware of ASGI, message by message."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import Message
from alligator.exceptions import BackendUnavailable
from asgi_alligator import AlligatorMiddleware
from tests.sample_tasks import add

START = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]}
MORE = {"type": "http.response.body", "body": b"one ", "more_body": True}
BODY = {"type": "http.response.body", "body": b"two"}


class Away(locmem_backend.Client):
    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        raise BackendUnavailable("the store is away")


class Slow(locmem_backend.Client):
    """A store that answers when it is let."""

    blocking = True

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        self.asked.set()
        assert self.go_on.wait(10)
        super().push_many(messages, commit_id=commit_id)


class Exchange:
    """A server with one request in hand."""

    def __init__(self, **scope: Any) -> None:
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": "GET",
            "path": "/",
            "headers": [],
            **scope,
        }
        self.sent: list[Any] = []
        self.on_send: Callable[[Any], None] = lambda message: None

    async def receive(self) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        self.on_send(message)
        self.sent.append(message)

    async def run(self, app: Any) -> None:
        await app(self.scope, self.receive, self.send)

    @property
    def types(self) -> list[str]:
        return [message["type"].removeprefix("http.response.") for message in self.sent]


App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


def sending(gator: Gator, *messages: Any) -> App:
    """Make an application that starts one task, and then sends *messages*."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        for message in messages:
            await send(message)

    return app


# The order of messages.


@pytest.mark.parametrize(
    "messages",
    [
        [START, BODY],
        [START, MORE, MORE, BODY],
        [{"type": "http.response.debug", "info": {}}, START, BODY],
        [START, {"type": "http.response.debug", "info": {}}, BODY],
        [{"type": "http.response.early_hint", "links": []}, START, BODY],
        [START, {"type": "http.response.early_hint", "links": []}, BODY],
        [START, {"type": "http.response.pathsend", "path": "/a"}],
        [START, {"type": "http.response.zerocopysend", "file": 3}],
        [{**START, "trailers": True}, BODY, {"type": "http.response.trailers", "headers": []}],
        [START],
    ],
    ids=lambda messages: "-".join(m["type"].rpartition(".")[2] for m in messages),
)
def test_messages_come_through_in_order(gator: Gator, messages: list[Any]) -> None:
    exchange = Exchange()

    asyncio.run(exchange.run(AlligatorMiddleware(sending(gator, *messages), gator)))

    assert exchange.sent == messages
    assert gator.len() == 1


def test_the_start_waits_for_the_message_that_follows(gator: Gator) -> None:
    exchange = Exchange()
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.debug", "info": {}})
        gator.task(add, 1, 2)
        seen.append((gator.len(), exchange.types))
        await send(MORE)
        seen.append((gator.len(), exchange.types))
        await send(BODY)

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert seen == [(0, []), (1, ["start", "debug", "body"])]


def test_the_tasks_are_queued_before_anything_is_sent(gator: Gator) -> None:
    exchange = Exchange()
    depths: list[int] = []
    exchange.on_send = lambda message: depths.append(gator.len())

    asyncio.run(exchange.run(AlligatorMiddleware(sending(gator, START, BODY), gator)))

    assert depths == [1, 1]


@pytest.mark.parametrize("kind", ["websocket", "lifespan", "webtransport"])
def test_what_is_not_http_passes_through(gator: Gator, kind: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope, receive, send, gator.current])

    exchange = Exchange(type=kind)
    receive, send = exchange.receive, exchange.send
    asyncio.run(AlligatorMiddleware(app, gator)(exchange.scope, receive, send))

    assert seen == [exchange.scope, receive, send, None]
    assert seen[0] is exchange.scope


# The scope.


def test_the_scope_of_the_server_stays_as_it_is(gator: Gator) -> None:
    exchange = Exchange()
    before = dict(exchange.scope)
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"]["alligator"])
        assert seen[0] is gator.current

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert exchange.scope == before
    assert seen


def test_the_state_of_the_lifespan_is_there_and_shared(gator: Gator) -> None:
    exchange = Exchange(state={"database": "db"})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["state"]["database"] == "db"
        assert scope["state"]["alligator"] is gator.current
        scope["state"]["user"] = "ann"  # for a middleware around ours

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert exchange.scope["state"]["user"] == "ann"


# When the application fails.


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError, SystemExit])
@pytest.mark.parametrize("messages", [[], [START]], ids=["nothing", "start"])
def test_an_application_that_fails_before_its_answer_queues_nothing(
    gator: Gator, error: type[BaseException], messages: list[Any]
) -> None:
    exchange = Exchange()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await sending(gator, *messages)(scope, receive, send)
        raise error

    async def main() -> None:
        with pytest.raises(error):
            await exchange.run(AlligatorMiddleware(app, gator))

    asyncio.run(main())

    assert exchange.sent == []
    assert gator.len() == 0


@pytest.mark.parametrize(("commit_at", "depth"), [("start", 1), ("end", 0)])
def test_an_application_that_fails_after_its_answer(
    gator: Gator, commit_at: Any, depth: int
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await sending(gator, START, BODY)(scope, receive, send)
        raise RuntimeError("a background task fails")

    with pytest.raises(RuntimeError):
        asyncio.run(Exchange().run(AlligatorMiddleware(app, gator, commit_at=commit_at)))

    assert gator.len() == depth


def test_an_application_that_returns_without_an_answer_queues_nothing(gator: Gator) -> None:
    exchange = Exchange()

    asyncio.run(exchange.run(AlligatorMiddleware(sending(gator), gator)))

    assert exchange.sent == []
    assert gator.len() == 0


def test_a_coroutine_that_is_closed_queues_nothing(gator: Gator) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        await asyncio.Event().wait()

    async def main() -> None:
        coroutine = Exchange().run(AlligatorMiddleware(app, gator))
        coroutine.send(None)
        coroutine.close()

    asyncio.run(main())

    assert gator.len() == 0
    assert gator.current is None


# When the client goes away.


def test_a_client_that_has_gone_does_not_undo_what_was_declared(gator: Gator) -> None:
    exchange = Exchange()

    def gone(message: Any) -> None:
        raise OSError("the client has gone")

    exchange.on_send = gone

    with pytest.raises(OSError, match="gone"):
        asyncio.run(exchange.run(AlligatorMiddleware(sending(gator, START, BODY), gator)))

    assert gator.len() == 1


def test_a_cancelled_request_waits_for_the_commit_that_has_begun() -> None:
    gator = Gator("locmem://", backend_class=Slow)
    store: Any = gator.backend

    async def main() -> None:
        exchange = Exchange()
        middleware = AlligatorMiddleware(sending(gator, START, BODY), gator)
        request = asyncio.create_task(exchange.run(middleware))
        while not store.asked.is_set():
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.sleep(0.01)
        assert not request.done()
        store.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(main())

    assert gator.len() == 1


def test_the_loop_goes_on_while_the_store_is_slow() -> None:
    gator = Gator("locmem://", backend_class=Slow)
    store: Any = gator.backend

    async def main() -> int:
        middleware = AlligatorMiddleware(sending(gator, START, BODY), gator)
        request = asyncio.create_task(Exchange().run(middleware))
        turns = 0
        while not store.asked.is_set() or turns < 50:
            await asyncio.sleep(0)
            turns += 1
        store.go_on.set()
        await request
        return turns

    assert asyncio.run(main()) >= 50
    assert gator.len() == 1


def test_what_is_sent_while_the_commit_goes_on_waits_for_it() -> None:
    gator = Gator("locmem://", backend_class=Slow)
    store: Any = gator.backend
    exchange = Exchange()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def ping() -> None:
            await asyncio.to_thread(store.asked.wait)
            asyncio.get_running_loop().call_later(0.01, store.go_on.set)
            await send({**MORE, "body": b"ping"})

        gator.task(add, 1, 2)
        await send(START)
        await asyncio.gather(send(MORE), ping())
        await send(BODY)

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert exchange.types == ["start", "body", "body", "body"]
    assert [message["body"] for message in exchange.sent[1:]] == [b"one ", b"ping", b"two"]


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("commit_at", ["start", "end"])
def test_cancelled_at_any_await_it_is_all_or_nothing(
    gator: Gator, steps: int, commit_at: Any
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            gator.task(add, 1, 2)
        await send(START)
        await asyncio.sleep(0)
        await send(MORE)
        await asyncio.sleep(0)
        await send(BODY)
        await asyncio.sleep(0)

    exchange = Exchange()

    async def main() -> None:
        request = asyncio.create_task(
            exchange.run(AlligatorMiddleware(app, gator, commit_at=commit_at))
        )
        for _ in range(steps):
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])
        if commit_at == "start":
            assert gator.len() == (3 if exchange.sent else 0)
        else:
            assert gator.len() == (0 if request.cancelled() else 3)

    asyncio.run(main())

    assert gator.current is None


# When the queue cannot be reached.


def test_the_answer_is_replaced_and_the_rest_of_it_swallowed() -> None:
    gator = Gator("locmem://", backend_class=Away)
    exchange = Exchange()
    rest = [MORE, MORE, BODY, {"type": "http.response.trailers", "headers": []}]

    asyncio.run(exchange.run(AlligatorMiddleware(sending(gator, START, *rest), gator)))

    assert exchange.types == ["start", "body"]
    assert exchange.sent[0]["status"] == 503
    assert (b"retry-after", b"5") in exchange.sent[0]["headers"]
    assert all(name == name.lower() for name, _ in exchange.sent[0]["headers"])


def test_a_head_request_gets_the_503_without_its_body() -> None:
    gator = Gator("locmem://", backend_class=Away)
    exchange = Exchange(method="HEAD")

    asyncio.run(exchange.run(AlligatorMiddleware(sending(gator, START, BODY), gator)))

    assert exchange.sent[0]["status"] == 503
    assert exchange.sent[1]["body"] == b""


def test_an_endless_stream_is_told_that_its_client_is_gone() -> None:
    gator = Gator("locmem://", backend_class=Away)
    exchange = Exchange(asgi={"version": "3.0", "spec_version": "2.4"})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        await send(START)
        while True:
            await send(MORE)

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert exchange.sent[0]["status"] == 503


def test_at_the_end_tasks_that_always_go_out_and_cannot_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gator = Gator("locmem://", backend_class=Away)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with gator.options(always=True) as opts:
            opts.task(add, 1, 2)

    asyncio.run(Exchange().run(AlligatorMiddleware(app, gator)))

    assert "always=True" in caplog.text


# Tasks that come late, and tasks of several requests at once.


def test_what_outlives_the_request_queues_at_once(gator: Gator) -> None:
    late: list[asyncio.Task[None]] = []

    async def push_later() -> None:
        await asyncio.sleep(0.01)
        gator.task(add, 3, 4)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        late.append(asyncio.create_task(push_later()))
        await sending(gator, START, BODY)(scope, receive, send)

    async def main() -> None:
        await Exchange().run(AlligatorMiddleware(app, gator))
        assert gator.len() == 1
        await late[0]

    asyncio.run(main())

    assert gator.len() == 2


def test_requests_side_by_side_do_not_mix(gator: Gator) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        number = int(scope["path"][1:])
        for _ in range(3):
            gator.task(add, number, number)
            await asyncio.sleep(0)
        assert len(scope["state"]["alligator"].tasks) == 3
        await send({**START, "status": 200 if number % 2 else 500})
        await send(BODY)

    middleware = AlligatorMiddleware(app, gator)

    async def main() -> None:
        await asyncio.gather(*(Exchange(path=f"/{number}").run(middleware) for number in range(20)))

    asyncio.run(main())

    assert gator.len() == 30


def test_tasks_of_threads_belong_to_the_request(gator: Gator) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.gather(*(asyncio.to_thread(gator.task, add, 1, 2) for _ in range(5)))
        assert gator.len() == 0
        await send({**START, "status": 404})
        await send(BODY)

    asyncio.run(Exchange().run(AlligatorMiddleware(app, gator)))

    assert gator.len() == 0


def test_the_inner_of_two_is_found_through_a_copy_of_the_scope(gator: Gator) -> None:
    inner = AlligatorMiddleware(sending(gator, START, BODY), gator)

    async def between(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "path": "/mounted"}, receive, send)

    exchange = Exchange()
    asyncio.run(exchange.run(AlligatorMiddleware(between, gator, commit_at="end")))

    assert gator.len() == 1
    assert exchange.types == ["start", "body"]


def test_options_cannot_be_an_async_function(gator: Gator) -> None:
    async def options(scope: Any) -> dict[str, Any]:
        return {}

    with pytest.raises(ValueError, match="plain function"):
        AlligatorMiddleware(sending(gator), gator, options=options)  # type: ignore[arg-type]  # it is refused
