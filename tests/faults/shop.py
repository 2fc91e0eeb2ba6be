"""Web applications with a database, whose web process is killed.

A request ``POST /?id=a`` inserts the row ``a`` and starts the task ``a``; in a savepoint it does so
with ``a-s``. ``fate=`` says how it ends. In the end each row must have its task, and each task its row.

The process forks children that serve, one after the other, and prints the port.
"""

import asyncio
import os
import socket
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aiosqlite
import asyncpg  # type: ignore[import-untyped]
import psycopg
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, MetaData, String, create_engine, event, make_url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from alligator import Gator
from flask_alligator import Alligator
from sqlalchemy_alligator import enlist, outbox_table
from starlette_alligator import AlligatorMiddleware
from tests.faults import tasks

KIND = os.environ.get("SHOP", "")
URL = os.environ.get("SHOP_DATABASE", "sqlite://")
"""The application's database."""

PLAIN_URL = URL.replace("+psycopg:", ":")
"""The same without the driver."""

ASYNC_DRIVER = os.environ.get("SHOP_ASYNC_DRIVER", "asyncpg")
"""The asynchronous driver for PostgreSQL."""

gator = Gator.from_env()


class Base(DeclarativeBase):
    """The tables of the applications."""


class Row(Base):
    """What exists if, and only if, its task does."""

    __tablename__ = "shop_rows"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)


OUTBOX = outbox_table(Base.metadata)


class GiveUpSavepoint(Exception):
    """Rolls a savepoint back."""


def start(name: str) -> None:
    """Start the task of a row."""
    with gator.options(task_id=name) as options:
        options.task(tasks.record)


def take(session: Session, name: str, fate: str) -> int:
    """Insert rows and start tasks; return the status of the response."""
    session.add(Row(id=name))
    session.flush()
    start(name)
    try:
        with session.begin_nested():
            session.add(Row(id=f"{name}-s"))
            session.flush()
            start(f"{name}-s")
            if fate == "savepoint":
                raise GiveUpSavepoint
    except GiveUpSavepoint:
        pass
    if fate == "rollback":
        session.rollback()
    else:
        session.commit()
    return 500 if fate == "500" else 201


def real_transactions(engine: Engine) -> Engine:
    """Have SQLite begin transactions itself, so that its savepoints work."""
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def connect(connection: Any, record: object) -> None:
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def fastapi_sync(*, enlisted: bool = True) -> Any:
    """Views in threads, with a session of SQLAlchemy."""
    make = sessionmaker(real_transactions(create_engine(URL)))
    if enlisted:
        enlist(gator, make)
    app = FastAPI()
    app.add_middleware(AlligatorMiddleware, gator=gator)

    @app.post("/")
    def order(id: str, fate: str) -> PlainTextResponse:
        with make() as session:
            return PlainTextResponse("", take(session, id, fate))

    return app


def not_enlisted() -> Any:
    """The same without `enlist`: the rows are committed before the tasks."""
    return fastapi_sync(enlisted=False)


def fastapi_async() -> Any:
    """Coroutines, with an asynchronous session."""
    url = make_url(URL)
    driver = {"sqlite": "aiosqlite", "postgresql": ASYNC_DRIVER}[url.get_backend_name()]
    engine = create_async_engine(url.set(drivername=f"{url.get_backend_name()}+{driver}"))
    real_transactions(engine.sync_engine)
    make = async_sessionmaker(engine)
    enlist(gator, make)
    app = FastAPI()
    app.add_middleware(AlligatorMiddleware, gator=gator)

    @app.post("/")
    async def order(id: str, fate: str) -> PlainTextResponse:
        async with make() as session:
            return PlainTextResponse("", await session.run_sync(take, id, fate))

    return app


def flask_sqlalchemy() -> Any:
    """Flask-SQLAlchemy in threads."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = URL
    db = SQLAlchemy(app, model_class=Base)
    Alligator(app, gator=gator)
    with app.app_context():
        enlist(gator, db.session)
        real_transactions(db.engine)

    @app.post("/")
    def order() -> tuple[str, int]:
        return "", take(db.session(), request.args["id"], request.args["fate"])

    return app


def plain_sqlite3() -> Any:
    """A connection of sqlite3, which is named."""
    path = str(make_url(URL).database)
    gator.relay_from(lambda: sqlite3.connect(path))
    app = FastAPI()
    app.add_middleware(AlligatorMiddleware, gator=gator)

    @contextmanager
    def connected() -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(path)
        try:
            yield connection
        finally:
            connection.close()

    @app.post("/")
    def order(id: str, fate: str) -> PlainTextResponse:
        with connected() as connection:
            try:
                with connection, gator.transaction(on=connection):
                    for name in (id, f"{id}-s"):
                        connection.execute("INSERT INTO shop_rows VALUES (?)", (name,))
                        start(name)
                    if fate == "rollback":
                        raise GiveUpSavepoint
            except GiveUpSavepoint:
                pass
        return PlainTextResponse("", 500 if fate == "500" else 201)

    return app


def django_atomic(*, enlisted: bool = True) -> Any:
    """Django's atomic()."""
    from tests.faults import django_shop  # has its settings, for a process of its own

    return django_shop.make(enlisted)


