"""What Django adds to the common table: its exceptions, its two kinds of views, its streams."""

import asyncio
import io
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    StreamingHttpResponse,
)
from django.test import override_settings

from alligator import Gator, Task
from alligator.backends import locmem_backend
from alligator.exceptions import BackendUnavailable, ConfigurationError
from django_alligator import Middleware
from django_alligator import gator as settings_gator
from tests.harness import django_project
from tests.harness.sample_tasks import add
from wsgi_alligator import AlligatorMiddleware

BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


class Away(locmem_backend.Client):
    """A store that cannot be reached for a push."""

    def push_many(self, *given: Any, **named: Any) -> None:
        raise BackendUnavailable("the store did not answer")


def client(respond: Any, *layers: Any, **settings: Any) -> Any:
    return django_project.make_client(respond, *layers, **settings)


class Plain:
    """A middleware as most are: it has no event loop."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)


class Handling(Plain):
    """A middleware that makes a response of each exception."""

    def process_exception(self, request: Any, exception: Exception) -> Any:
        return request.handled


class Failing(Plain):
    """A middleware that fails after the view."""

    def __call__(self, request: Any) -> Any:
        self.get_response(request)
        raise RuntimeError("the middleware fails")


# Exceptions, which Django turns into responses.


@BOTH
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Http404("no such order"), 404),
        (PermissionDenied(), 403),
        (BadRequest("what?"), 400),
        (SuspiciousOperation("forged"), 400),
        (RuntimeError("the view fails"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exception_of_a_view_discards_its_tasks(
    gator: Gator, is_async: bool, error: Exception, status: int
) -> None:
    def respond(request: Any) -> HttpResponse:
        gator.task(add, 1, 2)
        raise error

    answer = client(respond, {"gator": gator}, is_async=is_async)()

    assert (answer.status, gator.len()) == (status, 0)


@BOTH
def test_exception_is_named_with_the_discarded_tasks(
    gator: Gator, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kept: list[Task] = []

    def respond(request: Any) -> HttpResponse:
        kept.append(gator.task(add, 1, 2))
        raise RuntimeError("the view fails")

    client(respond, {"gator": gator}, is_async=is_async)()

    [line] = [each.getMessage() for each in caplog.records if each.name == "alligator"]
    assert line == f"discarded 1 task ({kept[0].task_id}) of a request that ended with RuntimeError"


@BOTH
@pytest.mark.parametrize(("status", "depth"), [(200, 1), (409, 0)])
def test_exception_that_a_middleware_handles_counts_by_its_response(
    gator: Gator, is_async: bool, status: int, depth: int
) -> None:
    def respond(request: Any) -> HttpResponse:
        gator.task(add, 1, 2)
        request.handled = HttpResponse(status=status)
        raise RuntimeError("the view fails")

    answer = client(respond, Handling, {"gator": gator}, is_async=is_async)()

    assert (answer.status, gator.len()) == (status, depth)


@BOTH
def test_exception_of_an_inner_middleware_discards_the_tasks(gator: Gator, is_async: bool) -> None:
    def respond(request: Any) -> HttpResponse:
        gator.task(add, 1, 2)
        return HttpResponse()

    answer = client(respond, Failing, {"gator": gator}, is_async=is_async)()

    assert (answer.status, gator.len()) == (500, 0)


@BOTH
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_base_exception_discards_the_tasks_and_leaves_django(
    gator: Gator, is_async: bool, kind: type[BaseException]
) -> None:
    kept: list[Task] = []

    def respond(request: Any) -> HttpResponse:
        kept.append(gator.task(add, 1, 2))
        raise kind

    with pytest.raises(kind):
        client(respond, {"gator": gator}, is_async=is_async)()

    assert gator.len() == 0
    assert gator.current is None


@BOTH
def test_exception_of_the_options_is_a_500_of_django(
    gator: Gator, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def options(request: HttpRequest) -> dict[str, Any]:
        raise ValueError("no tenant")

    def respond(request: Any) -> HttpResponse:
        raise AssertionError("the view is not called")

    answer = client(respond, {"gator": gator, "options": options}, is_async=is_async)()

    assert answer.status == 500
    assert "no tenant" in caplog.text


# Two kinds of views, of middlewares and of servers.


@pytest.mark.parametrize("view", ["plain", "coroutine"])
@BOTH
def test_view_of_the_other_kind_has_the_transaction(
    gator: Gator, is_async: bool, view: str
) -> None:
    def respond(request: Any) -> HttpResponse:
        gator.task(add, 1, 2)
        assert gator.current is request.alligator
        return HttpResponse(str(gator.len()))

    get = client(respond, {"gator": gator}, is_async=is_async, is_async_view=view == "coroutine")

    assert get().body == b"0"
    assert gator.len() == 1
    assert gator.current is None


@BOTH
def test_middleware_changes_no_thread(gator: Gator, is_async: bool) -> None:
    threads: list[int] = []

    def respond(request: Any) -> HttpResponse:
        threads.append(threading.get_ident())
        return HttpResponse()

    client(respond, {"gator": gator}, is_async=is_async)()

    assert threads == [threading.get_ident()]


def test_sync_middleware_inside_makes_the_chain_sync_under_an_event_loop(gator: Gator) -> None:
    def respond(request: Any) -> HttpResponse:
        gator.task(add, 1, 2)
        return HttpResponse(str(gator.len()))

    get = client(respond, Plain, {"gator": gator}, is_async=True)

    assert get().body == b"0"
    assert gator.len() == 1


def test_cancelled_request_queues_nothing(gator: Gator) -> None:
    started = asyncio.Event()

    async def respond(request: HttpRequest) -> HttpResponse:
        gator.task(add, 1, 2)
        started.set()
        await asyncio.sleep(600)
        return HttpResponse()

    async def get_response(request: HttpRequest) -> HttpResponse:
        return await respond(request)

    async def main() -> None:
        request = HttpRequest()
        running = asyncio.ensure_future(Middleware(get_response, gator)(request))  # type: ignore[arg-type]  # awaitable
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())

    assert gator.len() == 0


def test_transaction_of_a_wsgi_adapter_around_django_is_the_only_one(gator: Gator) -> None:
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        request = WSGIRequest(environ)
        seen.append(environ["alligator.transaction"])
        Middleware(lambda request: respond(request), gator)(request)
        start_response("200 OK", [])
        return [b""]

    def respond(request: HttpRequest) -> HttpResponse:
        gator.task(add, 1, 2)
        return HttpResponse(status=404)

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    AlligatorMiddleware(app, gator)(environ, lambda *given: lambda data: None)

    assert len(seen[0].tasks) == 0
    assert gator.len() == 1  # the outer one decides


# The head of a response.


@BOTH
@pytest.mark.parametrize(("headers", "reason"), [({"X File": "a.pdf"}, None), ({}, "two\r\nlines")])
def test_head_that_no_server_can_send_queues_nothing(
    gator: Gator, is_async: bool, headers: dict[str, str], reason: str | None
) -> None:
    def respond(request: Any) -> HttpResponse:
        gator.task(add, 1, 2)
        return HttpResponse(headers=headers, reason=reason)

    answer = client(respond, {"gator": gator}, is_async=is_async)()

    assert (answer.status, gator.len()) == (500, 0)


@BOTH
def test_veto_sees_the_cookies(gator: Gator, is_async: bool) -> None:
    seen: list[str] = []

    def veto(status: int, headers: Any) -> bool:
        seen.extend(value for name, value in headers if name == "set-cookie")
        return False

    def respond(request: Any) -> HttpResponse:
        gator.task(add, 1, 2)
        response = HttpResponse()
        response.set_cookie("basket", "42")
        return response

    client(respond, {"gator": gator, "commit_veto": veto}, is_async=is_async)()

    assert [each.partition(";")[0] for each in seen] == ["basket=42"]


@BOTH
def test_request_id_goes_with_the_tasks(gator: Gator, is_async: bool) -> None:
    kept: list[Task] = []

    def respond(request: Any) -> HttpResponse:
        kept.append(gator.task(add, 1, 2))
        return HttpResponse()

    client(respond, {"gator": gator}, is_async=is_async)(headers={"X-Request-ID": "r-42"})

    assert kept[0].headers["request_id"] == "r-42"


# Streams.


def failing() -> Iterator[bytes]:
    raise RuntimeError("the query fails at its first row")
    yield b""


@pytest.mark.parametrize("commit_at", ["start", "end"])
def test_stream_that_fails_at_its_first_chunk_queues_nothing(gator: Gator, commit_at: str) -> None:
    def respond(request: Any) -> StreamingHttpResponse:
        gator.task(add, 1, 2)
        return StreamingHttpResponse(failing())

    answer = client(respond, {"gator": gator, "commit_at": commit_at})()

    assert (answer.status, gator.len()) == (500, 0)


def test_first_chunk_is_made_inside_the_transaction(gator: Gator) -> None:
    seen: list[int] = []

    def chunks() -> Iterator[bytes]:
        gator.task(add, 1, 2)
        seen.append(gator.len())
        yield b""
        yield b"one "
        seen.append(gator.len())
        yield b"two"

    answer = client(lambda request: StreamingHttpResponse(chunks()), {"gator": gator})()

    assert answer.body == b"one two"
    assert seen == [0, 1]


def test_async_stream_begins_after_the_commit(gator: Gator) -> None:
    seen: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        seen.append(gator.len())
        yield b"one"

    def respond(request: Any) -> StreamingHttpResponse:
        gator.task(add, 1, 2)
        return StreamingHttpResponse(chunks())

    answer = client(respond, {"gator": gator}, is_async=True)()

    assert answer.body == b"one"
    assert seen == [1]


@pytest.mark.parametrize("commit_at", ["start", "end"])
def test_file_stays_one_that_a_server_can_send_itself(gator: Gator, commit_at: Any) -> None:
    file = io.BytesIO(b"pdf")

    def get_response(request: HttpRequest) -> FileResponse:
        gator.task(add, 1, 2)
        return FileResponse(file, filename="a.pdf")

    response = Middleware(get_response, gator, commit_at=commit_at)(HttpRequest())

    assert isinstance(response, FileResponse)
    assert response.file_to_stream is file
    assert gator.len() == (commit_at == "start")
    response.close()
    assert file.closed
    assert gator.len() == 1


@BOTH
def test_file_of_a_replaced_response_is_closed(is_async: bool) -> None:
    gator = Gator("locmem://", backend_class=Away)
    file = io.BytesIO(b"pdf")

    def respond(request: Any) -> FileResponse:
        gator.task(add, 1, 2)
        return FileResponse(file)

    answer = client(respond, {"gator": gator}, is_async=is_async)()

    assert answer.status == 503
    assert file.closed


def test_replacement_of_a_head_request_has_no_body() -> None:
    gator = Gator("locmem://", backend_class=Away)

    def respond(request: Any) -> HttpResponse:
        gator.task(add, 1, 2)
        return HttpResponse()

    answer = client(respond, {"gator": gator})(method="HEAD")

    assert (answer.status, answer.body) == (503, b"")


def test_slow_first_chunk_is_reported_with_its_view(
    gator: Gator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wsgi_alligator.first_chunks.SLOW_SECONDS", 0.0)
    monkeypatch.setattr("wsgi_alligator.first_chunks.CHECK_SECONDS", 0.01)
    warned = threading.Event()

    def warn(*given: Any) -> None:
        logging.getLogger("alligator").log(logging.WARNING, *given)
        warned.set()

    monkeypatch.setattr("wsgi_alligator.first_chunks.log.warning", warn)

    def chunks() -> Iterator[bytes]:
        gator.task(add, 1, 2)
        assert warned.wait(60)
        yield b"one"

    client(lambda request: StreamingHttpResponse(chunks()), {"gator": gator})("/export")

    assert "GET /export ('tests.harness.django_project.page'): the response" in caplog.text


# Settings.


def never(status: int, headers: Any) -> bool:
    return True


def test_middleware_takes_its_arguments_from_the_settings() -> None:
    given = {
        "CONN": "locmem://",
        "OPTIONS": {"retries": 3},
        "COMMIT_AT": "end",
        "COMMIT_VETO": f"{__name__}.never",
        "IDEMPOTENCY_KEY": True,
    }
    with override_settings(ALLIGATOR=given):
        middleware = Middleware(lambda request: HttpResponse())

    assert middleware.gators == (settings_gator,)
    assert middleware.commit_at == "end"
    assert middleware.commit_veto is never


def test_veto_that_cannot_be_imported_is_refused_at_the_start() -> None:
    with (
        override_settings(ALLIGATOR={"CONN": "locmem://", "COMMIT_VETO": "shop.nothing"}),
        pytest.raises(ConfigurationError, match=r"COMMIT_VETO .* 'shop.nothing', which cannot be"),
    ):
        Middleware(lambda request: HttpResponse())


# Tasks that run in the process of a request.


@pytest.fixture
def inline() -> Iterator[Gator]:
    with override_settings(ALLIGATOR={"CONN": "locmem://", "ASYNC": False}):
        yield settings_gator


threads: list[int] = []


def note_thread() -> None:
    threads.append(threading.get_ident())


async def note_thread_of_queries() -> None:
    await sync_to_async(note_thread)()


@pytest.mark.parametrize("task", [note_thread, note_thread_of_queries])
@pytest.mark.parametrize("view", ["plain", "coroutine"])
@BOTH
def test_inline_task_queries_in_the_thread_of_its_request(
    inline: Gator, is_async: bool, view: str, task: Any
) -> None:
    threads.clear()

    def respond(request: Any) -> HttpResponse:
        inline.task(task)
        return HttpResponse()

    async def arespond(request: Any) -> HttpResponse:
        await sync_to_async(note_thread)()
        return respond(request)

    def prespond(request: Any) -> HttpResponse:
        note_thread()
        return respond(request)

    is_coroutine = view == "coroutine"
    get = client(
        arespond if is_coroutine else prespond,
        {"gator": inline},
        is_async=is_async,
        is_async_view=is_coroutine,
    )

    assert get().status == 200
    assert len(threads) == 2
    assert threads[0] == threads[1]


def test_inline_task_may_start_others_that_query(inline: Gator) -> None:
    threads.clear()

    def respond(request: Any) -> HttpResponse:
        inline.task(start_more)
        return HttpResponse()

    assert client(respond, {"gator": inline}, is_async=True)().status == 200
    assert len(threads) == 3
    assert len(set(threads)) == 1


def start_more() -> None:
    note_thread()
    with settings_gator.options(is_async=False) as at_once:
        at_once.task(note_thread_of_queries)
    settings_gator.task(note_thread)


@BOTH
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_websocket_over_wsgi_has_no_transaction(gator: Gator, is_async: bool, method: str) -> None:
    depths: list[int] = []

    def respond(request: Any) -> HttpResponse:
        gator.task(add, 1, 2)
        depths.append(gator.len())
        return HttpResponse(status=400)

    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    client(respond, {"gator": gator}, is_async=is_async)(method=method, headers=upgrade)

    # An ASGI server gives a handshake to Django only as an ordinary request.
    depth = int(method == "GET" and not is_async)
    assert (depths, gator.len()) == ([depth], depth)
