"""FastAPI: `yield` dependencies in both scopes, in threads with contexts of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from alligator import Gator
from alligator.exceptions import ConfigurationError
from sqlalchemy_alligator import enlist
from starlette_alligator import AlligatorMiddleware
from tests.harness.databases import Order, Shop, note


def site(shop: Shop) -> FastAPI:
    """Return an application with views for the cases of these tests."""
    make = sessionmaker(shop.engine)
    enlist(shop.gator, make)

    def session() -> Iterator[Session]:
        with make.begin() as session:
            yield session

    def reader() -> Iterator[Session]:
        with make() as session:
            session.execute(text("SELECT 1"))
            yield session

    early = Depends(session, scope="function")
    late = Depends(session)
    other = Depends(reader)
    only_read = Depends(reader, scope="function")
    app = FastAPI()
    app.add_middleware(AlligatorMiddleware, gator=shop.gator)

    def order(session: Session, code: int) -> dict[str, int]:
        session.add(Order(name="a"))
        session.flush()
        shop.gator.task(note, "a")
        if code >= 400:
            raise HTTPException(code)
        return {}

    @app.post("/early")
    def view_early(session: Session = early, code: int = 200) -> dict[str, int]:
        return order(session, code)

    @app.post("/late")
    def view_late(session: Session = late, code: int = 200) -> dict[str, int]:
        return order(session, code)

    @app.post("/async")
    async def view_async(session: Session = early, code: int = 200) -> dict[str, int]:
        return order(session, code)

    @app.post("/returns")
    def view_returns(session: Session = early) -> PlainTextResponse:
        order(session, 200)
        return PlainTextResponse("an error that is returned", 500)

    @app.post("/reads")
    def view_reads(session: Session = only_read, code: int = 200) -> PlainTextResponse:
        session.execute(text("SELECT 1"))
        shop.gator.task(note, "read")
        return PlainTextResponse("", code)

    @app.post("/none")
    def view_none(code: int = 200) -> PlainTextResponse:
        shop.gator.task(note, "none")
        return PlainTextResponse("", code)

    @app.post("/commits-itself")
    def view_commits(code: int = 200) -> PlainTextResponse:
        shop.gator.task(note, "before")
        with make() as session:
            session.add(Order(name="a"))
            shop.gator.task(note, "in")
            session.commit()
        shop.gator.task(note, "after")
        return PlainTextResponse("", code)

    @app.post("/stream")
    def view_stream(session: Session = early) -> StreamingResponse:
        order(session, 200)
        return StreamingResponse(iter(["a", "b"]))

    @app.post("/two")
    def view_two(first: Session = late, second: Session = other) -> dict[str, int]:
        return order(first, 200)

    return app


@pytest.fixture
def client(shop: Shop) -> TestClient:
    """Return a client of the application."""
    return TestClient(site(shop), raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("path", "rows", "tasks"),
    [
        ("/early", 1, ["a"]),
        ("/early?code=404", 0, []),
        ("/late", 1, ["a"]),
        ("/late?code=404", 0, []),
        ("/async", 1, ["a"]),
        ("/async?code=404", 0, []),
        ("/returns", 1, ["a"]),
        ("/reads", 0, ["read"]),
        ("/reads?code=404", 0, []),
        ("/none", 0, ["none"]),
        ("/none?code=404", 0, []),
        ("/commits-itself", 1, ["after", "before", "in"]),
        ("/commits-itself?code=500", 1, ["in"]),
        ("/stream", 1, ["a"]),
    ],
)
def test_row_and_its_task_exist_together(
    shop: Shop, client: TestClient, path: str, rows: int, tasks: list[str]
) -> None:
    client.post(path)

    assert shop.state() == (rows, tasks)


def test_two_sessions_in_threads_of_a_request_must_be_named(shop: Shop) -> None:
    client = TestClient(site(shop))

    with pytest.raises(ConfigurationError, match="name the one"):
        client.post("/two")

    assert shop.state() == (0, [])


def test_requests_do_not_share_their_sessions(shop: Shop, client: TestClient) -> None:
    for _ in range(3):
        assert client.post("/early").status_code == 200
        assert client.post("/none?code=404").status_code == 404

    assert shop.state() == (3, ["a", "a", "a"])


def test_missing_table_is_an_error_that_says_how_to_create_it(tmp_path: Path) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    Order.__table__.create(engine)  # type: ignore[attr-defined]
    with Gator("locmem://") as gator:
        make = sessionmaker(engine)
        enlist(gator, make)

        with pytest.raises(ConfigurationError, match="latergator outbox sql"), make() as session:
            session.add(Order(name="a"))
            gator.task(note, "a")
            session.commit()
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT count(*) FROM orders")).scalar()

    assert rows == 0
    engine.dispose()
