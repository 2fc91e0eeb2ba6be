"""Which of the two ways a commit takes: the tables of the store, or the outbox."""

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from alligator import DUPLICATE, WAITING, Gator, Worker
from alligator.cli.latergator import main
from alligator.exceptions import ConfigurationError
from sqlalchemy_alligator import enlist
from tests.harness.databases import OUTBOX, Base, Order, Shop, note
from tests.harness.postgres_servers import postgres_server
from tests.harness.programs import eventually
from tests.integrations.sqlalchemy_alligator.conftest import SAME

same = pytest.mark.parametrize("url", [SAME], indirect=True)


@pytest.fixture
def make(shop: Shop) -> sessionmaker[Session]:
    """Return an enlisted sessionmaker."""
    maker = sessionmaker(shop.engine)
    enlist(shop.gator, maker)
    return maker


def order(make: sessionmaker[Session], gator: Gator, name: str) -> None:
    """Commit a row with its task."""
    with make.begin() as session:
        session.add(Order(name=name))
        gator.task(note, name)


@same
def test_task_is_on_the_queue_when_the_commit_returns(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    order(make, shop.gator, "a")

    assert shop.gator.len() == 1


@same
def test_duplicate_is_reported_after_the_commit(shop: Shop, make: sessionmaker[Session]) -> None:
    task_id = uuid4().hex
    with make.begin():
        first = shop.gator.options(task_id=task_id).task(note, "a")
    with make.begin() as session:
        with shop.gator.options(task_id=task_id) as options:
            second = options.task(note, "b")
        session.add(Order(name="b"))
        before = second.status
    with shop.engine.begin() as connection, shop.gator.transaction(on=connection):
        third = shop.gator.options(task_id=task_id).task(note, "c")

    assert (first.status, second.status, third.status) == (WAITING, DUPLICATE, DUPLICATE)
    assert before != DUPLICATE
    assert shop.state() == (1, ["a"])


@same
def test_rows_of_a_connection_may_be_of_any_kind(shop: Shop, url: URL) -> None:
    from psycopg.rows import dict_row, scalar_row

    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    kinds: list[tuple[str, Any]] = [("a", dict_row), ("b", scalar_row)]
    for name, row_factory in kinds:
        with psycopg.connect(dsn, row_factory=row_factory) as connection:
            connection.execute("INSERT INTO orders (name) VALUES ('a')")
            with shop.gator.transaction(on=connection):
                shop.gator.task(note, name)

    assert shop.state() == (2, ["a", "b"])


@same
def test_statements_of_a_pipeline_and_their_tasks_are_one(shop: Shop, url: URL) -> None:
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn) as connection, connection.pipeline(), connection.transaction():
        connection.execute("INSERT INTO orders (name) VALUES ('a')")
        with shop.gator.transaction(on=connection):
            shop.gator.task(note, "a")

    assert shop.state() == (1, ["a"])


