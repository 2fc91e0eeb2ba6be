"""Starlette and FastAPI: what is their own; the rest is in `test_requests`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import fastapi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.exceptions import BackendUnavailable
from starlette_alligator import AlligatorEndpoint, AlligatorMiddleware
from tests.harness.sample_tasks import add


class Away(locmem_backend.Client):
    def push_many(self, messages: Any, *, commit_id: str | None = None, undo: bool = True) -> None:
        raise BackendUnavailable("the store is away")


class Passing(BaseHTTPMiddleware):
    """A middleware as most are written; it notes what the request's state holds afterwards."""

    seen: list[Any] = []

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        self.seen.append(getattr(request.state, "user", None))
        response.headers["X-Passed"] = "yes"
        return response


OURS = "ours"
ORDERS = [[OURS], [Passing, OURS], [OURS, Passing], [Passing, OURS, Passing]]


def starlette(gator: Gator, view: Any, *order: Any, **settings: Any) -> Starlette:
    middleware = [
        Middleware(AlligatorMiddleware, gator=gator, **settings)
        if each is OURS
        else Middleware(Passing)
        for each in order or [OURS]
    ]
    return Starlette(routes=[Route("/{status:int}", view)], middleware=middleware)


@pytest.fixture(params=ORDERS, ids=lambda order: "-".join(getattr(e, "__name__", e) for e in order))
def order(request: pytest.FixtureRequest) -> list[Any]:
    Passing.seen = []
    order: list[Any] = request.param
    return order


# BaseHTTPMiddleware, on either side.


@pytest.mark.parametrize(("status", "depth"), [(200, 1), (404, 0), (500, 0)])
def test_middleware_works_at_any_position(
    gator: Gator, order: list[Any], status: int, depth: int
) -> None:
    async def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        assert request.state.alligator is gator.current
        request.state.user = "ann"
        return PlainTextResponse("done", request.path_params["status"])

    answer = TestClient(starlette(gator, view, *order)).get(f"/{status}")

    assert (answer.status_code, answer.text) == (status, "done")
    assert gator.len() == depth
    assert Passing.seen == ["ann"] * order.count(Passing)


def test_wherever_it_stands_a_failed_commit_is_a_503(order: list[Any]) -> None:
    gator = Gator("locmem://", backend_class=Away)

    async def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        return PlainTextResponse("done")

    answer = TestClient(starlette(gator, view, *order)).get("/200")

    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"


def test_wherever_it_stands_an_exception_discards(gator: Gator, order: list[Any]) -> None:
    async def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        raise RuntimeError("the view fails")

    app = starlette(gator, view, *order)

    assert TestClient(app, raise_server_exceptions=False).get("/200").status_code == 500
    with pytest.raises(RuntimeError, match="the view fails"):
        TestClient(app).get("/200")
    assert gator.len() == 0


