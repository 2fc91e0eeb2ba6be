"""Connections that are named: those of SQLAlchemy, and plain ones of each driver."""

import asyncio
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from alligator import Gator
from alligator.exceptions import ConfigurationError
from sqlalchemy_alligator import enlist
from tests.harness.databases import Order, Shop, note
from tests.integrations.sqlalchemy_alligator.conftest import SAME

INSERT = "INSERT INTO orders (name) VALUES ('a')"

ASYNCHRONOUS = [
    ("sqlite", "aiosqlite"),
    *((kind, driver) for kind in ("postgresql", SAME) for driver in ("asyncpg", "psycopg")),
]


def dsn_of(url: URL) -> str:
    """Return the DSN of a PostgreSQL."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def connect(url: URL) -> Any:
    """Open a plain connection with sqlite3, PyMySQL or psycopg."""
    if url.get_backend_name() == "sqlite":
        return sqlite3.connect(str(url.database))
    if url.get_backend_name() == "mysql":
        import pymysql  # type: ignore[import-untyped]

        path = str(url.query["unix_socket"])
        return pymysql.connect(unix_socket=path, user="root", database="test")
    import psycopg

    return psycopg.connect(dsn_of(url))


async def aconnect(url: URL, driver: str) -> Any:
    """Open a plain connection with aiosqlite, asyncpg or psycopg."""
    if driver == "aiosqlite":
        import aiosqlite

        return await aiosqlite.connect(str(url.database))
    if driver == "asyncpg":
        import asyncpg  # type: ignore[import-untyped]

        return await asyncpg.connect(dsn_of(url))
    import psycopg

    return await psycopg.AsyncConnection.connect(dsn_of(url), autocommit=True)


def relay_from(shop: Shop, url: URL) -> None:
    """Name the database for the relay, if there is an outbox."""
    if shop.has_outbox:
        shop.gator.relay_from(lambda: connect(url))


@pytest.fixture
def make(shop: Shop) -> sessionmaker[Session]:
    """Return an enlisted sessionmaker."""
    maker = sessionmaker(shop.engine)
    enlist(shop.gator, maker)
    return maker


def test_connection_of_sqlalchemy_is_named(shop: Shop, make: sessionmaker[Session]) -> None:
    with shop.engine.begin() as connection:
        connection.execute(text(INSERT))
        with shop.gator.transaction(on=connection):
            shop.gator.task(note, "a")
    with pytest.raises(ZeroDivisionError), shop.engine.begin() as connection:
        connection.execute(text(INSERT))
        with shop.gator.transaction(on=connection):
            shop.gator.task(note, "b")
        raise ZeroDivisionError

    assert shop.state() == (1, ["a"])


def test_savepoint_of_a_named_connection_discards(shop: Shop, make: sessionmaker[Session]) -> None:
    with shop.engine.begin() as connection:
        connection.execute(text(INSERT))
        with pytest.raises(ZeroDivisionError), connection.begin_nested():
            with shop.gator.transaction(on=connection):
                shop.gator.task(note, "b")
            raise ZeroDivisionError
        with shop.gator.transaction(on=connection):
            shop.gator.task(note, "a")

    assert shop.state() == (1, ["a"])


def test_session_is_named_by_its_connection(shop: Shop, make: sessionmaker[Session]) -> None:
    with make() as first, make() as second:
        first.add(Order(name="a"))
        first.flush()
        second.begin()  # the one that was begun last
        with shop.gator.transaction(on=first.connection()):
            shop.gator.task(note, "a")
        second.rollback()
        first.commit()

    assert shop.state() == (1, ["a"])


@pytest.mark.parametrize("url", ["postgresql", SAME], indirect=True)
def test_connection_of_psycopg(shop: Shop, url: URL) -> None:
    relay_from(shop, url)
    with connect(url) as connection:
        with connection.transaction(), shop.gator.transaction(on=connection):
            connection.execute(INSERT)
            shop.gator.task(note, "a")
        with pytest.raises(ZeroDivisionError):  # noqa: SIM117
            with connection.transaction(), shop.gator.transaction(on=connection):
                connection.execute(INSERT)
                shop.gator.task(note, "b")
                raise ZeroDivisionError
        with connection.transaction():
            connection.execute(INSERT)
            with connection.transaction(force_rollback=True):  # noqa: SIM117
                with shop.gator.transaction(on=connection):
                    shop.gator.task(note, "c")
        connection.rollback()
        with pytest.raises(ConfigurationError, match="No transaction is open"):  # noqa: SIM117
            with shop.gator.transaction(on=connection), connection.transaction():
                shop.gator.task(note, "d")

    assert shop.state() == (2, ["a"])


@pytest.mark.parametrize("url", ["postgresql", SAME], indirect=True)
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_asynchronous_connection_of_postgresql(shop: Shop, url: URL, driver: str) -> None:
    relay_from(shop, url)

    async def main() -> None:
        connection = await aconnect(url, driver)
        async with connection.transaction(), shop.gator.transaction(on=connection):
            await connection.execute(INSERT)
            shop.gator.task(note, "a")
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction(), shop.gator.transaction(on=connection):
                await connection.execute(INSERT)
                shop.gator.task(note, "b")
                raise ZeroDivisionError
        async with connection.transaction():
            await connection.execute(INSERT)
            with pytest.raises(KeyError):
                async with connection.transaction(), shop.gator.transaction(on=connection):
                    shop.gator.task(note, "c")
                    raise KeyError
            async with shop.gator.transaction(on=connection):
                shop.gator.task(note, "d")
        await connection.close()

    asyncio.run(main())

    assert shop.state() == (2, ["a", "d"])


@pytest.mark.parametrize("url", ["postgresql", SAME, "sqlite"], indirect=True)
def test_asynchronous_connection_of_sqlalchemy(shop: Shop, url: URL) -> None:
    driver = {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
    engine = create_async_engine(url.set(drivername=driver[url.get_backend_name()]))
    enlist(shop.gator, async_sessionmaker(engine))

    async def main() -> None:
        async with engine.begin() as connection:
            await connection.execute(text(INSERT))
            async with shop.gator.transaction(on=connection):
                shop.gator.task(note, "a")
        await engine.dispose()

    asyncio.run(main())

    assert shop.state() == (1, ["a"])


@pytest.mark.parametrize("url", ["mysql"], indirect=True)
def test_connection_of_pymysql(shop: Shop, url: URL) -> None:
    relay_from(shop, url)
    connection = connect(url)
    connection.begin()
    connection.cursor().execute(INSERT)
    with shop.gator.transaction(on=connection):
        shop.gator.task(note, "a")
    connection.commit()
    connection.begin()
    with shop.gator.transaction(on=connection):
        shop.gator.task(note, "b")
    connection.rollback()
    connection.close()

    assert shop.state() == (1, ["a"])


def test_plain_sqlite3_connection_beside_an_enlisted_session(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    engine = create_engine(make_url(f"sqlite:///{path}"))
    with Gator("locmem://") as gator:
        shop = Shop(engine, gator)
        enlist(gator, sessionmaker(engine))
        connection = sqlite3.connect(path)
        with connection:
            connection.execute(INSERT)
            with gator.transaction(on=connection):
                gator.task(note, "a")
        connection.close()

        assert shop.state() == (1, ["a"])
    engine.dispose()


def test_savepoint_of_a_plain_connection_discards(shop: Shop, url: URL) -> None:
    relay_from(shop, url)
    connection = connect(url)
    cursor = connection.cursor()
    cursor.execute(INSERT)
    cursor.execute("SAVEPOINT inner_part")
    with shop.gator.transaction(on=connection):
        shop.gator.task(note, "b")
    cursor.execute("ROLLBACK TO SAVEPOINT inner_part")
    with shop.gator.transaction(on=connection):
        shop.gator.task(note, "a")
    connection.commit()
    connection.close()

    assert shop.state() == (1, ["a"])


@pytest.mark.parametrize("url", ["postgresql", SAME], indirect=True)
def test_prepared_transaction_of_psycopg_hides_its_tasks(shop: Shop, url: URL) -> None:
    relay_from(shop, url)
    connection = connect(url)
    prepared = []
    for name, end in (("a", connection.tpc_commit), ("b", connection.tpc_rollback)):
        connection.tpc_begin(connection.xid(1, name, "shop"))
        connection.execute(INSERT)
        with shop.gator.transaction(on=connection):
            shop.gator.task(note, name)
        connection.tpc_prepare()
        prepared.append((shop.tasks(), shop.rows()))
        end()
    connection.close()

    assert prepared == [([], 0), (["a"], 1)]
    assert shop.rows() == 1


@pytest.mark.parametrize(("url", "driver"), ASYNCHRONOUS, indirect=["url"])
@pytest.mark.parametrize("moment", ["in the block", "before the commit"])
def test_cancelled_coroutine_leaves_neither_row_nor_task(
    shop: Shop, url: URL, driver: str, moment: str
) -> None:
    relay_from(shop, url)

    async def work(reached: asyncio.Event) -> None:
        connection = await aconnect(url, driver)
        try:
            await connection.execute("BEGIN")
            await connection.execute(INSERT)
            async with shop.gator.transaction(on=connection):
                shop.gator.task(note, "a")
                if moment == "in the block":
                    reached.set()
                    await asyncio.sleep(60)
            reached.set()
            await asyncio.sleep(60)
        finally:
            await connection.close()

    async def main() -> None:
        reached = asyncio.Event()
        task = asyncio.ensure_future(work(reached))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert shop.state() == (0, [])


@pytest.mark.parametrize(("url", "driver"), ASYNCHRONOUS, indirect=["url"])
def test_cancellation_at_any_moment_keeps_row_and_task_together(
    shop: Shop, url: URL, driver: str
) -> None:
    relay_from(shop, url)

    async def work(name: str, connected: asyncio.Event) -> None:
        connection = await aconnect(url, driver)
        try:
            connected.set()
            await connection.execute("BEGIN")
            await connection.execute(INSERT.replace("'a'", f"'{name}'"))
            async with shop.gator.transaction(on=connection):
                shop.gator.task(note, name)
            await connection.execute("COMMIT")
        finally:
            await connection.close()

    async def main() -> None:
        for number in range(12):
            connected = asyncio.Event()
            task = asyncio.ensure_future(work(str(number), connected))
            await connected.wait()
            await asyncio.sleep(number * 0.0005)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await work("last", asyncio.Event())

    asyncio.run(main())

    with shop.engine.connect() as database:
        rows = sorted(database.execute(text("SELECT name FROM orders")).scalars())
    assert rows == shop.tasks()
    assert "last" in rows