@same
def test_thread_that_wakes_workers_ends_with_the_gator(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    before = threading.enumerate()
    order(make, shop.gator, "a")
    shop.gator.close()

    started = [each for each in threading.enumerate() if each not in before]
    assert not [each for each in started if each.name == "alligator-wake"]


@same
def test_sleeping_worker_is_woken_by_the_commit(
    shop: Shop, make: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from alligator.backends.postgres_backend import waiting

    monkeypatch.setattr(waiting, "WAIT_SECONDS", 60.0)
    client = shop.gator.client
    client.ping()
    with ThreadPoolExecutor() as pool:
        found = pool.submit(client.wait_then_step, ["all"], 60.0, 1)
        with shop.engine.connect() as connection:
            asleep = text("SELECT count(*) FROM pg_locks WHERE classid = 1634494569")
            eventually(lambda: connection.execute(asleep).scalar_one())
        order(make, shop.gator, "a")
        step = found.result(60)

    assert len(step.leases) == 1


@same
def test_relay_ends_and_a_worker_needs_no_outbox(
    shop: Shop, make: sessionmaker[Session], caplog: pytest.LogCaptureFixture
) -> None:
    order(make, shop.gator, "a")
    [relay] = shop.gator.relays
    eventually(lambda: not any(each._thread and each._thread.is_alive() for each in [relay]))
    worker = Worker(shop.gator, max_tasks=1)
    status = worker.run_forever()

    assert status == 0
    assert relay.problem is None
    assert shop.gator.len() == 0
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


@same
def test_rows_of_an_earlier_outbox_are_still_relayed(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    OUTBOX.create(shop.engine)
    shop.has_outbox = True
    statement = text("INSERT INTO alligator_outbox (commit_id, at, data) VALUES ('old', 0, :data)")
    task = shop.gator.task_class()
    task.to_call(note, "left")
    data = json.dumps([["all", "x", shop.gator.guard.write(task, "all"), 0]])
    with shop.engine.begin() as connection:
        connection.execute(statement, {"data": data})
    order(make, shop.gator, "a")

    assert shop.state() == (1, ["a", "left"])


@same
def test_status_says_that_no_outbox_is_needed(
    shop: Shop, url: URL, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from click.testing import CliRunner

    monkeypatch.setattr(
        "tests.integrations.sqlalchemy_alligator.test_same_server.gator", shop.gator
    )
    enlist(shop.gator, sessionmaker(shop.engine))
    result = CliRunner().invoke(
        main, ["outbox", "status", "--app", f"{__name__}:gator"], catch_exceptions=False
    )

    assert result.output == ("alligator_outbox: not needed, the store is in the same database\n")


gator: Gator | None = None


# A store that is not the one of the connection.


@pytest.fixture
def copied(postgres: str) -> Iterator[tuple[Engine, Gator]]:
    """Return an engine of a copy of the store's database, and a gator of the store itself."""
    name = f"original_{uuid4().hex[:8]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        dsn = f"{postgres.rpartition('/')[0]}/{name}"
        with Gator(dsn) as store:
            store.client.ping()
            store.client.close()
            connection.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}".encode())
            engine = create_engine(make_url(f"{dsn}_copy").set(drivername="postgresql+psycopg"))
            yield engine, store
            engine.dispose()
        for each in (name, f"{name}_copy"):
            connection.execute(f"DROP DATABASE {each} WITH (FORCE)".encode())


def test_application_in_a_copy_of_the_database_uses_its_outbox(
    copied: tuple[Engine, Gator],
) -> None:
    engine, store = copied
    shop = Shop(engine, store)
    make = sessionmaker(engine)
    enlist(store, make)
    order(make, store, "a")
    with engine.connect() as connection:
        copy = connection.execute(text("SELECT count(*) FROM alligator.task")).scalar_one()

    assert copy == 0
    assert shop.state() == (1, ["a"])


def test_missing_outbox_says_that_the_store_is_elsewhere(copied: tuple[Engine, Gator]) -> None:
    engine, store = copied
    Base.metadata.create_all(engine)
    OUTBOX.drop(engine)
    make = sessionmaker(engine)
    enlist(store, make)

    with pytest.raises(ConfigurationError, match="because the store is in another database"):
        order(make, store, "a")
    with (
        pytest.raises(ConfigurationError, match="because the store is in another database"),
        engine.begin() as connection,
        store.transaction(on=connection),
    ):
        store.task(note, "a")


@pytest.fixture
def web(postgres: str, shop: Shop) -> Iterator[Engine]:
    """Return an engine of a role that may not use the schema of the store."""
    role = f"web_{uuid4().hex[:8]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN".encode())
        for grant in ("INSERT, SELECT ON orders", "USAGE ON SEQUENCE orders_id_seq"):
            connection.execute(f"GRANT {grant} TO {role}".encode())
        engine = create_engine(
            make_url(postgres).set(drivername="postgresql+psycopg", username=role)
        )
        yield engine
        shop.gator.close()  # before its relay is denied the database
        engine.dispose()
        connection.execute(f"DROP OWNED BY {role}".encode())
        connection.execute(f"DROP ROLE {role}".encode())


@same
def test_role_without_the_right_is_said_what_to_grant(
    shop: Shop, web: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    make = sessionmaker(web)
    enlist(shop.gator, make)
    shop.gator.client.ping()
    role = str(web.url.username)

    with pytest.raises(ConfigurationError, match=f'GRANT USAGE ON SCHEMA "alligator" TO {role}'):
        order(make, shop.gator, "a")
    assert shop.rows() == 0
    shop.gator.close()
    caplog.clear()  # its relay may have missed the table, too


@same
def test_role_with_the_right_to_use_the_schema_writes(shop: Shop, web: Engine) -> None:
    shop.gator.client.ping()
    with shop.engine.begin() as connection:
        connection.execute(text(f"GRANT USAGE ON SCHEMA alligator TO {web.url.username}"))
    make = sessionmaker(web)
    enlist(shop.gator, make)
    order(make, shop.gator, "a")

    assert shop.state() == (1, ["a"])


@same
def test_role_without_the_right_uses_its_outbox(shop: Shop, web: Engine) -> None:
    OUTBOX.create(shop.engine)
    shop.has_outbox = True
    with shop.engine.begin() as connection:
        connection.execute(text(f"GRANT ALL ON alligator_outbox TO {web.url.username}"))
        grant = f"GRANT ALL ON SEQUENCE alligator_outbox_id_seq TO {web.url.username}"
        connection.execute(text(grant))
    shop.gator.client.ping()
    make = sessionmaker(web)
    enlist(shop.gator, make)
    order(make, shop.gator, "a")

    assert shop.state() == (1, ["a"])


def test_restart_of_the_server_changes_nothing() -> None:
    with postgres_server() as server, Gator(server.dsn) as store:
        engine = create_engine(
            make_url(server.dsn).set(drivername="postgresql+psycopg"), pool_pre_ping=True
        )
        shop = Shop(engine, store, has_outbox=False)
        make = sessionmaker(engine)
        enlist(store, make)
        order(make, store, "a")
        server.stop()
        server.start()
        order(make, store, "b")

        assert shop.state() == (2, ["a", "b"])
        engine.dispose()
