"""FastAPI with a database: an application learns of its 503; late tasks; the order of layers."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import fastapi
import httpx
import pytest
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.testclient import TestClient

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.exceptions import BackendUnavailable
from starlette_alligator import AlligatorMiddleware
from tests.harness.programs import eventually
from tests.harness.sample_tasks import add, fail
from tests.integrations.test_context import serving


class Away(locmem_backend.Client):
    """A store that cannot be reached for a push."""

    def push_many(self, messages: Any, *, commit_id: str | None = None, undo: bool = True) -> None:
        raise BackendUnavailable("the store is away")


@pytest.fixture
def away() -> Gator:
    return Gator("locmem://", backend_class=Away)


class Database:
    """A database in a file, and a session for each request that commits after it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open = 0
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")

    def session(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, check_same_thread=False)
        self.open += 1
        try:
            yield connection
            connection.commit()
        except Exception:
            connection.rollback()
            raise
        finally:
            connection.close()
            self.open -= 1

    async def asession(self) -> AsyncIterator[sqlite3.Connection]:
        with contextmanager(self.session)() as connection:
            yield connection

    @property
    def rows(self) -> int:
        with closing(sqlite3.connect(self.path)) as connection:
            return int(connection.execute("SELECT count(*) FROM orders").fetchone()[0])


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "shop.db")


