"""The middleware of ASGI, message by message."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from alligator import CANCELED, Gator
from alligator.backends import locmem_backend
from alligator.backends.base import Message
from alligator.exceptions import BackendUnavailable, ResponseReplaced
from asgi_alligator import AlligatorMiddleware
from tests.harness.sample_tasks import add

START = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]}
MORE = {"type": "http.response.body", "body": b"one ", "more_body": True}
BODY = {"type": "http.response.body", "body": b"two"}


class Away(locmem_backend.Client):
    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        raise BackendUnavailable("the store is away")


class Slow(locmem_backend.Client):
    """A store that answers when it is let."""

    blocking = True

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
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


def test_start_is_forwarded_at_once_and_later_tasks_are_queued_at_once(
    gator: Gator,
) -> None:
    exchange = Exchange()
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        await send(START)
        seen.append((gator.len(), exchange.types))
        gator.task(add, 1, 2)
        seen.append((gator.len(), exchange.types))
        await send(BODY)

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert seen == [(1, ["start"]), (2, ["start"])]


def test_start_without_tasks_is_forwarded_at_once(gator: Gator) -> None:
    exchange = Exchange()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        assert exchange.types == ["start"]
        await send(BODY)

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert exchange.sent == [START, BODY]


def test_tasks_are_queued_before_anything_is_sent(gator: Gator) -> None:
    exchange = Exchange()
    depths: list[int] = []
    exchange.on_send = lambda message: depths.append(gator.len())

    asyncio.run(exchange.run(AlligatorMiddleware(sending(gator, START, BODY), gator)))

    assert depths == [1, 1]


@pytest.mark.parametrize("kind", ["websocket", "lifespan", "webtransport"])
def test_scope_that_is_not_http_passes_through(gator: Gator, kind: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope, receive, send, gator.current])

    exchange = Exchange(type=kind)
    receive, send = exchange.receive, exchange.send
    asyncio.run(AlligatorMiddleware(app, gator)(exchange.scope, receive, send))

    assert seen == [exchange.scope, receive, send, None]
    assert seen[0] is exchange.scope


# The scope.


def test_scope_of_the_server_is_not_copied(gator: Gator) -> None:
    exchange = Exchange()
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope["state"]["alligator"], scope["alligator.transaction"]])
        scope["route"] = "/here"  # for a middleware around ours
        scope["state"]["user"] = "ann"
        assert seen == [gator.current, gator.current]
        assert scope is exchange.scope

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert exchange.scope["route"] == "/here"
    assert exchange.scope["state"]["user"] == "ann"


def test_state_that_already_has_the_key_keeps_its_value(gator: Gator) -> None:
    exchange = Exchange(state={"alligator": gator})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["state"]["alligator"] is gator
        assert scope["alligator.transaction"] is gator.current
        await sending(gator, START, BODY)(scope, receive, send)

    asyncio.run(exchange.run(AlligatorMiddleware(AlligatorMiddleware(app, gator), gator)))

    assert gator.len() == 1


def test_scope_that_is_reused_is_a_new_request(gator: Gator) -> None:
    exchange = Exchange()
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"]["alligator"])
        await sending(gator, START, BODY)(scope, receive, send)

    for _ in range(2):
        asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert seen[0] is not seen[1]
    assert gator.len() == 2


def test_state_of_the_lifespan_is_present_and_shared(gator: Gator) -> None:
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
def test_exception_after_the_declared_start_queues_the_tasks(
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

    assert exchange.sent == messages
    assert gator.len() == len(messages)


@pytest.mark.parametrize(("commit_at", "depth"), [("start", 1), ("end", 0)])
def test_exception_after_the_response_leaves_its_tasks_queued(
    gator: Gator, commit_at: Any, depth: int
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await sending(gator, START, BODY)(scope, receive, send)
        raise RuntimeError("a background task fails")

    with pytest.raises(RuntimeError):
        asyncio.run(Exchange().run(AlligatorMiddleware(app, gator, commit_at=commit_at)))

    assert gator.len() == depth


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (("x-a", "1"), AttributeError),
        ((b"x-a", b"1\r\nset-cookie: a=b"), ValueError),
        ((b"x-a", b"1\n"), ValueError),
        ((b"x-a\r\n", b"1"), ValueError),
        ((b"", b"1"), ValueError),
    ],
)
def test_response_that_no_server_can_send_queues_nothing(
    gator: Gator, header: Any, error: type[Exception]
) -> None:
    exchange = Exchange()

    with pytest.raises(error):
        asyncio.run(
            exchange.run(
                AlligatorMiddleware(sending(gator, {**START, "headers": [header]}, BODY), gator)
            )
        )

    assert exchange.types == []
    assert gator.len() == 0


def test_second_response_after_one_that_no_server_can_send_is_allowed(gator: Gator) -> None:
    exchange = Exchange()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        with pytest.raises(ValueError, match="No server"):
            await send({**START, "headers": [(b"x-a", b"1\n")]})
        await send({**START, "status": 500})
        await send(BODY)

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert exchange.sent[0]["status"] == 500
    assert gator.len() == 0


@pytest.mark.parametrize("store", [locmem_backend.Client, None], ids=["here", "in a thread"])
def test_start_that_the_server_refuses_is_undone(
    store: type[locmem_backend.Client] | None, tmp_path: Path
) -> None:
    gator = Gator(f"sqlite://{tmp_path}/queue.db") if store is None else Gator("locmem://")
    exchange = Exchange()
    tasks: list[Any] = []

    def refuse(message: Any) -> None:
        raise RuntimeError("Illegal header name")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(gator.task(add, 1, 2))
        exchange.on_send = refuse
        with pytest.raises(RuntimeError, match="Illegal"):
            await send(START)
        exchange.on_send = lambda message: None
        await send({**START, "status": 500})  # the error page of the application
        await send(BODY)

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert [exchange.sent[0]["status"], gator.len(), tasks[0].status] == [500, 0, CANCELED]
    gator.client.close()


@pytest.mark.parametrize("commit_at", ["start", "end"])
def test_application_that_returns_without_a_response_queues_nothing(
    gator: Gator, commit_at: Any, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = Exchange()

    asyncio.run(exchange.run(AlligatorMiddleware(sending(gator), gator, commit_at=commit_at)))

    assert exchange.sent == []
    assert gator.len() == 0
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("discarded 1 task (")
    assert line.endswith(") of a request that ended without a response")


def test_closed_coroutine_queues_nothing(gator: Gator) -> None:
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


def test_client_that_disconnected_does_not_undo_the_declared_commit(gator: Gator) -> None:
    exchange = Exchange()

    def gone(message: Any) -> None:
        raise OSError("the client has gone")

    exchange.on_send = gone

    with pytest.raises(OSError, match="gone"):
        asyncio.run(exchange.run(AlligatorMiddleware(sending(gator, START, BODY), gator)))

    assert gator.len() == 1


def test_event_loop_runs_while_the_store_is_slow() -> None:
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


def test_messages_sent_during_the_commit_wait_for_it() -> None:
    gator = Gator("locmem://", backend_class=Slow)
    store: Any = gator.backend
    exchange = Exchange()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def ping() -> None:
            await asyncio.to_thread(store.asked.wait)
            asyncio.get_running_loop().call_later(0.01, store.go_on.set)
            await send({**MORE, "body": b"ping"})

        gator.task(add, 1, 2)
        await asyncio.gather(send(START), ping())
        await send(BODY)

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert exchange.types == ["start", "body", "body"]
    assert [message["body"] for message in exchange.sent[1:]] == [b"ping", b"two"]


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


def test_response_is_replaced_and_its_remaining_messages_dropped() -> None:
    gator = Gator("locmem://", backend_class=Away)
    exchange = Exchange()
    rest = [MORE, MORE, BODY, {"type": "http.response.trailers", "headers": []}]

    asyncio.run(exchange.run(AlligatorMiddleware(sending(gator, START, *rest), gator)))

    assert exchange.types == ["start", "body"]
    assert exchange.sent[0]["status"] == 503
    assert (b"retry-after", b"5") in exchange.sent[0]["headers"]
    assert all(name == name.lower() for name, _ in exchange.sent[0]["headers"])


def test_head_request_gets_the_503_without_a_body() -> None:
    gator = Gator("locmem://", backend_class=Away)
    exchange = Exchange(method="HEAD")

    asyncio.run(exchange.run(AlligatorMiddleware(sending(gator, START, BODY), gator)))

    assert exchange.sent[0]["status"] == 503
    assert exchange.sent[1]["body"] == b""


@pytest.mark.parametrize("version", ["2.0", "2.3", "2.4"])
def test_application_is_informed_that_its_response_was_replaced(version: str) -> None:
    gator = Gator("locmem://", backend_class=Away)
    exchange = Exchange(asgi={"version": "3.0", "spec_version": version})
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        for message in (START, BODY):
            try:
                await send(message)
            except OSError as error:
                seen.append((type(error), exchange.types))
        while True:
            await send(MORE)

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert seen == [(ResponseReplaced, ["start", "body"])] * 2
    assert exchange.sent[0]["status"] == 503


def test_error_of_the_informed_application_is_logged_and_not_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gator = Gator("locmem://", backend_class=Away)
    exchange = Exchange()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await sending(gator, START)(scope, receive, send)
        except OSError:
            raise LookupError("there is no session to roll back") from None

    asyncio.run(exchange.run(AlligatorMiddleware(app, gator)))

    assert exchange.types == ["start", "body"]
    assert "no session to roll back" in caplog.text


@pytest.mark.parametrize("together", [True, False], ids=["group", "alone"])
def test_another_failure_of_a_replaced_application_reaches_the_server(together: bool) -> None:
    gator = Gator("locmem://", backend_class=Away)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await sending(gator, START)(scope, receive, send)
        except OSError as error:
            original = error
        if together:
            raise ExceptionGroup("both", [original, LookupError()])
        raise LookupError

    with pytest.raises((LookupError, ExceptionGroup)):
        asyncio.run(Exchange().run(AlligatorMiddleware(app, gator)))


def test_always_tasks_that_cannot_be_queued_at_the_end_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gator = Gator("locmem://", backend_class=Away)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with gator.options(always=True) as opts:
            opts.task(add, 1, 2)

    asyncio.run(Exchange().run(AlligatorMiddleware(app, gator)))

    assert "always=True" in caplog.text


# Tasks that come late, and tasks of several requests at once.


def test_code_that_outlives_the_request_queues_at_once(gator: Gator) -> None:
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


def test_inner_middleware_is_found_through_a_copy_of_the_scope(gator: Gator) -> None:
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


def test_application_may_send_in_a_task_of_its_own() -> None:
    gator = Gator("locmem://")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gator.task(add, 1, 2)
        await asyncio.create_task(send(START))
        await asyncio.create_task(send(BODY))

    async def idle(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.create_task(send(START))
        await asyncio.create_task(send(BODY))

    for each, number in ((app, 1), (idle, 1)):
        exchange = Exchange()
        asyncio.run(exchange.run(AlligatorMiddleware(each, gator)))
        assert exchange.sent == [START, BODY]
        assert gator.len() == number
