"""The middleware of WSGI, call by call, between what PEP 3333 asks of servers and of applications."""

import gc
import io
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import Message
from alligator.exceptions import BackendUnavailable
from tests.harness.sample_tasks import add
from wsgi_alligator import AlligatorMiddleware

TEXT = [("Content-Type", "text/plain")]


class Away(locmem_backend.Client):
    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        raise BackendUnavailable("the store is away")


class Body:
    """A body that counts how often it is closed."""

    def __init__(self, chunks: Iterable[bytes] = (b"one ", b"two")) -> None:
        self.chunks = chunks
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.chunks)

    def close(self) -> None:
        self.closed += 1


def serve(app: WSGIApplication, method: str = "GET") -> tuple[str, str]:
    """Answer one request as wsgiref's server does; return the response and what it logged."""
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": method,
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
    }
    setup_testing_defaults(environ)
    out, log = io.BytesIO(), io.StringIO()
    SimpleHandler(io.BytesIO(), out, log, environ, multithread=False).run(app)
    return out.getvalue().decode(), log.getvalue()


def begin(app: WSGIApplication, started: list[Any]) -> Iterable[bytes]:
    """Call *app* as a server does, and note what it starts its response with."""
    environ: WSGIEnvironment = {}
    setup_testing_defaults(environ)

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        started.append((status, headers, exc_info))
        return lambda data: started.append(data)

    return app(environ, start_response)


def answering(gator: Gator, body: Iterable[bytes], status: str = "200 OK") -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        start_response(status, [*TEXT])
        return body

    return app


# The body.


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_both_sides_keep_to_the_protocol(gator: Gator, method: str) -> None:
    app = validator(AlligatorMiddleware(validator(answering(gator, [b"fine"])), gator))

    response, log = serve(app, method)

    assert response.startswith("HTTP/1.0 200 OK")
    assert log == ""
    assert gator.len() == 1


def test_both_sides_keep_to_the_protocol_when_the_answer_is_replaced() -> None:
    gator = Gator("locmem://", backend_class=Away)
    app = validator(AlligatorMiddleware(validator(answering(gator, [b"fine"])), gator))

    response, log = serve(app)

    assert response.startswith("HTTP/1.0 503 Service Unavailable")
    assert log == ""


def test_body_is_returned_unchanged(gator: Gator) -> None:
    body = FileWrapper(io.BytesIO(b"a file"))

    returned = begin(AlligatorMiddleware(answering(gator, body), gator), [])

    assert returned is body


def test_tasks_are_queued_before_the_response_begins(gator: Gator) -> None:
    depths: list[int] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        depths.append(gator.len())

    environ: WSGIEnvironment = {}
    setup_testing_defaults(environ)
    AlligatorMiddleware(answering(gator, []), gator)(environ, start_response)

    assert depths == [1]


def test_file_that_is_not_sent_is_closed() -> None:
    gator = Gator("locmem://", backend_class=Away)
    file = io.BytesIO(b"a file")

    begin(AlligatorMiddleware(answering(gator, FileWrapper(file)), gator), [])

    assert file.closed


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_head_request_gets_the_503_without_a_body(method: str) -> None:
    gator = Gator("locmem://", backend_class=Away)
    environ: WSGIEnvironment = {"REQUEST_METHOD": method}
    setup_testing_defaults(environ)
    started: list[Any] = []

    body = AlligatorMiddleware(answering(gator, []), gator)(
        environ,
        lambda *given: started.append(given) or (lambda data: None),  # type: ignore[func-returns-value]  # None
    )

    assert int(dict(started[0][1])["Content-Length"]) > 0
    assert (b"".join(body) == b"") is (method == "HEAD")


# Lazy applications: nothing of a generator runs before its first chunk is asked for.


def lazy(gator: Gator, status: str, seen: list[str]) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        try:
            gator.task(add, 1, 2)
            start_response(status, [*TEXT])
            yield b"one "
            seen.append(f"depth {gator.len()}")
            yield b"two"
        finally:
            seen.append("closed")

    return app


@pytest.mark.parametrize(("status", "depth"), [("200 OK", 1), ("404 Not Found", 0)])
def test_generator_is_advanced_until_it_has_a_status(gator: Gator, status: str, depth: int) -> None:
    seen: list[str] = []
    app = validator(AlligatorMiddleware(validator(lazy(gator, status, seen)), gator))

    response, log = serve(app)

    assert response.endswith("one two")
    assert log == ""
    assert gator.len() == depth
    assert seen == [f"depth {depth}", "closed"]


def test_generator_that_is_not_read_to_its_end_is_closed(gator: Gator) -> None:
    seen: list[str] = []
    body: Any = begin(AlligatorMiddleware(lazy(gator, "200 OK", seen), gator), [])

    assert next(iter(body)) == b"one "
    body.close()

    assert seen == ["closed"]
    assert gator.len() == 1