def django_not_enlisted() -> Any:
    """The same, where tasks wait for the response only."""
    return django_atomic(enlisted=False)


def plain_psycopg() -> Any:
    """A connection of psycopg, which is named, in the database of the store."""
    app = FastAPI()
    app.add_middleware(AlligatorMiddleware, gator=gator)

    @app.post("/")
    def order(id: str, fate: str) -> PlainTextResponse:
        with (
            psycopg.connect(PLAIN_URL, autocommit=True) as connection,
            suppress(GiveUpSavepoint),
            connection.transaction(),
        ):
            insert(connection, id)
            with suppress(GiveUpSavepoint), connection.transaction():
                insert(connection, f"{id}-s")
                if fate == "savepoint":
                    raise GiveUpSavepoint
            if fate == "rollback":
                raise GiveUpSavepoint
        return PlainTextResponse("", 500 if fate == "500" else 201)

    def insert(connection: Any, name: str) -> None:
        with gator.transaction(on=connection):
            connection.execute("INSERT INTO shop_rows VALUES (%s)", (name,))
            start(name)

    return app


def plain_asyncpg() -> Any:
    """The same with a connection of asyncpg and coroutines."""
    app = FastAPI()
    app.add_middleware(AlligatorMiddleware, gator=gator)

    @app.post("/")
    async def order(id: str, fate: str) -> PlainTextResponse:
        connection = await asyncpg.connect(PLAIN_URL)
        try:
            with suppress(GiveUpSavepoint):
                async with connection.transaction():
                    await insert(connection, id)
                    with suppress(GiveUpSavepoint):
                        async with connection.transaction():
                            await insert(connection, f"{id}-s")
                            if fate == "savepoint":
                                raise GiveUpSavepoint
                    if fate == "rollback":
                        raise GiveUpSavepoint
        finally:
            await connection.close()
        return PlainTextResponse("", 500 if fate == "500" else 201)

    async def insert(connection: Any, name: str) -> None:
        async with gator.transaction(on=connection):
            await connection.execute("INSERT INTO shop_rows VALUES ($1)", name)
            start(name)

    return app


def plain_aiosqlite() -> Any:
    """A connection of aiosqlite, which is named."""
    path = str(make_url(URL).database)
    gator.relay_from(lambda: sqlite3.connect(path))
    app = FastAPI()
    app.add_middleware(AlligatorMiddleware, gator=gator)

    @app.post("/")
    async def order(id: str, fate: str) -> PlainTextResponse:
        async with aiosqlite.connect(path) as connection:
            async with gator.transaction(on=connection):
                for name in (id, f"{id}-s"):
                    await connection.execute("INSERT INTO shop_rows VALUES (?)", (name,))
                    start(name)
            await (connection.rollback() if fate == "rollback" else connection.commit())
        return PlainTextResponse("", 500 if fate == "500" else 201)

    return app


APPS: dict[str, Callable[[], Any]] = {
    make.__name__: make
    for make in (
        *(fastapi_sync, not_enlisted, fastapi_async, flask_sqlalchemy, plain_sqlite3),
        *(django_atomic, django_not_enlisted),
        *(plain_psycopg, plain_asyncpg, plain_aiosqlite),
    )
}


def metadata() -> MetaData:
    """Return the tables, for the test that creates them."""
    return Base.metadata


def serve(app: Any, listener: socket.socket) -> None:
    """Serve until killed."""
    is_wsgi = isinstance(app, Flask) or KIND.startswith("django")
    config = uvicorn.Config(
        app, interface="wsgi" if is_wsgi else "asgi3", log_level="warning", lifespan="off"
    )
    run: Callable[..., Awaitable[None]] = uvicorn.Server(config).serve
    asyncio.run(run(sockets=[listener]))  # type: ignore[arg-type]


def main() -> None:
    """Fork a child that serves, and another one whenever it was killed."""
    app = APPS[KIND]()
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(f"running on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        child = os.fork()
        if child == 0:
            serve(app, listener)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    sys.modules["tests.faults.shop"] = sys.modules["__main__"]
    main()
elif KIND:
    APPS[KIND]()  # in a worker: its relay looks for what killed processes have left
