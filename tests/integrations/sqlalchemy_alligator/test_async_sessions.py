"""Tasks follow the transactions of an AsyncSession."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from sqlalchemy import URL, insert, select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)

from alligator.commits import relay
from alligator.testing import sync
from sqlalchemy_alligator import enlist
from sqlalchemy_alligator.engines import EngineOutbox
from starlette_alligator import AlligatorMiddleware
from tests.harness.databases import Order, Shop, note
from tests.integrations.sqlalchemy_alligator.conftest import (
    SAME,
    empty_database,
    real_transactions,
)

DRIVERS = [
    *("sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg_async"),
    *(f"{SAME}+asyncpg", f"{SAME}+psycopg_async"),
]

Make = async_sessionmaker[AsyncSession]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """Return each asynchronous driver in turn."""
    name: str = request.param
    return name


@pytest.fixture
def url(request: pytest.FixtureRequest, driver: str, tmp_path: Path) -> URL:
    """Name an empty database."""
    return empty_database(request, driver.partition("+")[0], tmp_path)


@pytest.fixture
def drivers(url: URL, driver: str) -> URL:
    """Name that database with an asynchronous driver."""
    return url.set(drivername=driver.replace(SAME, "postgresql"))


@asynccontextmanager
async def enlisted(shop: Shop, url: URL) -> AsyncIterator[Make]:
    """Return an enlisted async_sessionmaker."""
    engine: AsyncEngine = create_async_engine(url)
    real_transactions(engine.sync_engine)
    make = async_sessionmaker(engine)
    enlist(shop.gator, make)
    yield make
    await engine.dispose()


async def in_loop(shop: Shop) -> tuple[int, list[str]]:
    """Return the number of rows, and the tasks, while the loop goes on."""
    return await asyncio.to_thread(shop.state)


def test_task_follows_commit_and_rollback(shop: Shop, drivers: URL) -> None:
    async def main() -> tuple[int, list[str]]:
        async with enlisted(shop, drivers) as make:
            async with make() as session:
                session.add(Order(name="a"))
                await session.flush()
                shop.gator.task(note, "a")
                await session.commit()
            async with make() as session:
                session.add(Order(name="b"))
                await session.flush()
                shop.gator.task(note, "b")
                await session.rollback()
            with pytest.raises(ZeroDivisionError):
                async with make.begin() as session:
                    session.add(Order(name="c"))
                    await session.flush()
                    shop.gator.task(note, "c")
                    raise ZeroDivisionError
            return await in_loop(shop)

    assert asyncio.run(main()) == (1, ["a"])


def test_rollback_of_a_savepoint_discards_its_tasks_only(shop: Shop, drivers: URL) -> None:
    async def main() -> tuple[int, list[str]]:
        async with enlisted(shop, drivers) as make:
            async with make.begin() as session:
                session.add(Order(name="a"))
                await session.flush()
                shop.gator.task(note, "a")
                with pytest.raises(ZeroDivisionError):
                    async with session.begin_nested():
                        session.add(Order(name="b"))
                        await session.flush()
                        shop.gator.task(note, "b")
                        raise ZeroDivisionError
                shop.gator.task(note, "c")
            return await in_loop(shop)

    assert asyncio.run(main()) == (1, ["a", "c"])


def test_concurrent_sessions_have_their_own_tasks(shop: Shop, drivers: URL) -> None:
    async def main() -> tuple[int, list[str]]:
        async with enlisted(shop, drivers) as make:
            turn = asyncio.Semaphore(1 if drivers.get_backend_name() == "sqlite" else 10)

            async def one(number: int) -> None:
                async with turn, make() as session:
                    session.add(Order(name=str(number)))
                    await session.flush()
                    await asyncio.sleep(0)
                    shop.gator.task(note, str(number))
                    await asyncio.sleep(0)
                    await (session.commit() if number % 2 else session.rollback())

            await asyncio.gather(*(one(number) for number in range(6)))
            return await in_loop(shop)

    assert asyncio.run(main()) == (3, ["1", "3", "5"])


def test_cancelled_coroutine_leaves_neither_row_nor_task(shop: Shop, drivers: URL) -> None:
    async def main() -> tuple[int, list[str]]:
        async with enlisted(shop, drivers) as make:
            reached = asyncio.Event()

            async def work() -> None:
                async with make() as session:
                    session.add(Order(name="a"))
                    await session.flush()
                    shop.gator.task(note, "a")
                    reached.set()
                    await asyncio.sleep(60)
                    await session.commit()

            task = asyncio.ensure_future(work())
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await in_loop(shop)

    assert asyncio.run(main()) == (0, [])


def test_commit_that_is_cancelled_keeps_row_and_task_together(
    shop: Shop, drivers: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A relay that was not told of a commit finds it by scanning.
    monkeypatch.setattr(relay, "SCAN_SECONDS", 0.1)
    monkeypatch.setattr(relay, "GRACE_SECONDS", 0.5)

    async def work(make: Make, name: str, begun: asyncio.Event) -> None:
        async with make() as session:
            session.add(Order(name=name))
            await session.flush()
            shop.gator.task(note, name)
            begun.set()
            await session.commit()

    async def main() -> tuple[list[str], list[str]]:
        async with enlisted(shop, drivers) as make:
            for number in range(12):
                begun = asyncio.Event()
                task = asyncio.ensure_future(work(make, str(number), begun))
                await begun.wait()
                await asyncio.sleep(number * 0.0005)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await work(make, "last", asyncio.Event())
            async with make() as session:
                rows = sorted((await session.execute(select(Order.name))).scalars())
            return rows, await asyncio.to_thread(shop.tasks)

    rows, tasks = asyncio.run(main())

    assert rows == tasks
    assert "last" in rows


def test_bulk_statement_and_its_tasks_are_committed_together(shop: Shop, drivers: URL) -> None:
    async def main() -> tuple[int, list[str]]:
        async with enlisted(shop, drivers) as make:
            async with make.begin() as session:
                await session.execute(insert(Order), [{"name": "a"}, {"name": "b"}])
                for name in ("a", "b"):
                    shop.gator.task(note, name)
            return await in_loop(shop)

    assert asyncio.run(main()) == (2, ["a", "b"])


def test_transaction_that_was_begun_last_has_the_task(shop: Shop, drivers: URL) -> None:
    async def main() -> tuple[int, list[str]]:
        async with enlisted(shop, drivers) as make:
            async with make() as first, make() as second:
                await first.begin()
                await second.begin()
                shop.gator.task(note, "second")
                await second.rollback()
                shop.gator.task(note, "first")
                await first.commit()
            return await in_loop(shop)

    assert asyncio.run(main()) == (0, ["first"])


def test_scoped_session_is_enlisted(shop: Shop, drivers: URL) -> None:
    async def main() -> tuple[int, list[str]]:
        engine = create_async_engine(drivers)
        sessions = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
        enlist(shop.gator, sessions)
        sessions.add(Order(name="a"))
        shop.gator.task(note, "a")
        await sessions.commit()
        await sessions.remove()
        await engine.dispose()
        return await in_loop(shop)

    assert asyncio.run(main()) == (1, ["a"])


async def note_later(name: str) -> None:
    """Wait a moment: a task that is a coroutine."""
    await asyncio.sleep(0)
    ran.append(name)


ran: list[str] = []


def test_inline_tasks_run_after_the_commit(shop: Shop, drivers: URL) -> None:
    ran.clear()

    async def main() -> tuple[list[str], list[str], list[str]]:
        async with enlisted(shop, drivers) as make:
            with sync():
                async with make() as session:
                    session.add(Order(name="a"))
                    await session.flush()
                    shop.gator.task(note_later, "a")
                    before = list(ran)
                    await session.commit()
                    after = list(ran)
                    session.add(Order(name="b"))
                    await session.flush()
                    shop.gator.task(note_later, "b")
                    await session.rollback()
        return before, after, list(ran)

    assert asyncio.run(main()) == ([], ["a"], ["a"])


def test_reader_in_a_coroutine_does_not_decide(shop: Shop, drivers: URL) -> None:
    async def main() -> tuple[int, list[str]]:
        async with enlisted(shop, drivers) as make:
            async with shop.gator.transaction(), make() as session:
                await session.execute(text("SELECT 1"))
                shop.gator.task(note, "a")
            return await in_loop(shop)

    assert asyncio.run(main()) == (0, ["a"])


@pytest.mark.parametrize(
    ("path", "rows", "tasks"),
    [
        ("/", 1, ["a"]),
        ("/?code=404", 0, []),
        ("/late", 1, ["a"]),
        ("/late?code=404", 0, []),
    ],
)
def test_fastapi_with_coroutines(
    shop: Shop, drivers: URL, path: str, rows: int, tasks: list[str]
) -> None:
    engine = create_async_engine(drivers)
    make = async_sessionmaker(engine)
    enlist(shop.gator, make)

    async def session() -> AsyncIterator[AsyncSession]:
        async with make.begin() as session:
            yield session

    app = FastAPI()
    app.add_middleware(AlligatorMiddleware, gator=shop.gator)

    @app.get("/")
    async def early(
        session: Annotated[AsyncSession, Depends(session, scope="function")], code: int = 200
    ) -> dict[str, int]:
        return await order(session, code)

    @app.get("/late")
    async def late(
        session: Annotated[AsyncSession, Depends(session)], code: int = 200
    ) -> dict[str, int]:
        return await order(session, code)

    async def order(session: AsyncSession, code: int) -> dict[str, int]:
        session.add(Order(name="a"))
        await session.flush()
        shop.gator.task(note, "a")
        if code >= 400:
            raise HTTPException(code)
        return {}

    with TestClient(app) as client:
        client.get(path)
        client.portal.call(engine.dispose)  # type: ignore[union-attr]

    assert shop.state() == (rows, tasks)


# A thread that fails is an error of the test.
def test_outbox_that_cannot_be_opened_leaves_no_failing_thread(tmp_path: Path) -> None:
    pytest.importorskip("aiosqlite")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/missing/shop.db")
    outbox = EngineOutbox(lambda: engine.sync_engine, "alligator_outbox")
    before = set(threading.enumerate())

    with pytest.raises(sqlite3.OperationalError):
        outbox.check()

    for thread in set(threading.enumerate()) - before:
        thread.join(30)