def test_generator_whose_response_is_replaced_is_closed() -> None:
    gator = Gator("locmem://", backend_class=Away)
    seen: list[str] = []

    begin(AlligatorMiddleware(lazy(gator, "200 OK", seen), gator), [])

    assert seen == ["closed"]


def test_generator_without_any_chunk_commits(gator: Gator) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        gator.task(add, 1, 2)
        start_response("204 No Content", [])
        yield from ()

    started: list[Any] = []

    assert list(begin(AlligatorMiddleware(app, gator), started)) == []
    assert started[0][0] == "204 No Content"
    assert gator.len() == 1


def test_empty_chunks_before_the_status_are_waited_out(gator: Gator) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        yield b""
        gator.task(add, 1, 2)
        yield b""
        start_response("200 OK", [*TEXT])
        yield b"fine"

    assert b"".join(begin(AlligatorMiddleware(app, gator), [])) == b"fine"
    assert gator.len() == 1


@pytest.mark.parametrize("chunks", [[], [b"", b""], [b"too early"]])
def test_application_without_a_status_fails_and_queues_nothing(
    gator: Gator, chunks: list[bytes]
) -> None:
    body = Body(chunks)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        return body

    with pytest.raises(AssertionError, match="start_response"):
        begin(AlligatorMiddleware(app, gator), [])

    assert gator.len() == 0
    assert body.closed == 1


# Closing: exactly once on every path.


@pytest.mark.parametrize("commit_at", ["start", "end"])
@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
def test_body_is_closed_once(gator: Gator, commit_at: Any, status: str) -> None:
    body = Body()
    middleware = AlligatorMiddleware(answering(gator, body, status), gator, commit_at=commit_at)

    response, log = serve(validator(middleware))

    assert response.endswith("one two")
    assert log == ""
    assert body.closed == 1


def test_body_of_a_replaced_response_is_closed_once() -> None:
    gator = Gator("locmem://", backend_class=Away)
    body = Body()

    response, log = serve(validator(AlligatorMiddleware(answering(gator, body), gator)))

    assert response.startswith("HTTP/1.0 503")
    assert log == ""
    assert body.closed == 1


def test_body_is_closed_once_when_the_veto_fails(gator: Gator) -> None:
    body = Body()

    def veto(status: int, headers: object) -> bool:
        raise ValueError("the veto fails")

    with pytest.raises(ValueError, match="the veto fails"):
        begin(AlligatorMiddleware(answering(gator, body), gator, commit_veto=veto), [])

    assert body.closed == 1
    assert gator.len() == 0


def test_body_is_closed_once_when_a_task_fails_in_sync_mode(gator: Gator) -> None:
    body = Body()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(divmod, 1, 0)
        start_response("200 OK", [*TEXT])
        return body

    with pytest.raises(ZeroDivisionError):
        begin(AlligatorMiddleware(app, gator, is_async=False), [])

    assert body.closed == 1


