"""Tasks follow the transactions of an enlisted session, and those of its savepoints."""

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from alligator import CANCELED, DEFERRED, WAITING, Gator
from sqlalchemy_alligator import enlist
from tests.harness.databases import Order, Shop, note


@pytest.fixture
def make(shop: Shop) -> sessionmaker[Session]:
    """Return an enlisted sessionmaker."""
    maker = sessionmaker(shop.engine)
    enlist(shop.gator, maker)
    return maker


def test_task_is_queued_by_the_commit_of_its_session(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with make() as session:
        session.add(Order(name="a"))
        session.flush()
        task = shop.gator.task(note, "a")
        before = task.status, shop.gator.len(), shop.waiting()
        session.commit()

    assert before == (DEFERRED, 0, 0)
    assert task.status == WAITING
    assert shop.state() == (1, ["a"])


def test_task_is_discarded_by_the_rollback(shop: Shop, make: sessionmaker[Session]) -> None:
    with make() as session:
        session.add(Order(name="a"))
        session.flush()
        task = shop.gator.task(note, "a")
        session.rollback()

    assert task.status == CANCELED
    assert shop.state() == (0, [])


def test_exception_in_the_block_of_a_session_discards(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with pytest.raises(ZeroDivisionError), make.begin() as session:
        session.add(Order(name="a"))
        session.flush()
        shop.gator.task(note, "a")
        raise ZeroDivisionError

    assert shop.state() == (0, [])


def test_task_before_the_first_statement_is_queued_by_the_commit(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with make.begin() as session:
        shop.gator.task(note, "a")
        session.add(Order(name="a"))

    assert shop.state() == (1, ["a"])


def test_rollback_of_a_savepoint_discards_its_tasks_only(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with make() as session:
        session.add(Order(name="a"))
        session.flush()
        shop.gator.task(note, "before")
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            session.add(Order(name="b"))
            session.flush()
            shop.gator.task(note, "in")
            raise ZeroDivisionError
        shop.gator.task(note, "after")
        session.commit()

    assert shop.state() == (1, ["after", "before"])


def test_tasks_of_a_released_savepoint_follow_the_outer_transaction(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with make() as session:
        with session.begin_nested():
            session.add(Order(name="a"))
            shop.gator.task(note, "a")
        session.rollback()
        with session.begin_nested():
            session.add(Order(name="b"))
            shop.gator.task(note, "b")
        session.commit()

    assert shop.state() == (1, ["b"])


def test_savepoint_in_a_savepoint_is_discarded_with_the_outer_one(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with make() as session:
        session.add(Order(name="a"))
        session.flush()
        shop.gator.task(note, "a")
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            session.add(Order(name="b"))
            shop.gator.task(note, "b")
            with session.begin_nested():
                session.add(Order(name="c"))
                shop.gator.task(note, "c")
            raise ZeroDivisionError
        session.commit()

    assert shop.state() == (1, ["a"])


def test_rollback_of_all_with_an_open_savepoint_discards_all(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with make() as session:
        session.add(Order(name="a"))
        session.flush()
        shop.gator.task(note, "a")
        session.begin_nested()
        shop.gator.task(note, "b")
        session.rollback()

    assert shop.state() == (0, [])


def test_each_commit_of_a_session_queues_its_own_tasks(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with make() as session:
        session.add(Order(name="a"))
        shop.gator.task(note, "a")
        session.commit()
        session.add(Order(name="b"))
        shop.gator.task(note, "b")
        session.rollback()
        session.add(Order(name="c"))
        shop.gator.task(note, "c")
        session.commit()
        shop.gator.task(note, "d")

    assert shop.state() == (2, ["a", "c", "d"])


def test_commit_that_fails_in_its_flush_discards(shop: Shop, make: sessionmaker[Session]) -> None:
    with make.begin() as session:
        session.add(Order(id=7, name="a"))

    with pytest.raises(IntegrityError), make() as session:
        session.add(Order(id=7, name="b"))
        shop.gator.task(note, "b")
        session.commit()

    assert shop.state() == (1, [])


def test_hook_of_the_flush_may_start_tasks(shop: Shop, make: sessionmaker[Session]) -> None:
    from sqlalchemy import event

    def inserted(mapper: object, connection: object, order: Order) -> None:
        shop.gator.task(note, f"order {order.id}")

    event.listen(Order, "after_insert", inserted)
    try:
        with make.begin() as session:
            session.add(Order(id=3, name="a"))
    finally:
        event.remove(Order, "after_insert", inserted)

    assert shop.state() == (1, ["order 3"])


def test_scoped_session_is_enlisted(shop: Shop) -> None:
    sessions = scoped_session(sessionmaker(shop.engine))
    enlist(shop.gator, sessions)

    sessions.add(Order(name="a"))
    shop.gator.task(note, "a")
    sessions.commit()
    sessions.remove()

    assert shop.state() == (1, ["a"])


def test_class_of_sessions_is_enlisted(shop: Shop) -> None:
    class Own(Session):
        pass

    enlist(shop.gator, Own, bind=shop.engine)

    with Own(shop.engine) as session:
        session.add(Order(name="a"))
        shop.gator.task(note, "a")
        session.commit()

    assert shop.state() == (1, ["a"])


def test_sessions_of_another_database_are_not_enlisted(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    others = sessionmaker(shop.engine)

    with others() as session:
        session.execute(text("SELECT 1"))
        task = shop.gator.task(note, "a")
        session.rollback()

    assert task.status == WAITING


def test_transaction_that_was_begun_last_has_the_task(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with make() as first, make() as second:
        first.begin()
        second.begin()
        shop.gator.task(note, "second")
        second.rollback()
        second.close()
        shop.gator.task(note, "first")
        first.commit()

    assert shop.state() == (0, ["first"])


# Neither commit nor rollback.


def test_transaction_that_only_read_leaves_the_task_to_the_request(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with shop.gator.transaction():
        with make() as session:
            session.execute(text("SELECT 1"))
            shop.gator.task(note, "kept")
        during = shop.gator.len()
    with pytest.raises(ZeroDivisionError), shop.gator.transaction():
        with make() as session:
            session.execute(text("SELECT 1"))
            shop.gator.task(note, "discarded")
        raise ZeroDivisionError

    assert during == 0
    assert shop.state() == (0, ["kept"])


def test_task_of_a_reader_is_pushed_without_a_request(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with make() as session:
        session.execute(text("SELECT 1"))
        task = shop.gator.task(note, "a")

    assert task.status == WAITING
    assert shop.state() == (0, ["a"])


@pytest.mark.parametrize("how", ["flush", "insert", "text", "core", "pending"])
def test_transaction_that_wrote_and_was_closed_discards_with_one_line(
    shop: Shop, make: sessionmaker[Session], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with make() as session:
        shop.gator.task(note, "pushed: no transaction is open")
        session.begin()
        task = shop.gator.task(note, "a")
        if how == "text":
            session.execute(text("INSERT INTO orders (name) VALUES ('a')"))
        elif how == "insert":
            session.execute(insert(Order), [{"name": "a"}])
        elif how == "core":
            session.connection().exec_driver_sql("INSERT INTO orders (name) VALUES ('a')")
        else:
            session.add(Order(name="a"))
        if how == "flush":
            session.flush()

    assert task.status == CANCELED
    assert shop.state() == (0, ["pushed: no transaction is open"])
    [record] = [each for each in caplog.records if "discarded 1 task" in each.getMessage()]
    assert "closed without a commit" in record.getMessage()


def test_response_that_fails_does_not_discard_what_the_database_committed(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with pytest.raises(ZeroDivisionError), shop.gator.transaction():
        shop.gator.task(note, "before")
        with make() as session:
            session.add(Order(name="a"))
            shop.gator.task(note, "in")
            session.commit()
        shop.gator.task(note, "after")
        raise ZeroDivisionError

    assert shop.state() == (1, ["in"])


def test_immediate_and_always_do_not_follow_the_database(
    shop: Shop, make: sessionmaker[Session]
) -> None:
    with shop.gator.transaction(), make() as session:
        session.add(Order(name="a"))
        shop.gator.options(immediate=True).task(note, "immediate")
        shop.gator.options(always=True).task(note, "always")
        session.rollback()

    assert shop.state() == (0, ["always", "immediate"])


def test_held_task_can_be_cancelled(shop: Shop, make: sessionmaker[Session]) -> None:
    with make() as session:
        session.add(Order(name="a"))
        task = shop.gator.task(note, "a")
        shop.gator.task(note, "b")
        found = shop.gator.cancel(task.task_id)
        session.commit()

    assert found is task
    assert shop.state() == (1, ["b"])


def test_gator_without_enlisted_sessions_has_no_relay() -> None:
    with Gator("locmem://") as gator:
        assert (gator.enlisters, gator.relays) == ([], [])
