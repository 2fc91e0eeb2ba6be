"""The dashboard through each framework: one table for all of them."""

import asyncio
import io
import re
from typing import Any
from wsgiref.util import setup_testing_defaults

import fastapi
import flask
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.routing import Mount
from starlette.testclient import TestClient

import asgi_alligator
import flask_alligator
import starlette_alligator
import wsgi_alligator
from alligator import Gator
from alligator.web.http import FORM, MAX_BODY
from tests.harness import sample_tasks
from tests.harness.web_sites import Get, endpoint_at

TOKEN = "t" * 32
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(params=["wsgi", "asgi", "django", "flask", "starlette", "fastapi"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("ALLIGATOR_TOKEN", raising=False)
    name: str = request.param
    return name


@pytest.fixture
def get(name: str, gator: Gator) -> Get:
    return endpoint_at(name, "/ops/queue", gator, token=TOKEN, actions=True)


def cancel(get: Get, body: bytes, **headers: str) -> int:
    given = {"Content-Type": FORM, **BEARER, **headers}
    return get("/ops/queue/actions", method="POST", headers=given, body=body).status


def test_dashboard_is_shown_to_visitors_with_the_token(get: Get) -> None:
    assert get("/ops/queue/").status == 403
    page = get("/ops/queue/?limit=3", headers=BEARER)

    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<h1>Alligator</h1>" in page.body


def test_dashboard_is_found_without_its_slash(get: Get, name: str) -> None:
    answer = get("/ops/queue", headers=BEARER)

    assert answer.status in (301, 307, 308)
    assert answer.headers["location"].endswith("queue/")
    if name in ("wsgi", "asgi", "flask"):  # the others redirect before we are asked
        assert answer.headers["location"] == "./queue/"


def test_buttons_of_the_dashboard_work(get: Get, gator: Gator) -> None:
    gator.options(task_id="a", delay_by=60).task(sample_tasks.add, 1, 2)

    answer = get(
        "/ops/queue/actions",
        method="POST",
        headers={"Content-Type": f"{FORM}; charset=utf-8", **BEARER},
        body=b"do=cancel&queue=all&task=a",
    )

    assert (answer.status, answer.headers["location"]) == (303, "./?done=cancel#scheduled")
    assert gator.stats().canceled == 1


def test_body_that_is_too_long_is_refused(get: Get, gator: Gator) -> None:
    gator.options(task_id="a", delay_by=60).task(sample_tasks.add, 1, 2)
    form = b"do=cancel&queue=all&task=a&more="

    assert cancel(get, form + b"x" * MAX_BODY) == 413
    assert cancel(get, form + b"x" * (MAX_BODY - len(form))) == 303


def test_browser_in_a_session_needs_the_form_of_the_page(name: str, gator: Gator) -> None:
    gator.options(task_id="a", delay_by=60).task(sample_tasks.add, 1, 2)
    get = endpoint_at(name, "/alligator", gator, authorize=lambda request: True, actions=True)

    def click(**headers: str) -> int:
        body = b"do=cancel&queue=all&task=a"
        given = {"Content-Type": FORM, **headers}
        return get("/alligator/actions", method="POST", headers=given, body=body).status

    assert click() == 403
    assert click(Origin="https://evil.example", Host="shop.example") == 403
    assert click(**{"Sec-Fetch-Site": "cross-site"}) == 403
    assert click(**{"Sec-Fetch-Site": "same-origin"}) == 303


def test_browser_exchanges_the_token_for_a_cookie(get: Get) -> None:
    browser = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
    closed = get("/ops/queue/", headers=browser)
    form = {"Content-Type": FORM, **browser}

    wrong = get("/ops/queue/login", method="POST", headers=form, body=b"token=wrong")
    right = get("/ops/queue/login", method="POST", headers=form, body=f"token={TOKEN}".encode())
    cookie = right.headers["set-cookie"].partition(";")[0]
    page = get("/ops/queue/", headers={"Cookie": f"a=b; {cookie}", **browser})
    too_long = get("/ops/queue/login", method="POST", headers=form, body=b"x" * 2 * MAX_BODY)

    assert (closed.status, wrong.status, right.status) == (403, 403, 303)
    assert b'action="./login"' in closed.body
    assert right.headers["location"] == "./"
    assert (page.status, too_long.status) == (200, 413)


def test_body_of_an_unauthenticated_visitor_is_not_read(name: str, gator: Gator) -> None:
    get = endpoint_at(name, "/alligator", gator, actions=True)

    answer = get("/alligator/actions", method="POST", body=b"x" * 2 * MAX_BODY)

    assert answer.status == 403


def test_get_request_changes_nothing(get: Get, gator: Gator) -> None:
    gator.options(task_id="a", delay_by=60).task(sample_tasks.add, 1, 2)
    before = gator.stats()

    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"):
        query = "?do=cancel&queue=all&task=a"
        for path in ("/ops/queue/", "/ops/queue/actions"):
            get(path + query, method=method, headers=BEARER, body=b"do=cancel&queue=all&task=a")

    after = gator.stats()
    assert (after.scheduled, after.canceled) == (before.scheduled, 0)


# The session of the application.


def test_session_of_flask_opens_the_dashboard() -> None:
    app = flask.Flask(__name__)
    app.secret_key = "not so secret here"
    app.config["ALLIGATOR_CONN"] = "locmem://"
    app.config["ALLIGATOR_AUTHORIZE"] = lambda request: flask.session.get("role") == "operator"
    flask_alligator.Alligator(app)
    client = app.test_client()

    assert client.get("/alligator/").status_code == 403
    with client.session_transaction() as session:
        session["role"] = "operator"
    with client.get("/alligator/") as answer:
        assert answer.status_code == 200
    assert client.post("/alligator/actions").status_code == 403  # read-only


def test_session_of_starlette_opens_the_dashboard(gator: Gator) -> None:
    def authorize(request: Request) -> bool:
        if "let-me-in" in request.headers:
            request.session["role"] = "operator"
        return request.session.get("role") == "operator"

    app = Starlette(
        routes=[
            Mount("/alligator", starlette_alligator.AlligatorEndpoint(gator, authorize=authorize))
        ],
        middleware=[Middleware(SessionMiddleware, secret_key="not so secret here")],
    )
    client = TestClient(app)

    assert client.get("/alligator/").status_code == 403
    assert client.get("/alligator/", headers={"let-me-in": "1"}).status_code == 200
    assert client.get("/alligator/").status_code == 200


@pytest.mark.parametrize("strips", [True, False])
def test_dashboard_works_behind_a_proxy_with_a_prefix(gator: Gator, strips: bool) -> None:
    app = fastapi.FastAPI()
    app.mount("/alligator", starlette_alligator.AlligatorEndpoint(gator, token=TOKEN))

    page = TestClient(app, root_path="/api").get(
        f"{'' if strips else '/api'}/alligator/", headers=BEARER
    )

    assert page.status_code == 200
    # Every address in it is relative to its own, so a prefix is nothing to it.
    assert not re.search(r'(?:href|action)="(?![#?]|\./|data:|\w+[\w.]*")', page.text)


# How a body comes in.


def wsgi_post(gator: Gator, stream: io.BytesIO, **environ: Any) -> str:
    endpoint = wsgi_alligator.AlligatorEndpoint(gator, authorize=lambda environ: True, actions=True)
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/actions",
        "CONTENT_TYPE": FORM,
        "HTTP_AUTHORIZATION": "",
        "wsgi.input": stream,
        **environ,
    }
    setup_testing_defaults(environ)
    statuses: list[str] = []
    endpoint(environ, lambda status, headers, exc_info=None: statuses.append(status))  # type: ignore[arg-type]
    return statuses[0]


@pytest.mark.parametrize("length", ["-1", "x", "9" * 400, str(MAX_BODY + 1)])
def test_body_with_an_impossible_length_is_not_read(gator: Gator, length: str) -> None:
    stream = io.BytesIO(b"do=drop-all")

    status = wsgi_post(gator, stream, CONTENT_LENGTH=length)

    assert status.startswith("413 ")
    assert stream.tell() == 0


def test_body_without_a_length_is_read_where_it_marks_its_own_end(gator: Gator) -> None:
    stream, long = io.BytesIO(b"do=x"), io.BytesIO(b"x" * 2 * MAX_BODY)

    assert wsgi_post(gator, io.BytesIO(b"do=x")).startswith("403 ")
    assert wsgi_post(gator, stream, **{"wsgi.input_terminated": True}).startswith("403 ")
    assert stream.tell() == 4
    assert wsgi_post(gator, long, **{"wsgi.input_terminated": True}).startswith("413 ")


def test_body_in_pieces_is_joined_and_an_endless_one_is_not(gator: Gator) -> None:
    endpoint = asgi_alligator.AlligatorEndpoint(gator, token=TOKEN, actions=True)

    def answer(*messages: dict[str, Any]) -> tuple[int, int]:
        left = list(messages)
        sent: list[Any] = []

        async def receive() -> Any:
            return left.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"content-type", FORM.encode())]
        scope = {"type": "http", "method": "POST", "path": "/actions", "headers": headers}
        asyncio.run(endpoint(scope, receive, send))
        return sent[0]["status"], len(left)

    piece = {"type": "http.request", "body": b"x" * (MAX_BODY - 1), "more_body": True}
    assert answer(piece, piece, piece, piece) == (413, 2)
    first = {"type": "http.request", "body": b"do=drop-all&", "more_body": True}
    last = {"type": "http.request", "body": b"queue=all"}
    assert answer(first, last) == (303, 0)
    assert answer(first, {"type": "http.disconnect"}) == (422, 0)
