"""The switch that lets tasks run in the process of the web application, through real clients.

Every test is held through each client that a project may test itself with: those that call the
application in the test's own thread or loop, and servers that run in another thread. The gator of
the applications points to a store that is not there.
"""

import asyncio
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from time import sleep
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, make_server

import flask
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from alligator import CANCELED, Gator, current_task
from alligator.testing import capture, sync
from asgi_alligator import AlligatorMiddleware as AsgiMiddleware
from wsgi_alligator import AlligatorMiddleware as WsgiMiddleware

NOWHERE = "redis://127.0.0.1:1/0"
"""A DSN on whose port no server listens."""

calls: list[object] = []


def note(value: object) -> None:
    calls.append(value)


async def note_later(value: object) -> None:
    await asyncio.sleep(0)
    calls.append(value)


def note_name(value: object) -> None:
    task = current_task()
    calls.append((value, task and task.name.rpartition(".")[2]))


def fail(reason: str) -> None:
    calls.append(reason)
    raise ValueError(reason)


def tell_success(task: object, result: object) -> None:
    calls.append("succeeded")


def work(gator: Gator, name: str) -> int:
    """Run the view of that name: it starts tasks, and returns a status or raises."""
    if name == "now":
        with gator.options(is_async=False) as opts:
            opts.task(note, "at once")
        calls.append("view")
        return 500
    with gator.options(on_success=tell_success) as opts:
        opts.task(note, (1, 2))
    gator.task(note_later, 2)
    if name == "failing":
        gator.task(fail, "the task fails")
        gator.task(note, "behind it")
    if name == "doomed":
        transaction = gator.current
        assert transaction is not None
        transaction.doom()
    calls.append("view")
    if name == "broken":
        raise RuntimeError("the view fails")
    return {"ok": 200, "moved": 303, "missing": 404, "conflict": 409, "error": 500}.get(name, 200)


class Client(NamedTuple):
    """A client of the application: `get` returns a status, or raises the exception of the app."""

    get: Callable[[str], int]
    raises: bool
    """Whether an exception in the application is one in the client too."""


def flask_app(gator: Gator, **settings: Any) -> flask.Flask:
    app = flask.Flask(__name__)

    @app.get("/<name>")
    def view(name: str) -> Any:
        return "done", work(gator, name)

    app.wsgi_app = WsgiMiddleware(app.wsgi_app, gator, **settings)  # type: ignore[method-assign]
    return app


def starlette_app(gator: Gator, **settings: Any) -> Any:
    async def view(request: Request) -> Response:
        return JSONResponse("done", work(gator, request.path_params["name"]))

    def view_in_a_thread(request: Request) -> Response:
        return JSONResponse("done", work(gator, request.path_params["name"]))

    app = Starlette(routes=[Route("/thread/{name}", view_in_a_thread), Route("/{name}", view)])
    return AsgiMiddleware(app, gator, **settings)


@contextmanager
def flask_test_client(gator: Gator, **settings: Any) -> Iterator[Client]:
    app = flask_app(gator, **settings)
    app.testing = True
    with app.test_client() as client:
        yield Client(lambda name: client.get(f"/{name}").status_code, True)


@contextmanager
def httpx_wsgi(gator: Gator, **settings: Any) -> Iterator[Client]:
    transport = httpx.WSGITransport(app=flask_app(gator, **settings).wsgi_app)
    with httpx.Client(transport=transport, base_url="http://app") as client:
        yield Client(lambda name: client.get(f"/{name}").status_code, True)


@contextmanager
def wsgiref_thread(gator: Gator, **settings: Any) -> Iterator[Client]:
    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def get_stderr(self) -> io.StringIO:
            return io.StringIO()

    app = flask_app(gator, **settings)
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
                yield Client(lambda name: client.get(f"/{name}").status_code, False)
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def starlette_test_client(gator: Gator, **settings: Any) -> Iterator[Client]:
    with TestClient(starlette_app(gator, **settings), follow_redirects=False) as client:
        yield Client(lambda name: client.get(f"/{name}").status_code, True)


@contextmanager
def starlette_threads(gator: Gator, **settings: Any) -> Iterator[Client]:
    with TestClient(starlette_app(gator, **settings), follow_redirects=False) as client:
        yield Client(lambda name: client.get(f"/thread/{name}").status_code, True)


@contextmanager
def httpx_asgi(gator: Gator, **settings: Any) -> Iterator[Client]:
    transport = httpx.ASGITransport(app=starlette_app(gator, **settings))

    async def get(name: str) -> int:
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            status: int = (await client.get(f"/{name}")).status_code
            return status

    yield Client(lambda name: asyncio.run(get(name)), True)