def test_body_that_cannot_be_closed_does_not_hide_the_503(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gator = Gator("locmem://", backend_class=Away)

    class Stuck(Body):
        def close(self) -> None:
            raise OSError("the door is stuck")

    started: list[Any] = []
    begin(AlligatorMiddleware(answering(gator, Stuck()), gator), started)

    assert started[0][0] == "503 Service Unavailable"
    assert "the door is stuck" in caplog.text


# start_response, and what it returns.


def test_application_that_writes_commits_before_the_first_write(gator: Gator) -> None:
    seen: list[int] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        write = start_response("200 OK", [*TEXT])
        write(b"one ")
        seen.append(gator.len())
        gator.task(add, 1, 2)
        seen.append(gator.len())
        write(b"two ")
        return [b"three"]

    response, log = serve(validator(AlligatorMiddleware(validator(app), gator)))

    assert response.endswith("one two three")
    assert log == ""
    assert seen == [1, 2]


def test_application_that_writes_is_answered_503_in_time() -> None:
    gator = Gator("locmem://", backend_class=Away)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        write = start_response("200 OK", [*TEXT])
        write(b"one ")
        write(b"two ")
        return [b"three"]

    response, log = serve(validator(AlligatorMiddleware(validator(app), gator)))

    assert response.startswith("HTTP/1.0 503")
    assert response.endswith("}\n")
    assert "one" not in response.partition("\r\n\r\n")[2].split()
    assert log == ""


def test_application_can_replace_its_status_until_the_response_begins(gator: Gator) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        start_response("200 OK", [*TEXT])
        try:
            raise RuntimeError("the template fails")
        except RuntimeError:
            start_response("500 Internal Server Error", [*TEXT], sys.exc_info())
        return [b"sorry"]

    response, log = serve(validator(AlligatorMiddleware(validator(app), gator)))

    assert response.startswith("HTTP/1.0 500")
    assert response.endswith("sorry")
    assert log == ""
    assert gator.len() == 0


def test_application_cannot_start_twice_without_exc_info(gator: Gator) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        start_response("200 OK", [*TEXT])
        start_response("201 Created", [*TEXT])
        return []

    with pytest.raises(AssertionError, match="exc_info"):
        begin(AlligatorMiddleware(app, gator), [])

    assert gator.len() == 0


def failing_midway(gator: Gator) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        gator.task(add, 1, 2)
        start_response("200 OK", [*TEXT])
        yield b"one "
        try:
            raise RuntimeError("the stream breaks off")
        except RuntimeError:
            start_response("500 Internal Server Error", [*TEXT], sys.exc_info())
        yield b"never"

    return app


def test_error_after_the_response_has_begun_is_raised_by_the_server(gator: Gator) -> None:
    response, log = serve(AlligatorMiddleware(failing_midway(gator), gator))

    assert "one " in response
    assert "never" not in response
    assert "RuntimeError: the stream breaks off" in log


def test_error_after_a_written_503_is_raised() -> None:
    gator = Gator("locmem://", backend_class=Away)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gator.task(add, 1, 2)
        start_response("200 OK", [*TEXT])(b"one ")
        try:
            raise RuntimeError("the template fails")
        except RuntimeError:
            start_response("500 Internal Server Error", [*TEXT], sys.exc_info())
        return [b"never"]

    with pytest.raises(RuntimeError, match="the template fails"):
        begin(AlligatorMiddleware(app, gator), [])


# commit_at="end".


def test_client_that_disconnects_does_not_undo_a_commit_at_the_end(gator: Gator) -> None:
    source = Body()
    app = AlligatorMiddleware(answering(gator, source), gator, commit_at="end")
    body: Any = begin(app, [])
    next(iter(body))
    assert gator.len() == 0

    body.close()

    assert gator.len() == 1
    assert source.closed == 1


def test_body_that_cannot_be_closed_discards_at_the_end(gator: Gator) -> None:
    class Stuck(Body):
        def close(self) -> None:
            raise OSError("the transaction of the database fails")

    app = AlligatorMiddleware(answering(gator, Stuck()), gator, commit_at="end")
    body: Any = begin(app, [])

    with pytest.raises(OSError, match="database"):
        body.close()

    assert gator.len() == 0


def test_tasks_of_closing_the_body_belong_to_the_request_at_the_end(gator: Gator) -> None:
    class Late(Body):
        def close(self) -> None:
            gator.task(add, 3, 4)
            assert gator.len() == 0

    app = AlligatorMiddleware(answering(gator, Late()), gator, commit_at="end")
    body: Any = begin(app, [])
    body.close()

    assert gator.len() == 2


def test_between_two_chunks_nothing_is_bound(gator: Gator) -> None:
    app = AlligatorMiddleware(answering(gator, Body()), gator, commit_at="end")
    body: Any = begin(app, [])

    for _ in body:
        assert gator.current is None
        gator.task(add, 5, 6)  # the server's own
    body.close()

    assert gator.len() == 3


def test_body_can_be_read_and_closed_in_other_contexts(gator: Gator) -> None:
    app = AlligatorMiddleware(answering(gator, Body()), gator, commit_at="end")
    body: Any = copy_context().run(begin, app, [])

    chunks = [copy_context().run(next, body), copy_context().run(next, body)]
    copy_context().run(body.close)

    assert chunks == [b"one ", b"two"]
    assert gator.len() == 1


# The environ.


def test_environ_that_is_reused_is_a_new_request(gator: Gator) -> None:
    app = AlligatorMiddleware(answering(gator, []), gator)
    environ: WSGIEnvironment = {}
    setup_testing_defaults(environ)

    for _ in range(2):
        app(environ, lambda *given: lambda data: None)

    assert gator.len() == 2


def test_closed_response_leaves_nothing_to_the_garbage_collector() -> None:
    class Upload:
        """What an environ may hold."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"one "
        yield b"two"

    served = AlligatorMiddleware(app, Gator("locmem://"))
    environ: WSGIEnvironment = {"wsgi.input": Upload()}
    setup_testing_defaults(environ)
    upload = weakref.ref(environ["wsgi.input"])
    gc.disable()
    try:
        body: Any = served(environ, lambda *given: None)  # type: ignore[arg-type]
        assert b"".join(body) == b"one two"
        body.close()
        del environ, body

        assert upload() is None
    finally:
        gc.enable()