def test_wherever_it_stands_a_stream_comes_through(gator: Gator, order: list[Any]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"{number} ".encode()
            gator.task(add, 1, 2)

    async def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        return StreamingResponse(chunks())

    answer = TestClient(starlette(gator, view, *order)).get("/200")

    assert answer.text == "0 1 2 "
    assert gator.len() == 4


def test_broken_stream_inside_another_middleware_discards_at_the_end(
    gator: Gator,
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"one "
        raise RuntimeError("the stream breaks off")

    async def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        return StreamingResponse(chunks())

    app = starlette(gator, view, OURS, Passing, commit_at="end")
    TestClient(app, raise_server_exceptions=False).get("/200")

    assert gator.len() == 0


# Exceptions, handlers, background tasks.


def test_http_exception_is_a_response_like_any_other(gator: Gator) -> None:
    def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        raise HTTPException(request.path_params["status"])

    client = TestClient(starlette(gator, view), follow_redirects=False)

    assert client.get("/409").status_code == 409
    assert gator.len() == 0
    assert client.get("/303").status_code == 303
    assert gator.len() == 1


def test_handled_exception_becomes_the_response_of_its_handler(gator: Gator) -> None:
    def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        raise LookupError("out of stock")

    app = starlette(gator, view)
    app.add_exception_handler(LookupError, lambda request, error: PlainTextResponse("sorry", 202))

    assert TestClient(app).get("/200").status_code == 202
    assert gator.len() == 1


def test_task_started_by_a_background_task_is_queued_at_once(gator: Gator) -> None:
    seen: list[int] = []

    def background() -> None:
        seen.append(gator.len())
        gator.task(add, 1, 2)
        seen.append(gator.len())

    async def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        return PlainTextResponse("", background=BackgroundTask(background))

    TestClient(starlette(gator, view)).get("/200")

    assert seen == [1, 2]


def test_background_tasks_belong_to_the_request_with_a_commit_at_the_end(gator: Gator) -> None:
    def background() -> None:
        gator.task(add, 1, 2)
        assert gator.len() == 0

    async def view(request: Request) -> Response:
        return PlainTextResponse("", background=BackgroundTask(background))

    TestClient(starlette(gator, view, commit_at="end")).get("/200")

    assert gator.len() == 1


def test_exception_of_a_task_in_sync_mode_is_raised_in_the_test(gator: Gator) -> None:
    async def view(request: Request) -> Response:
        gator.task(divmod, 1, 0)
        return PlainTextResponse("done")

    app = starlette(gator, view, is_async=False)
    # The application's own handler is not for what happens after its answer.
    app.add_exception_handler(ZeroDivisionError, lambda request, error: PlainTextResponse("no"))

    with pytest.raises(ZeroDivisionError):
        TestClient(app).get("/200")
    assert TestClient(app, raise_server_exceptions=False).get("/200").status_code == 500


# The request.


def test_options_may_be_a_function_of_the_request(gator: Gator) -> None:
    seen: list[Any] = []

    def options(request: Request) -> dict[str, Any]:
        return {"headers": {"request_id": request.headers["x-request-id"]}}

    async def view(request: Request) -> Response:
        seen.append(gator.task(add, 1, 2).headers)
        return PlainTextResponse("")

    client = TestClient(starlette(gator, view, options=options))
    client.get("/200", headers={"X-Request-Id": "r1"})

    assert seen == [{"request_id": "r1"}]


def test_lifespan_and_its_state_are_left_unchanged(gator: Gator) -> None:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
        yield {"database": "db"}

    async def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        return PlainTextResponse(request.state.database)

    middleware = [Middleware(AlligatorMiddleware, gator=gator)]
    app = Starlette(routes=[Route("/", view)], middleware=middleware, lifespan=lifespan)

    with TestClient(app) as client:
        assert [client.get("/").text for _ in range(2)] == ["db", "db"]
    assert gator.len() == 2


def test_websockets_are_left_alone(gator: Gator) -> None:
    async def view(websocket: WebSocket) -> None:
        await websocket.accept()
        gator.task(add, 1, 2)
        await websocket.send_text(str(gator.len()))
        await websocket.close()

    middleware = [Middleware(AlligatorMiddleware, gator=gator)]
    app = Starlette(routes=[WebSocketRoute("/", view)], middleware=middleware)

    with TestClient(app).websocket_connect("/") as websocket:
        assert websocket.receive_text() == "1"


def test_mounted_application_with_its_own_middleware_joins_the_request(gator: Gator) -> None:
    async def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        return PlainTextResponse("done", request.path_params["status"])

    inner = starlette(gator, view, commit_veto=None)
    middleware = [Middleware(AlligatorMiddleware, gator=gator)]
    app = Starlette(routes=[Mount("/inner", inner)], middleware=middleware)

    TestClient(app).get("/inner/404")
    assert gator.len() == 0
    TestClient(app).get("/inner/200")
    assert gator.len() == 1


def test_mounted_application_can_be_the_only_one_with_the_middleware(gator: Gator) -> None:
    async def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        return PlainTextResponse("done", request.path_params["status"])

    app = Starlette(routes=[Mount("/inner", starlette(gator, view))])

    TestClient(app).get("/inner/404")
    TestClient(app).get("/inner/200")

    assert gator.len() == 1


def test_transport_of_httpx_can_be_the_server(gator: Gator) -> None:
    async def view(request: Request) -> Response:
        gator.task(add, 1, 2)
        return PlainTextResponse("done", request.path_params["status"])

    async def main() -> list[int]:
        transport = httpx.ASGITransport(starlette(gator, view))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            answers = await asyncio.gather(*(client.get(f"/{s}") for s in (200, 404, 201)))
            assert gator.current is None
            return [answer.status_code for answer in answers]

    assert asyncio.run(main()) == [200, 404, 201]
    assert gator.len() == 2


# The endpoint.


def test_endpoint_is_mounted_beside_the_pages(gator: Gator) -> None:
    async def authorize(request: Request) -> bool:
        return request.cookies.get("staff") == "yes"

    endpoint = AlligatorEndpoint(gator, authorize=authorize)
    middleware = [Middleware(AlligatorMiddleware, gator=gator)]
    app = Starlette(routes=[Mount("/alligator", endpoint)], middleware=middleware)

    client = TestClient(app, root_path="/proxied")
    assert client.get("/alligator/health").status_code == 200
    assert client.get("/alligator/stats").status_code == 403
    client.cookies["staff"] = "yes"
    assert client.get("/alligator/stats").status_code == 200


@pytest.mark.parametrize("strips", [True, False])
def test_endpoint_is_found_behind_a_proxy(gator: Gator, strips: bool) -> None:
    app = fastapi.FastAPI()
    app.mount("/alligator", AlligatorEndpoint(gator))

    answer = TestClient(app, root_path="/api").get(
        f"{'' if strips else '/api'}/alligator/health/live"
    )

    assert answer.status_code == 200


def test_endpoint_refuses_websockets(gator: Gator) -> None:
    app = Starlette(routes=[Mount("/alligator", AlligatorEndpoint(gator))])

    with pytest.raises(Exception) as caught, TestClient(app).websocket_connect("/alligator/x"):  # noqa: PT011 - Starlette's own, by name below
        pass
    assert type(caught.value).__name__ in ("WebSocketDisconnect", "WebSocketDenialResponse")


# FastAPI, whose dependencies end after the answer.


class Database:
    """A database that notes when it commits."""

    def __init__(self, gator: Gator) -> None:
        self.gator = gator
        self.depths: list[int] = []
        self.fails = False

    def session(self) -> Iterator[str]:
        yield "session"
        if self.fails:
            raise RuntimeError("the commit of the database fails")
        self.depths.append(self.gator.len())


def fastapi_app(gator: Gator, database: Database, **settings: Any) -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    app.add_middleware(AlligatorMiddleware, gator=gator, **settings)

    @app.get("/{status}")
    async def view(status: int, session: Annotated[str, fastapi.Depends(database.session)]) -> Any:
        gator.task(add, 1, 2)
        if status >= 400:
            raise fastapi.HTTPException(status)
        return fastapi.Response(status_code=status)

    return app


@pytest.mark.parametrize(("status", "depth"), [(200, 1), (204, 1), (404, 0)])
def test_database_commits_before_tasks_are_queued_at_the_end(
    gator: Gator, status: int, depth: int
) -> None:
    database = Database(gator)

    TestClient(fastapi_app(gator, database, commit_at="end")).get(f"/{status}")

    assert database.depths in ([0], [])
    assert gator.len() == depth


def test_database_that_fails_discards_tasks_queued_at_the_end(gator: Gator) -> None:
    database = Database(gator)
    database.fails = True
    app = fastapi_app(gator, database, commit_at="end")

    TestClient(app, raise_server_exceptions=False).get("/200")

    assert gator.len() == 0


def test_dependency_that_ends_with_the_view_allows_the_start(gator: Gator) -> None:
    database = Database(gator)
    app = fastapi.FastAPI()
    app.add_middleware(AlligatorMiddleware, gator=gator)
    session = fastapi.Depends(database.session, scope="function")

    @app.get("/")
    async def view(session: Annotated[str, session]) -> str:
        gator.task(add, 1, 2)
        return "done"

    TestClient(app).get("/")

    assert database.depths == [0]
    assert gator.len() == 1


def test_validation_errors_of_fastapi_queue_nothing(gator: Gator) -> None:
    app = fastapi_app(gator, Database(gator))

    @app.middleware("http")
    async def audit(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    assert TestClient(app).get("/nonsense").status_code == 422
    assert gator.len() == 0
