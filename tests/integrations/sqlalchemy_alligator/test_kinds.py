"""Other sessions and transactions: two phases, bulk statements, several databases."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from alligator import CANCELED, SUCCESS, WAITING, Gator
from alligator.exceptions import ConfigurationError
from alligator.testing import capture, sync
from sqlalchemy_alligator import enlist
from tests.harness.databases import Order, Shop, note
from tests.integrations.sqlalchemy_alligator.conftest import SAME


@pytest.fixture
def make(shop: Shop) -> sessionmaker[Session]:
    """Return an enlisted sessionmaker."""
    maker = sessionmaker(shop.engine)
    enlist(shop.gator, maker)
    return maker


# Sessions.


@pytest.mark.parametrize("url", ["postgresql", SAME, "mysql"], indirect=True)
def test_prepared_transaction_hides_its_tasks_until_its_commit(shop: Shop) -> None:
    make = sessionmaker(shop.engine, twophase=True)
    enlist(shop.gator, make)

    with make() as session:
        session.add(Order(name="a"))
        session.flush()
        shop.gator.task(note, "a")
        session.prepare()
        prepared = shop.waiting(), shop.gator.len()
        session.commit()
    with make() as session:
        session.add(Order(name="b"))
        session.flush()
        shop.gator.task(note, "b")
        session.prepare()
        session.rollback()

    assert prepared == (0, 0)
    assert shop.state() == (1, ["a"])


def test_bulk_statement_and_its_tasks_are_committed_together(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with make.begin() as session:
        session.execute(insert(Order), [{"name": "a"}, {"name": "b"}])
        for name in ("a", "b"):
            shop.gator.task(note, name)

    assert shop.state() == (2, ["a", "b"])


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_session_of_several_databases_names_that_of_the_outbox(shop: Shop, tmp_path: Path) -> None:
    class OtherBase(DeclarativeBase):
        pass

    class Other(OtherBase):
        __tablename__ = "others"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    other = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    OtherBase.metadata.create_all(other)
    unnamed = sessionmaker(binds={Order: shop.engine, Other: other})
    enlist(shop.gator, unnamed)
    with pytest.raises(ConfigurationError, match="bind=engine"), unnamed() as session:
        session.add(Order(name="a"))

    shop.gator.enlisters.clear()
    named = sessionmaker(binds={Order: shop.engine, Other: other})
    enlist(shop.gator, named, bind=shop.engine)
    with named.begin() as session:
        session.add_all([Order(name="a"), Other(name="b")])
        shop.gator.task(note, "a")
    other.dispose()

    assert shop.state() == (1, ["a"])


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_sessions_of_sqlmodel_are_enlisted(shop: Shop) -> None:
    import sqlmodel

    class Own(sqlmodel.Session):
        pass

    enlist(shop.gator, Own, bind=shop.engine)
    with Own(shop.engine) as session:
        session.add(Order(name="a"))
        shop.gator.task(note, "a")
        session.commit()

    assert shop.state() == (1, ["a"])


@pytest.mark.parametrize("wrong", [None, "Session", Session(), AsyncSession, object])
def test_wrong_sessions_are_refused(wrong: object) -> None:
    with Gator("locmem://") as gator, pytest.raises(ConfigurationError, match="sessionmaker"):
        enlist(gator, wrong)


def test_other_async_sessions_are_not_enlisted(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    with Gator("locmem://") as gator:
        enlist(gator, async_sessionmaker(engine))
        with Session() as session:
            session.begin()

            assert gator.task(note, "a").status == WAITING


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_capture_and_sync_follow_the_database(shop: Shop, make: sessionmaker[Session]) -> None:
    with capture() as tasks:
        with make.begin() as session:
            session.add(Order(name="a"))
            shop.gator.task(note, "a")
            tasks.assert_not_pushed()
        with make() as session:
            session.add(Order(name="b"))
            shop.gator.task(note, "b")
            session.rollback()
    with sync():
        with make.begin() as session:
            session.add(Order(name="c"))
            ran = shop.gator.task(note, "c")
        with make() as session:
            session.add(Order(name="d"))
            discarded = shop.gator.task(note, "d")
            session.rollback()

    tasks.assert_pushed(note, args=["a"], times=1)
    tasks.assert_not_pushed(note, args=["b"])
    assert (ran.status, discarded.status) == (SUCCESS, CANCELED)
    assert shop.waiting() == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_inline_task_sees_the_row_and_may_use_the_session(shop: Shop) -> None:
    from sqlalchemy.orm import scoped_session

    global sessions
    sessions = scoped_session(sessionmaker(shop.engine))
    enlist(shop.gator, sessions)
    with sync():
        sessions.add(Order(name="a"))
        task = shop.gator.task(count_orders)
        sessions.commit()
    sessions.remove()

    assert task.result == 1


sessions: Any = None


def count_orders() -> int:
    """Return the number of orders, in the session of the thread."""
    return int(sessions.execute(text("SELECT count(*) FROM orders")).scalar_one())


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_database_in_memory_needs_no_table(shop: Shop) -> None:
    from sqlalchemy.pool import StaticPool

    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    Order.__table__.create(engine)  # type: ignore[attr-defined]
    make = sessionmaker(engine)
    enlist(shop.gator, make)
    with make.begin() as session:
        session.add(Order(name="a"))
        shop.gator.task(note, "a")
        before = shop.gator.len()
    with make() as session:
        session.add(Order(name="b"))
        shop.gator.task(note, "b")
        session.rollback()
    engine.dispose()

    assert (before, shop.gator.len()) == (0, 1)


def test_session_bound_to_a_connection_follows_the_transaction_of_that(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    for end in ("rollback", "commit"):
        with shop.engine.connect() as connection:
            outer = connection.begin()
            with make(bind=connection) as session:
                session.add(Order(name=end))
                session.flush()
                shop.gator.task(note, end)
                session.commit()
            before = shop.gator.len()
            getattr(outer, end)()

        assert before == 0

    assert shop.state() == (1, ["commit"])


@pytest.mark.parametrize("url", ["mysql", "postgresql"], indirect=True)
def test_inserts_of_the_application_do_not_wait_for_a_relay(shop: Shop) -> None:
    from alligator.commits.relay import Relay

    enlist(shop.gator, sessionmaker(shop.engine))
    [relay] = shop.gator.relays
    assert isinstance(relay, Relay)
    make = sessionmaker(shop.engine)
    quick = {"mysql": "SET innodb_lock_wait_timeout = 1", "postgresql": "SET lock_timeout = 1000"}
    write = text("INSERT INTO alligator_outbox (commit_id, at, data) VALUES (:id, 0, '[]')")
    with make.begin() as session:
        for number in range(3):
            session.execute(write, {"id": f"a{number}"})

    with relay.outbox.claimed(64, 0.0) as rows, make() as session:
        session.execute(text(quick[shop.engine.dialect.name]))
        session.execute(write, {"id": "b"})  # behind the last row that the relay has locked
        session.commit()

    assert len(rows) == 3
    relay.outbox.close()