async def passing(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


LAYERS: dict[str, Callable[[fastapi.FastAPI], None]] = {
    "plain": lambda app: None,
    "base http": lambda app: app.add_middleware(BaseHTTPMiddleware, dispatch=passing),
    "gzip": lambda app: app.add_middleware(GZipMiddleware),
}


def shop(gator: Gator, database: Database, layer: str = "plain", **settings: Any) -> Any:
    app = fastapi.FastAPI()
    LAYERS[layer](app)
    app.add_middleware(AlligatorMiddleware, gator=gator, **settings)

    def order(session: sqlite3.Connection) -> None:
        session.execute("INSERT INTO orders DEFAULT VALUES")
        gator.task(add, 1, 2)

    @app.post("/sync", status_code=201)
    def sync(session: Annotated[Any, fastapi.Depends(database.session)]) -> str:
        order(session)
        return "done"

    @app.post("/async", status_code=201)
    async def later(session: Annotated[Any, fastapi.Depends(database.asession)]) -> str:
        order(session)
        return "done"

    @app.post("/stream", status_code=201)
    async def stream(session: Annotated[Any, fastapi.Depends(database.asession)]) -> Response:
        order(session)
        return StreamingResponse(iter([b"one ", b"two"]), 201)

    @app.post("/background", status_code=201)
    async def background(
        session: Annotated[Any, fastapi.Depends(database.asession)], tasks: BackgroundTasks
    ) -> str:
        order(session)
        tasks.add_task(order, session)
        return "done"

    @app.post("/failing", status_code=201)
    async def failing(session: Annotated[Any, fastapi.Depends(database.asession)]) -> str:
        session.execute("INSERT INTO orders DEFAULT VALUES")
        gator.task(fail, "no luck")
        return "done"

    return app


PATHS = ["/sync", "/async", "/stream", "/background"]


# The application learns that its response was replaced.


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("path", PATHS)
def test_session_rolls_back_when_its_response_is_replaced(
    away: Gator, database: Database, path: str, layer: str
) -> None:
    answer = TestClient(shop(away, database, layer)).post(path)

    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert database.rows == 0


@pytest.mark.parametrize("path", PATHS)
def test_session_commits_when_its_tasks_are_queued(
    gator: Gator, database: Database, path: str
) -> None:
    answer = TestClient(shop(gator, database)).post(path)

    assert answer.status_code == 201
    assert database.rows == gator.len() == (2 if path == "/background" else 1)


def test_session_rolls_back_when_an_inline_task_fails(gator: Gator, database: Database) -> None:
    app = shop(gator, database, is_async=False)

    with pytest.raises(RuntimeError, match="no luck"):
        TestClient(app).post("/failing")
    assert TestClient(app, raise_server_exceptions=False).post("/failing").status_code == 500
    assert database.rows == 0


@pytest.mark.parametrize("handled", [OSError, Exception])
def test_handlers_of_the_application_do_not_see_it(
    away: Gator, database: Database, handled: type[Exception]
) -> None:
    app = shop(away, database)
    app.add_exception_handler(handled, lambda request, error: JSONResponse("handled", 418))

    answer = TestClient(app).post("/sync")

    assert answer.status_code == 503
    assert database.rows == 0


@pytest.mark.parametrize("protocol", ["h11", "httptools"])
@pytest.mark.parametrize("path", PATHS)
def test_behind_a_server_there_is_no_traceback_and_the_connection_goes_on(
    away: Gator, database: Database, path: str, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip(protocol)

    with (
        caplog.at_level(logging.WARNING),
        serving(shop(away, database), http=protocol) as url,
        httpx.Client(timeout=20) as client,
    ):
        for _ in range(3):
            assert client.post(url + path).status_code == 503
            eventually(lambda: database.open == 0)  # or it would lock out the next

    assert database.rows == 0
    assert {record.name for record in caplog.records} == {"alligator"}


# The order of layers.


@pytest.mark.parametrize("outside", [True, False], ids=["CORS outside", "CORS inside"])
def test_503_can_be_read_by_a_page_of_another_site_if_cors_is_outside(
    away: Gator, database: Database, outside: bool
) -> None:
    app = fastapi.FastAPI()

    @app.post("/orders")
    def order() -> None:
        away.task(add, 1, 2)

    cors = {"allow_origins": ["https://shop.example"], "expose_headers": ["Retry-After"]}
    if not outside:
        app.add_middleware(CORSMiddleware, **cors)  # type: ignore[arg-type]
    app.add_middleware(AlligatorMiddleware, gator=away)
    if outside:
        app.add_middleware(CORSMiddleware, **cors)  # type: ignore[arg-type]  # added last, it is outside

    answer = TestClient(app).post("/orders", headers={"origin": "https://shop.example"})

    assert answer.status_code == 503
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == ("https://shop.example" if outside else None)


def test_outer_middleware_sees_route_and_state_through_any_transport(gator: Gator) -> None:
    seen: list[Any] = []

    class Outside:
        """As those that name metrics by the route."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)
            if scope["type"] == "http":
                seen.append((scope["route"].path, scope["path_params"], scope["state"]["user"]))

    app = fastapi.FastAPI()
    app.add_middleware(AlligatorMiddleware, gator=gator)
    app.add_middleware(Outside)

    @app.get("/orders/{order}")
    def view(order: int, request: Request) -> None:
        request.state.user = "ann"

    async def main() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            await client.get("/orders/7")

    asyncio.run(main())
    TestClient(app).get("/orders/7")

    assert (
        seen == [("/orders/{order}", {"order": 7}, "ann")] * 2
        or seen == [("/orders/{order}", {"order": "7"}, "ann")] * 2
    )


# Handlers for Exception stand outside of all layers, as documented.


def with_handler(gator: Gator, kind: Any, *, wrapped: bool) -> Any:
    app = fastapi.FastAPI()
    if not wrapped:
        app.add_middleware(AlligatorMiddleware, gator=gator)

    @app.get("/")
    def view() -> None:
        gator.task(add, 1, 2)
        raise LookupError

    app.add_exception_handler(kind, lambda request, error: JSONResponse({"code": 17}, 200))
    return AlligatorMiddleware(app, gator) if wrapped else app


@pytest.mark.parametrize(
    ("kind", "wrapped", "depth"),
    [(LookupError, False, 1), (Exception, False, 0), (Exception, True, 1), (500, True, 1)],
)
def test_response_of_an_exception_handler_is_seen_by_an_outer_middleware(
    gator: Gator, kind: Any, wrapped: bool, depth: int
) -> None:
    app = with_handler(gator, kind, wrapped=wrapped)

    answer = TestClient(app, raise_server_exceptions=False).get("/")

    assert answer.json() == {"code": 17}
    assert gator.len() == depth


# Tasks that are started after the response, whatever it was.


@pytest.mark.parametrize(("way", "depth"), [("raise", 0), ("status", 1), ("background", 1)])
def test_task_started_after_a_failed_response_is_queued_as_documented(
    gator: Gator, way: str, depth: int
) -> None:
    def dependency() -> Iterator[None]:
        try:
            yield
        finally:
            if way != "background":
                gator.task(add, 1, 2)

    app = fastapi.FastAPI(dependencies=[fastapi.Depends(dependency)])
    app.add_middleware(AlligatorMiddleware, gator=gator)

    @app.get("/")
    def view(response: Response) -> Any:
        gator.task(add, 3, 4)
        if way == "raise":
            raise HTTPException(409)
        if way == "background":
            return JSONResponse({}, 409, background=BackgroundTask(gator.task, add, 1, 2))
        response.status_code = 409
        return None

    assert TestClient(app).get("/").status_code == 409
    assert gator.len() == depth
