"""The same small web application in six frameworks, for the common tests of `tests/integrations`.

A site has one page, which does what its *view* says. It answers a `Reply`; what the client sees is
an `Answer`.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import fastapi
import flask
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.middleware.common import CommonMiddleware
from django.urls import re_path
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import asgi_alligator
import flask_alligator
import starlette_alligator
import wsgi_alligator
from alligator import Gator, Transaction
from django_alligator.endpoint import AlligatorEndpoint as DjangoEndpoint
from django_alligator.endpoint import to_view
from tests.harness import django_project


@dataclass
class Reply:
    """The response of a view; a body that is an iterator is streamed."""

    status: int = 200
    body: bytes | Iterator[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Answer:
    """The response that a client gets; an application that fails without a response is a 500."""

    status: int
    headers: Mapping[str, str]
    body: bytes


METHODS = ["GET", "HEAD", "POST", "PUT"]

View = Callable[[Transaction], Reply]
"""The view; it gets the transaction of the request."""


class Site(Protocol):
    """A web application in the middleware, once for each of *layers*."""

    def __call__(self, view: View, *layers: dict[str, Any]) -> "Get": ...


class Get(Protocol):
    """A client."""

    def __call__(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer: ...


def wsgi(view: View, *layers: dict[str, Any]) -> Get:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        reply = view(environ["alligator.transaction"])
        status = f"{reply.status} {HTTPStatus(reply.status).phrase}"
        start_response(status, [*_typed(reply), *reply.headers.items()])
        return [reply.body] if isinstance(reply.body, bytes) else reply.body

    wrapped: Any = validator(app)
    for settings in layers:
        wrapped = wsgi_alligator.AlligatorMiddleware(wrapped, **settings)
    return wsgi_client(wrapped)


def wsgi_client(app: Any) -> Get:
    def get(
        path: str = "/", *, method: str = "GET", headers: Any = None, body: bytes = b""
    ) -> Answer:
        environ: WSGIEnvironment = {
            "SCRIPT_NAME": "",
            "PATH_INFO": path.partition("?")[0],
            "REQUEST_METHOD": method,
            "QUERY_STRING": path.partition("?")[2],
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.input": io.BytesIO(body),
            "CONTENT_LENGTH": str(len(body)),
            **{f"HTTP_{k.upper().replace('-', '_')}": v for k, v in (headers or {}).items()},
        }
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
        setup_testing_defaults(environ)
        started: list[Any] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            started[:] = [status, headers]
            return lambda data: None

        try:
            chunks = validator(app)(environ, start_response)
            try:
                content = b"".join(chunks)
            finally:
                chunks.close()  # type: ignore[attr-defined]  # the validator's own
        except (AssertionError, ResourceWarning):
            raise
        except Exception:
            return Answer(500, {}, b"")
        return Answer(int(started[0][:3]), _lower(started[1]), content)

    return get


def asgi(view: View, *layers: dict[str, Any]) -> Get:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        reply = view(scope["state"]["alligator"])
        headers = [*_typed(reply), *reply.headers.items()]
        raw = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        for chunk in [reply.body] if isinstance(reply.body, bytes) else reply.body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    wrapped: Any = app
    for settings in layers:
        wrapped = asgi_alligator.AlligatorMiddleware(wrapped, **settings)
    return asgi_client(wrapped)


def asgi_client(app: Any) -> Get:
    def get(
        path: str = "/", *, method: str = "GET", headers: Any = None, body: bytes = b""
    ) -> Answer:
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.partition("?")[0].encode(),
            "root_path": "",
            "query_string": path.partition("?")[2].encode(),
            "headers": raw,
        }
        try:
            asyncio.run(app(scope, receive, send))
        except Exception:
            return Answer(500, {}, b"")
        start, *rest = messages
        assert start["type"] == "http.response.start"
        assert {message["type"] for message in rest} == {"http.response.body"}
        decoded = [(name.decode(), value.decode()) for name, value in start["headers"]]
        content = b"".join(message["body"] for message in rest)
        return Answer(start["status"], _lower(decoded), content)

    return get


def flask_site(view: View, *layers: dict[str, Any]) -> Get:
    app = flask.Flask(__name__)

    @app.route("/", defaults={"path": ""}, methods=METHODS)
    @app.route("/<path:path>", methods=METHODS)
    def page(path: str) -> flask.Response:
        reply = view(flask_alligator.current)
        return flask.Response(reply.body, reply.status, reply.headers, mimetype="text/plain")

    for settings in layers:
        several = not isinstance(settings["gator"], Gator)
        if several or app.extensions or "is_async" in settings:
            # The middleware of WSGI takes what the configuration of Flask does not have.
            app.wsgi_app = wsgi_alligator.AlligatorMiddleware(app.wsgi_app, **settings)  # type: ignore[method-assign]
            continue
        app.config["ALLIGATOR_OPTIONS"] = settings.get("options")
        app.config["ALLIGATOR_COMMIT_AT"] = settings.get("commit_at", "start")
        app.config["ALLIGATOR_IDEMPOTENCY_KEY"] = settings.get("idempotency_key")
        app.config["ALLIGATOR_IDEMPOTENCY_CLIENT"] = settings.get("idempotency_client")
        if "commit_veto" in settings:
            app.config["ALLIGATOR_COMMIT_VETO"] = settings["commit_veto"]
        flask_alligator.Alligator(app, settings["gator"])
    return flask_client(app)


def flask_client(app: flask.Flask) -> Get:
    def get(
        path: str = "/", *, method: str = "GET", headers: Any = None, body: bytes = b""
    ) -> Answer:
        try:
            with app.test_client(use_cookies=False).open(
                path, method=method, headers=headers, data=body
            ) as response:
                return Answer(response.status_code, _lower(response.headers.items()), response.data)
        except Exception:
            return Answer(500, {}, b"")

    return get


def starlette(view: View, *layers: dict[str, Any]) -> Get:
    async def page(request: Request) -> Response:
        return _response(view(request.state.alligator))

    middleware = [
        Middleware(starlette_alligator.AlligatorMiddleware, **settings)
        for settings in reversed(layers)
    ]
    return starlette_client(
        Starlette(routes=[Route("/{path:path}", page, methods=METHODS)], middleware=middleware)
    )


def starlette_client(app: Any) -> Get:
    def get(
        path: str = "/", *, method: str = "GET", headers: Any = None, body: bytes = b""
    ) -> Answer:
        client = TestClient(app, raise_server_exceptions=False, follow_redirects=False)
        response = client.request(method, path, headers=headers, content=body)
        return Answer(response.status_code, _lower(response.headers.items()), response.content)

    return get


def fastapi_site(view: View, *layers: dict[str, Any]) -> Get:
    app = fastapi.FastAPI()

    @app.api_route("/{path:path}", methods=METHODS)
    def page(request: Request) -> Response:  # not async: it runs in a thread
        return _response(view(request.state.alligator))

    for settings in layers:
        app.add_middleware(starlette_alligator.AlligatorMiddleware, **settings)
    return starlette_client(app)


def django_site(view: View, *layers: dict[str, Any], is_async: bool = False) -> Get:
    def respond(request: Any) -> HttpResponseBase:
        reply = view(request.alligator)
        if isinstance(reply.body, bytes):
            return HttpResponse(reply.body, status=reply.status, headers=reply.headers)
        chunks: Any = _each(reply.body) if is_async else reply.body
        return StreamingHttpResponse(chunks, status=reply.status, headers=reply.headers)

    return django_get(django_project.make_client(respond, *layers, is_async=is_async))


def django_get(client: Callable[..., django_project.Received]) -> Get:
    def get(path: str = "/", **given: Any) -> Answer:
        status, headers, body = client(path, **given)
        return Answer(status, _lower(headers), body)

    return get


async def _each(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def async_django_site(view: View, *layers: dict[str, Any]) -> Get:
    return django_site(view, *layers, is_async=True)


SITES: dict[str, Site] = {
    "wsgi": wsgi,
    "asgi": asgi,
    "django": django_site,
    "async django": async_django_site,
    "flask": flask_site,
    "starlette": starlette,
    "fastapi": fastapi_site,
}


def endpoint_at(name: str, mount: str, gator: Gator | Sequence[Gator], **settings: Any) -> Get:
    """Return an application of that framework with only the endpoint, at *mount*."""
    if name == "wsgi":
        endpoint = wsgi_alligator.AlligatorEndpoint(gator, **settings)

        def mounted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            environ["SCRIPT_NAME"] = mount
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(mount)
            return endpoint(environ, start_response)

        return wsgi_client(mounted)
    if name == "asgi":
        asgi_endpoint = asgi_alligator.AlligatorEndpoint(gator, **settings)

        async def rooted(scope: Any, receive: Any, send: Any) -> None:
            await asgi_endpoint({**scope, "root_path": mount}, receive, send)

        return asgi_client(rooted)
    if name == "django":
        view = to_view(DjangoEndpoint(gator, **settings))
        urls = [re_path(f"^{mount[1:]}/(?P<page>.*)$", view)]
        return django_get(django_project.make_client(None, CommonMiddleware, urls=urls))
    if name == "flask":
        site = flask.Flask(__name__)
        site.config["ALLIGATOR_URL_PREFIX"] = mount
        keys = {f"ALLIGATOR_{key.upper()}": value for key, value in settings.items()}
        site.config.update(keys)
        assert isinstance(gator, Gator)
        flask_alligator.Alligator(site, gator)
        return flask_client(site)
    mountable = starlette_alligator.AlligatorEndpoint(gator, **settings)
    if name == "starlette":
        return starlette_client(Starlette(routes=[Mount(mount, mountable)]))
    app = fastapi.FastAPI()
    app.mount(mount, mountable)
    return starlette_client(app)


def _typed(reply: Reply) -> list[tuple[str, str]]:
    return [] if reply.status in (204, 304) else [("Content-Type", "text/plain")]


def _response(reply: Reply) -> Response:
    if isinstance(reply.body, bytes):
        return Response(reply.body, reply.status, reply.headers)
    return StreamingResponse(reply.body, reply.status, reply.headers)


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}
