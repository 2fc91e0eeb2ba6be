"""What fails after a WSGI application has declared its status, and before a byte has left."""

import io
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import flask
import pytest

from alligator import CANCELED, Gator, Task
from flask_alligator import Alligator
from tests.harness.programs import eventually
from tests.harness.sample_tasks import add
from tests.integrations.wsgi_alligator.test_middleware import Body
from wsgi_alligator import AlligatorMiddleware, first_chunks

TEXT = [("Content-Type", "text/plain")]


class Server:
    """A server that records its calls, and rejects responses as the test says."""

    def __init__(self, *, refuses: str = "") -> None:
        self.refuses = refuses
        self.seen: list[Any] = []

    def start_response(
        self, status: str, headers: Any, exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if self.refuses == "head":
            raise ValueError("this server does not send that")
        self.seen.append(status)
        return self.write

    def write(self, data: bytes) -> None:
        if self.refuses == "write":
            raise ValueError("this server does not send that")
        self.seen.append(data)

    def run(self, app: WSGIApplication, **more: Any) -> bytes:
        """Answer one request, and close the body as PEP 3333 says."""
        environ: WSGIEnvironment = {"QUERY_STRING": "", **more}
        setup_testing_defaults(environ)
        body = app(environ, self.start_response)
        try:
            return b"".join(body)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()


def failing() -> Iterator[bytes]:
    raise RuntimeError("the query fails at its first row")
    yield b""


def failing_after_nothing() -> Iterator[bytes]:
    yield b""
    yield b""
    raise RuntimeError("the query fails at its first row")


def answering(
    gator: Gator, body: Iterable[bytes], status: str = "200 OK", headers: Any = TEXT
) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        start_response(status, list(headers))
        return body

    return app


# The first chunk.


@pytest.mark.parametrize("commit_at", ["start", "end"])
@pytest.mark.parametrize("make", [failing, failing_after_nothing])
def test_body_that_fails_on_its_first_chunk_queues_nothing(
    gator: Gator, make: Callable[[], Iterator[bytes]], commit_at: Any
) -> None:
    body = Body(make())
    server = Server()

    with pytest.raises(RuntimeError, match="first row"):
        server.run(AlligatorMiddleware(answering(gator, body), gator, commit_at=commit_at))

    assert gator.len() == 0
    assert body.closed == 1


def test_body_that_cannot_be_iterated_queues_nothing(gator: Gator) -> None:
    class Broken(Body):
        def __iter__(self) -> Iterator[bytes]:
            raise RuntimeError("the cursor is closed")

    body = Broken([])

    with pytest.raises(RuntimeError, match="the cursor"):
        Server().run(AlligatorMiddleware(answering(gator, body), gator))

    assert gator.len() == 0
    assert body.closed == 1


def test_body_that_fails_later_leaves_its_tasks_queued(gator: Gator) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"one"
        raise RuntimeError("the query fails at its second row")

    body = Body(chunks())

    with pytest.raises(RuntimeError, match="second row"):
        Server().run(AlligatorMiddleware(answering(gator, body), gator))

    assert gator.len() == 1
    assert body.closed == 1


def test_tasks_of_the_first_chunk_are_held_like_those_of_the_view(gator: Gator) -> None:
    depths: list[int] = []

    def chunks() -> Iterator[bytes]:
        gator.task(add, 3, 4)
        depths.append(gator.len())
        yield b"one"
        depths.append(gator.len())

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT])
        return chunks()

    assert Server().run(AlligatorMiddleware(app, gator)) == b"one"
    assert depths == [0, 1]


def test_status_still_decides_when_the_first_chunk_is_available(gator: Gator) -> None:
    app = AlligatorMiddleware(answering(gator, Body([b"no"]), "404 Not Found"), gator)

    assert Server().run(app) == b"no"
    assert gator.len() == 0