@contextmanager
def uvicorn_thread(gator: Gator, **settings: Any) -> Iterator[Client]:
    config = uvicorn.Config(
        starlette_app(gator, **settings), port=0, log_level="critical", ws="none", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield Client(lambda name: client.get(f"/{name}").status_code, False)
    finally:
        server.should_exit = True
        thread.join()


CLIENTS = [
    flask_test_client,
    httpx_wsgi,
    wsgiref_thread,
    starlette_test_client,
    starlette_threads,
    httpx_asgi,
    uvicorn_thread,
]

Connect = Callable[..., Client]
DONE = ["view", [1, 2], "succeeded", 2]
"""What is noted of a request that succeeded: its tasks after its view, and what came through JSON."""


@pytest.fixture(autouse=True)
def _clean() -> None:
    calls.clear()


@pytest.fixture(params=CLIENTS, ids=lambda client: client.__name__)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Make a client of an application with that gator."""
    with ExitStack() as stack:
        yield lambda gator, **settings: stack.enter_context(request.param(gator, **settings))


@pytest.fixture
def nowhere() -> Gator:
    return Gator(NOWHERE)


@pytest.mark.parametrize("name", ["ok", "moved"])
def test_tasks_have_run_when_the_client_has_its_answer(
    connect: Connect, nowhere: Gator, name: str
) -> None:
    client = connect(nowhere)

    with sync():
        status = client.get(name)

    assert status == {"ok": 200, "moved": 303}[name]
    assert calls == DONE


@pytest.mark.parametrize("name", ["missing", "conflict", "error", "doomed"])
def test_request_that_fails_runs_nothing(connect: Connect, nowhere: Gator, name: str) -> None:
    client = connect(nowhere)

    with sync():
        status = client.get(name)

    assert status == {"missing": 404, "conflict": 409, "error": 500, "doomed": 200}[name]
    assert calls == ["view"]


def test_request_that_ends_in_an_exception_runs_nothing(connect: Connect, nowhere: Gator) -> None:
    client = connect(nowhere)

    with sync():
        # Flask answers 500 where the configuration does not say that this is a test.
        try:
            status = client.get("broken")
        except RuntimeError:
            status = 500

    assert status == 500
    assert calls == ["view"]


def test_task_that_fails_is_an_exception_of_the_request(connect: Connect, nowhere: Gator) -> None:
    client = connect(nowhere)

    with sync():
        if client.raises:
            with pytest.raises(ValueError, match="the task fails"):
                client.get("failing")
        else:
            assert client.get("failing") == 500

    assert calls == [*DONE, "the task fails"]


def test_task_that_fails_is_only_logged_when_it_must_not_propagate(
    connect: Connect, nowhere: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(nowhere)

    with sync(propagate=False):
        status = client.get("failing")

    assert status == 200
    assert calls == [*DONE, "the task fails", "behind it"]
    assert "ValueError: the task fails" in caplog.text


def test_is_async_false_at_the_call_runs_in_the_view_in_any_case(
    connect: Connect, nowhere: Gator
) -> None:
    client = connect(nowhere)

    with sync():
        status = client.get("now")

    assert status == 500
    assert calls == ["at once", "view"]


def test_store_is_needed_without_the_switch(connect: Connect, nowhere: Gator) -> None:
    client = connect(nowhere)

    status = client.get("ok")

    assert status == 503
    assert calls == ["view"]


@pytest.mark.parametrize("is_async", [False, "no", lambda: False], ids=["bool", "word", "function"])
def test_single_gator_can_be_switched(
    connect: Connect, is_async: bool | str | Callable[[], bool]
) -> None:
    client = connect(Gator(NOWHERE, is_async=is_async))

    ok = client.get("ok")
    missing = client.get("missing")

    assert (ok, missing) == (200, 404)
    assert calls == [*DONE, "view"]


def test_single_application_can_be_switched(connect: Connect, nowhere: Gator) -> None:
    client = connect(nowhere, is_async=False)

    ok = client.get("ok")
    missing = client.get("missing")

    assert (ok, missing) == (200, 404)
    assert calls == [*DONE, "view"]


def test_no_header_query_or_cookie_flips_the_switch(nowhere: Gator) -> None:
    app = flask_app(nowhere)

    with app.test_client() as client:
        client.set_cookie("ALLIGATOR_ASYNC", "False")
        response = client.get(
            "/ok?async=False&is_async=False&ALLIGATOR_ASYNC=False",
            headers={"Alligator-Async": "False", "X-Alligator": "commit"},
        )

    assert response.status_code == 503
    assert calls == ["view"]


def test_captured_tasks_are_those_of_requests_that_succeeded(
    connect: Connect, nowhere: Gator
) -> None:
    client = connect(nowhere)

    with capture() as tasks:
        client.get("ok")
        client.get("missing")

    assert calls == ["view", "view"]
    tasks.assert_pushed(note, args=[(1, 2)], times=1)
    tasks.assert_pushed(note_later, args=[2], times=1)
    assert [task.status for task in tasks.discarded] == [CANCELED, CANCELED]


def test_captured_tasks_can_be_run_afterwards(connect: Connect, nowhere: Gator) -> None:
    client = connect(nowhere)

    with capture() as tasks:
        client.get("ok")
        tasks.run()

    assert calls == DONE


def test_task_that_is_started_after_the_response_runs_at_once(nowhere: Gator) -> None:
    def afterwards() -> None:
        nowhere.task(note_name, "late")

    async def view(request: Request) -> Response:
        return JSONResponse("done", background=BackgroundTask(afterwards))

    app = AsgiMiddleware(Starlette(routes=[Route("/", view)]), nowhere)

    with sync(), TestClient(app) as client:
        client.get("/")

    assert calls == [("late", "note_name")]


def test_requests_in_other_threads_do_not_see_each_others_tasks(nowhere: Gator) -> None:
    with sync(), uvicorn_thread(nowhere) as client:
        threads = [Thread(target=client.get, args=("thread/ok",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(calls) == 8 * len(DONE)
    assert calls.count("succeeded") == 8
