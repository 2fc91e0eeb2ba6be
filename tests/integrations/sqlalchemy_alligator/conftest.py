"""A database for each test, of each kind in turn."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, event, inspect, make_url, text

from alligator import Gator
from tests.harness.databases import Base, Shop
from tests.harness.mysql_servers import mysql_server
from tests.harness.postgres_servers import postgres_server
from tests.harness.requirements import needed

SAME = "postgresql-same"
"""The application's database is that of the store: its commits need no outbox."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Give the DSN of a PostgreSQL that runs as long as the tests do."""
    with needed(), postgres_server(max_prepared_transactions="5") as server:
        yield server.dsn


@pytest.fixture(scope="session")
def mysql() -> Iterator[str]:
    """Give the URL of a MariaDB that runs as long as the tests do."""
    with needed(), mysql_server() as server:
        yield server.url


def empty_database(request: pytest.FixtureRequest, dialect: str, folder: Path) -> URL:
    """Return the URL of an empty database."""
    if dialect == "sqlite":
        return make_url(f"sqlite:///{folder / 'shop.db'}")
    if dialect.startswith("postgresql"):
        found = make_url(request.getfixturevalue("postgres")).set(drivername="postgresql+psycopg")
    else:
        found = make_url(request.getfixturevalue("mysql"))
    engine = create_engine(found)
    Base.metadata.drop_all(engine)
    with engine.begin() as connection:
        if dialect == SAME and inspect(connection).has_table("task", "alligator"):
            connection.execute(text("TRUNCATE alligator.task, alligator.tally"))
    engine.dispose()
    return found


@pytest.fixture(params=["sqlite", "postgresql", SAME, "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """Name an empty database."""
    return empty_database(request, request.param, tmp_path)


def real_transactions(engine: Engine) -> None:
    """Have SQLite begin transactions itself, so that its savepoints work."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")


@pytest.fixture
def shop(
    url: URL, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[Shop]:
    """Return a shop with a database of each kind, whose relay must not fail."""
    engine = create_engine(url)
    real_transactions(engine)
    values = request.node.callspec.params.values()
    is_same = any(str(value).startswith(SAME) for value in values)
    with Gator(request.getfixturevalue("postgres") if is_same else "locmem://") as gator:
        yield Shop(engine, gator, has_outbox=not is_same)
    engine.dispose()
    assert "cannot be relayed" not in caplog.text