def test_every_chunk_is_delivered_once(gator: Gator) -> None:
    body = Body([b"", b"one ", b"", b"two"])
    app = validator(AlligatorMiddleware(validator(answering(gator, body)), gator))

    assert Server().run(app, REQUEST_METHOD="POST") == b"one two"
    assert body.closed == 1


def test_list_or_file_body_is_passed_on_unchanged(gator: Gator) -> None:
    class OwnWrapper(FileWrapper):
        pass

    environ: WSGIEnvironment = {"wsgi.file_wrapper": OwnWrapper}
    setup_testing_defaults(environ)
    bodies: list[Any] = [[b"x"], (b"x",), OwnWrapper(io.BytesIO(b"x")), io.BytesIO(b"x")]

    for body in bodies:
        app = AlligatorMiddleware(answering(gator, body), gator)
        assert app(dict(environ), Server().start_response) is body

    assert gator.len() == len(bodies)


def test_flask_answers_500_and_queues_nothing() -> None:
    app = flask.Flask("shop")
    app.config["ALLIGATOR_CONN"] = "locmem://"
    alligator = Alligator(app)

    @app.get("/rows")
    def rows() -> flask.Response:
        alligator.task(add, 1, 2)
        return flask.Response(flask.stream_with_context(failing()), 201)

    with pytest.raises(RuntimeError, match="first row"):
        app.test_client().get("/rows")

    assert app.extensions["alligator"].len() == 0


# Heads that no server can send.


@pytest.mark.parametrize("commit_at", ["start", "end"])
@pytest.mark.parametrize(
    "header",
    [
        ("X-File", "日本.pdf"),
        ("X-File", "r\u2026.pdf"),
        ("X-File", "a\r\nSet-Cookie: b"),
        ("X-File", "a\n"),
        ("X-File", "a\x00b"),
        ("X-File", "a\x7f"),
        ("X File", "a"),
        ("X-Fil\u00e9", "a"),
        ("", "a"),
        ("X:", "a"),
        ("X-Count", 1),
        (b"X-File", b"a"),
        ("X-File",),
    ],
    ids=ascii,
)
def test_header_that_no_server_can_send_queues_nothing(
    gator: Gator, header: Any, commit_at: Any, caplog: pytest.LogCaptureFixture
) -> None:
    body = Body([b"ok"])
    server = Server()
    app = answering(gator, body, headers=[*TEXT, header])

    with pytest.raises(ValueError, match="no server can send"):
        server.run(AlligatorMiddleware(app, gator, commit_at=commit_at))

    assert gator.len() == 0
    assert server.seen == []
    assert "1 task" in caplog.text
    assert body.closed == (1 if commit_at == "start" else 0)  # the application never returned it


@pytest.mark.parametrize("commit_at", ["start", "end"])
@pytest.mark.parametrize(
    "status", ["OK", "", "20 OK", "2000 OK", "200\r\nOK", "200 \u2713", "200OK", 200, None]
)
def test_status_that_no_server_can_send_queues_nothing(
    gator: Gator, status: Any, commit_at: Any
) -> None:
    server = Server()

    with pytest.raises(ValueError, match="no server can send"):
        server.run(AlligatorMiddleware(answering(gator, [], status), gator, commit_at=commit_at))

    assert gator.len() == 0
    assert server.seen == []


@pytest.mark.parametrize(
    "header",
    [
        ("X-File", "caf\u00e9"),
        ("X-Tab", "a\tb"),
        ("x_weird!#$%&'*+.^`|~", ""),
        ("Connection", "keep-alive"),  # some servers send or drop it: they decide
    ],
    ids=ascii,
)
@pytest.mark.parametrize("status", ["200 OK", "200", "299 D\u00e9j\u00e0 vu"], ids=ascii)
def test_header_that_some_server_can_send_is_left_to_the_server(
    gator: Gator, header: Any, status: str
) -> None:
    server = Server()

    server.run(AlligatorMiddleware(answering(gator, [], status, [header]), gator))

    assert gator.len() == 1
    assert server.seen == [status]


def test_response_without_tasks_is_left_to_the_server(gator: Gator) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("odd", [("X File", "a\n")])
        return []

    server = Server()
    server.run(AlligatorMiddleware(app, gator))

    assert server.seen == ["odd"]


# What the server refuses.


@pytest.mark.parametrize("lazy", [False, True], ids=["list", "lazy"])
def test_response_that_the_server_refuses_is_undone(gator: Gator, lazy: bool) -> None:
    kept: list[Task] = []
    body = Body([b"ok"])

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        kept.append(gator.task(add, 1, 2))
        start_response("200 OK", [*TEXT])
        return body if lazy else [b"ok"]

    with pytest.raises(ValueError, match="does not send"):
        Server(refuses="head").run(AlligatorMiddleware(app, gator))

    assert gator.len() == 0
    assert kept[0].status == CANCELED
    assert body.closed == int(lazy)


def test_all_gators_of_a_response_that_the_server_refuses_are_undone(gator: Gator) -> None:
    other = Gator("locmem://")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        other.task(add, 1, 2)
        start_response("200 OK", [*TEXT])
        return []

    with pytest.raises(ValueError, match="does not send"):
        Server(refuses="head").run(AlligatorMiddleware(app, [gator, other]))

    assert (gator.len(), other.len()) == (0, 0)


@pytest.mark.parametrize("refuses", ["head", "write"])
def test_first_write_that_the_server_refuses_is_undone(gator: Gator, refuses: str) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        start_response("200 OK", [*TEXT])(b"one")
        return []

    with pytest.raises(ValueError, match="does not send"):
        Server(refuses=refuses).run(AlligatorMiddleware(app, gator))

    assert gator.len() == 0


def test_later_write_that_fails_leaves_the_tasks_queued(gator: Gator) -> None:
    server = Server()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        write = start_response("200 OK", [*TEXT])
        write(b"one")
        server.refuses = "write"
        write(b"two")
        return []

    with pytest.raises(ValueError, match="does not send"):
        server.run(AlligatorMiddleware(app, gator))

    assert gator.len() == 1


# exc_info.


@pytest.mark.parametrize("commit_at", ["start", "end"])
@pytest.mark.parametrize("when", ["in the application", "in the first chunk", "at once"])
@pytest.mark.parametrize("veto", [None, lambda status, headers: False], ids=["none", "false"])
def test_error_that_the_application_reports_queues_nothing(
    gator: Gator, when: str, veto: Any, commit_at: Any
) -> None:
    def report(start_response: StartResponse) -> None:
        try:
            raise RuntimeError("the template fails")
        except RuntimeError:
            start_response("500 Internal Server Error", [*TEXT], sys.exc_info())

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        if when != "at once":
            start_response("200 OK", [*TEXT])
        if when == "in the first chunk":
            return chunks(start_response)
        report(start_response)
        return [b"sorry"]

    def chunks(start_response: StartResponse) -> Iterator[bytes]:
        report(start_response)
        yield b"sorry"

    server = Server()
    middleware = AlligatorMiddleware(app, gator, commit_veto=veto, commit_at=commit_at)

    assert server.run(middleware) == b"sorry"
    assert server.seen[-1] == "500 Internal Server Error"
    assert gator.len() == 0


# What an exception discards is logged.


@pytest.mark.parametrize("number", [1, 3])
def test_tasks_discarded_by_an_exception_are_logged_with_their_number(
    gator: Gator, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for _ in range(number):
            gator.task(add, 1, 2)
        with gator.options(always=True) as opts:
            opts.task(add, 3, 4)
        raise StopIteration

    with pytest.raises(StopIteration):
        Server().run(AlligatorMiddleware(app, gator))

    [line] = [each.getMessage() for each in caplog.records if "discarded" in each.getMessage()]
    assert f"discarded {number} task" in line
    assert "StopIteration" in line
    assert gator.len() == 1


# A first chunk that does not come.


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_chunks, "SLOW_SECONDS", 0.05)
    monkeypatch.setattr(first_chunks, "CHECK_SECONDS", 0.01)


class Pending:
    """A response that has no tasks yet."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def describe(self) -> str:
        return "GET /"

    def count(self) -> int:
        self.asked.set()
        return 0


@pytest.mark.usefixtures("short")
def test_monitor_forgets_a_response_that_ended_and_wakes_for_the_next() -> None:
    monitor = first_chunks.FirstChunkMonitor()

    def is_forgotten() -> bool:
        return ended() is None and monitor._sleeps

    for _ in range(3):
        response = Pending()
        monitor.begin(response)
        assert response.asked.wait(60)
        monitor.end(response)
        ended = weakref.ref(response)
        del response
        eventually(is_forgotten)


@pytest.mark.usefixtures("short")
def test_first_chunk_that_waits_for_its_own_task_is_named(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    app = flask.Flask("shop")
    app.config["ALLIGATOR_CONN"] = "locmem://"
    alligator = Alligator(app)
    go_on = threading.Event()

    @app.get("/progress/<name>")
    def progress(name: str) -> Any:
        alligator.task(add, 1, 2)

        def chunks() -> Iterator[bytes]:
            assert go_on.wait(60)
            yield b"done"

        return flask.Response(chunks())

    def get() -> None:
        answers.append(app.test_client().get("/progress/%0Aevil").data)

    answers: list[bytes] = []
    thread = threading.Thread(target=get)
    thread.start()
    try:
        eventually(lambda: "first chunk" in caplog.text)
    finally:
        go_on.set()
        thread.join()

    [line] = [each.getMessage() for each in caplog.records if "first chunk" in each.getMessage()]
    assert "GET /progress/" in line
    assert "'progress'" in line
    assert "1 task" in line
    assert "immediate=True" in line
    assert line.isprintable()
    assert answers == [b"done"]


@pytest.mark.usefixtures("short")
def test_slow_first_chunk_without_tasks_is_not_named(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    looked = threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT])
        return chunks(environ["PATH_INFO"])

    def chunks(path: str) -> Iterator[bytes]:
        if path == "/with":
            gator.task(add, 1, 2)
        assert looked.wait(60)
        yield b"done"

    middleware = AlligatorMiddleware(app, gator)
    threads = [
        threading.Thread(target=Server().run, args=[middleware], kwargs={"PATH_INFO": path})
        for path in ("/without", "/with")
    ]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: "/with:" in caplog.text)
    finally:
        looked.set()
        for thread in threads:
            thread.join()

    assert "/without" not in caplog.text


# WebSockets.

UPGRADE = {"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "Upgrade"}


def test_websocket_has_no_transaction(gator: Gator) -> None:
    depths: list[int] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert "alligator.transaction" not in environ
        for _ in range(1_001):
            gator.task(add, 1, 2)
        depths.append(gator.len())
        raise StopIteration  # as flask-sock ends it under gunicorn's threads

    with pytest.raises(StopIteration):
        Server().run(AlligatorMiddleware(app, gator), **UPGRADE)

    assert depths == [1_001]
    assert gator.len() == 1_001


@pytest.mark.parametrize(
    "environ",
    [
        {**UPGRADE, "REQUEST_METHOD": "POST"},
        {"HTTP_UPGRADE": "h2c", "HTTP_CONNECTION": "Upgrade, HTTP2-Settings"},
        {"HTTP_CONNECTION": "Upgrade"},
    ],
    ids=["POST", "h2c", "Connection alone"],
)
def test_no_other_header_of_a_client_ends_the_promise(
    gator: Gator, environ: dict[str, str]
) -> None:
    app = AlligatorMiddleware(answering(gator, [], "422 Unprocessable Content"), gator)

    Server().run(app, **environ)

    assert gator.len() == 0
