"""Tasks that are started in ``atomic()`` follow its transaction."""

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import DatabaseError, connections, transaction
from django.test.utils import CaptureQueriesContext

from alligator import CANCELED, DEFERRED, SUCCESS, WAITING, Gator
from alligator.exceptions import ConfigurationError
from alligator.testing import capture, sync
from django_alligator.enlisting import enlist
from tests.harness.django_databases import (
    USING,
    Broken,
    Shop,
    add_database,
    create_outbox,
    fail,
    note,
    note_later,
)
from tests.harness.programs import eventually

sqlite_only = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)


def test_task_is_queued_by_the_commit(shop: Shop) -> None:
    with transaction.atomic(USING):
        shop.insert("a")
        task = shop.gator.task(note, "a")
        before = shop.gator.len(), shop.count("alligator_outbox"), task.status

    assert before == (0, 0, DEFERRED)
    assert task.status == WAITING
    assert shop.state() == (1, ["a"])


def test_rollback_discards_the_task(shop: Shop) -> None:
    with pytest.raises(Broken), transaction.atomic(USING):
        shop.insert("a")
        task = shop.gator.task(note, "a")
        raise Broken

    assert task.status == CANCELED
    assert shop.state() == (0, [])


def test_savepoint_takes_its_own_tasks_along(shop: Shop) -> None:
    with transaction.atomic(USING):
        shop.order("outer")
        with pytest.raises(Broken), transaction.atomic(USING):
            shop.insert("inner")
            inner = shop.gator.task(note, "inner")
            raise Broken
        status = inner.status
        with transaction.atomic(USING):
            shop.order("second")
        shop.order("last")

    assert status == CANCELED
    assert shop.state() == (3, ["last", "outer", "second"])


def test_savepoint_made_by_hand_takes_its_tasks_along(shop: Shop) -> None:
    with transaction.atomic(USING):
        shop.order("outer")
        savepoint = str(shop.connection.savepoint())
        shop.order("inner")
        shop.connection.savepoint_rollback(savepoint)
        kept = str(shop.connection.savepoint())
        shop.order("kept")
        shop.connection.savepoint_commit(kept)

    assert shop.state() == (2, ["kept", "outer"])


def test_set_rollback_discards_tasks_before_and_after_it(shop: Shop) -> None:
    with transaction.atomic(USING):
        shop.insert("a")
        before = shop.gator.task(note, "before")
        transaction.set_rollback(True, USING)
        after = shop.gator.task(note, "after")  # a statement would be refused

    assert (before.status, after.status) == (CANCELED, CANCELED)
    assert shop.state() == (0, [])


def test_rollback_that_is_taken_back_leaves_the_task_to_the_end(shop: Shop) -> None:
    with transaction.atomic(USING):
        transaction.set_rollback(True, USING)
        task = shop.gator.task(note, "a")
        transaction.set_rollback(False, USING)

    assert task.status == WAITING
    assert shop.state() == (0, ["a"])


def test_durable_block_and_block_without_savepoint_commit_tasks(shop: Shop) -> None:
    with transaction.atomic(USING, durable=True):
        shop.order("a")
        with transaction.atomic(USING, savepoint=False):
            shop.order("b")

    assert shop.state() == (2, ["a", "b"])


def test_failure_without_a_savepoint_discards_all(shop: Shop) -> None:
    with transaction.atomic(USING):
        first = shop.gator.task(note, "a")
        with pytest.raises(Broken), transaction.atomic(USING, savepoint=False):
            shop.order("b")
            raise Broken
        last = shop.gator.task(note, "c")

    assert (first.status, last.status) == (CANCELED, CANCELED)
    assert shop.state() == (0, [])


def test_task_outside_of_a_transaction_is_pushed_at_once(shop: Shop) -> None:
    shop.insert("a")
    task = shop.gator.task(note, "a")

    assert (task.status, shop.gator.len()) == (WAITING, 1)


def test_task_outside_of_a_transaction_waits_for_that_of_the_gator(shop: Shop) -> None:
    with shop.gator.transaction() as tx:
        with transaction.atomic(USING):
            shop.order("in")
        outside = shop.gator.task(note, "out")
        tx.doom()

    assert outside.status == CANCELED
    assert shop.state() == (1, ["in"])


@sqlite_only
def test_task_of_an_on_commit_callback_is_pushed_after_the_commit(shop: Shop) -> None:
    with transaction.atomic(USING):
        transaction.on_commit(lambda: shop.order("a"), using=USING)
        before = shop.gator.len()
    with pytest.raises(Broken), transaction.atomic(USING):
        transaction.on_commit(lambda: shop.order("b"), using=USING)
        raise Broken

    assert (before, shop.gator.len(), shop.state()) == (0, 1, (1, ["a"]))


def test_immediate_and_always_tasks_do_not_follow(shop: Shop) -> None:
    with pytest.raises(Broken), transaction.atomic(USING):
        with shop.gator.options(immediate=True) as options:
            options.task(note, "now")
        with shop.gator.options(always=True) as options:
            options.task(note, "always")
        raise Broken

    assert shop.state() == (0, ["always", "now"])


def test_delay_counts_from_the_call(shop: Shop) -> None:
    with transaction.atomic(USING), shop.gator.options(delay_by=60) as options:
        task = options.task(note, "later")
    shop.tasks()

    [waiting] = [shop.gator.stats()]
    assert waiting.scheduled == 1
    assert task.delay_until is not None


def test_canceled_task_is_not_queued(shop: Shop) -> None:
    with transaction.atomic(USING):
        shop.order("a")
        task = shop.gator.task(note, "b")
        found = shop.gator.cancel(task.task_id)

    assert found is task
    assert task.status == CANCELED
    assert shop.state() == (1, ["a"])


def test_closed_connection_discards_the_task(shop: Shop) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(USING):
        task = shop.gator.task(note, "a")
        shop.connection.close()
        status = task.status
        shop.insert("b")
    with transaction.atomic(USING):
        shop.order("c")

    assert status == CANCELED
    assert shop.state() == (1, ["c"])


def test_transaction_committed_by_hand_queues_its_tasks(shop: Shop) -> None:
    transaction.set_autocommit(False, USING)
    shop.order("a")
    transaction.commit(USING)
    shop.order("b")
    transaction.rollback(USING)
    with transaction.atomic(USING):
        shop.order("c")
    transaction.commit(USING)
    transaction.set_autocommit(True, USING)

    assert shop.state() == (2, ["a", "c"])


@sqlite_only
def test_block_in_a_transaction_by_hand_does_not_end_it(shop: Shop) -> None:
    transaction.set_autocommit(False, USING)
    with transaction.atomic(USING):
        shop.insert("a")
        task = shop.gator.task(note, "a")
    transaction.commit(USING)
    transaction.rollback(USING)  # drops the callbacks of on_commit, which Django has not called
    state = shop.state()
    transaction.set_autocommit(True, USING)

    assert (task.status, state) == (WAITING, (1, ["a"]))


@sqlite_only
def test_tasks_before_a_transaction_begins_by_hand_wait(shop: Shop) -> None:
    transaction.set_autocommit(False, USING)
    task = shop.gator.task(note, "a")
    transaction.set_autocommit(True, USING)

    assert (task.status, shop.gator.len()) == (WAITING, 1)


# A connection that is named.


def test_tasks_of_a_named_connection_are_written_together(shop: Shop) -> None:
    with transaction.atomic(USING):
        shop.insert("a")
        with (
            CaptureQueriesContext(shop.connection) as statements,
            shop.gator.transaction(on=connections[USING]),
        ):
            tasks = [shop.gator.task(note, f"{number}") for number in range(10)]
        held = {task.status for task in tasks}

    assert (len(statements), held) == (1, {DEFERRED})
    assert shop.state() == (1, [f"{number}" for number in range(10)])
    assert {task.status for task in tasks} == {WAITING}


def test_failed_block_on_a_named_connection_discards_its_tasks(shop: Shop) -> None:
    with transaction.atomic(USING):
        shop.order("kept")
        with pytest.raises(Broken), shop.gator.transaction(on=connections[USING]):
            shop.gator.task(note, "a")
            raise Broken
        with pytest.raises(Broken), transaction.atomic(USING):
            with shop.gator.transaction(on=connections[USING]):
                shop.order("b")
            raise Broken

    assert shop.state() == (1, ["kept"])


def test_task_canceled_among_several_is_not_queued(shop: Shop) -> None:
    with transaction.atomic(USING):
        with shop.gator.transaction(on=connections[USING]):
            tasks = [shop.gator.task(note, name) for name in "abc"]
        assert shop.gator.cancel(tasks[1].task_id) is tasks[1]

    assert [task.status for task in tasks] == [WAITING, CANCELED, WAITING]
    assert shop.state() == (0, ["a", "c"])


@sqlite_only
def test_named_connection_needs_a_transaction(shop: Shop) -> None:
    with (
        pytest.raises(ConfigurationError, match="No transaction is open"),
        shop.gator.transaction(on=connections[USING]),
    ):
        shop.gator.task(note, "a")


def test_named_connection_of_a_transaction_by_hand_has_the_tasks(shop: Shop) -> None:
    transaction.set_autocommit(False, USING)
    with shop.gator.transaction(on=connections[USING]):
        shop.order("a")
    transaction.commit(USING)
    transaction.set_autocommit(True, USING)

    assert shop.state() == (1, ["a"])


# Several databases.


@pytest.fixture
def other(shop: Shop, tmp_path: Path) -> Iterator[str]:
    """Add a second database that has an outbox, which is not enlisted."""
    connection = add_database(
        "other", ENGINE="django.db.backends.sqlite3", NAME=str(tmp_path / "other.db")
    )
    create_outbox("other")
    yield "other"
    connection.close()


@sqlite_only
def test_database_that_is_not_enlisted_has_no_say(shop: Shop, other: str) -> None:
    with pytest.raises(Broken), transaction.atomic(other):
        shop.gator.task(note, "a")
        raise Broken

    assert shop.state() == (0, ["a"])


@sqlite_only
def test_each_enlisted_database_has_its_own_tasks(shop: Shop, other: str) -> None:
    enlist(shop.gator, other)
    with transaction.atomic(other):
        shop.gator.task(note, "other")
    with pytest.raises(Broken), transaction.atomic(other), transaction.atomic(USING):
        shop.gator.task(note, "first")  # that of the database that was enlisted first
        raise Broken
    with transaction.atomic(USING), pytest.raises(Broken), transaction.atomic(other):
        with shop.gator.transaction(on=connections[other]):
            shop.gator.task(note, "named")
        raise Broken
    eventually(lambda: shop.gator.len() == 1)

    assert shop.state() == (0, ["other"])


@sqlite_only
def test_database_that_the_settings_do_not_have_is_refused(shop: Shop) -> None:
    with pytest.raises(ConfigurationError, match="no database 'absent'"):
        enlist(shop.gator, "absent")


@sqlite_only
def test_project_without_a_database_has_no_relay(shop: Shop) -> None:
    add_database("nothing", ENGINE="django.db.backends.dummy")
    enlist(shop.gator, "nothing")

    assert len(shop.gator.relays) == 1


# What can be wrong.


def test_missing_table_is_named_with_the_way_to_create_it(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    with shop.connection.cursor() as cursor:
        cursor.execute("DROP TABLE alligator_outbox")

    with (
        pytest.raises(ConfigurationError, match="migrate django_alligator --database shop"),
        transaction.atomic(USING),
    ):
        shop.order("a")

    assert shop.count("orders") == 0


@pytest.mark.parametrize("shop", ["postgresql"], indirect=True)  # it alone breaks transactions
def test_broken_transaction_refuses_a_task_like_a_statement(shop: Shop) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(USING):
        with pytest.raises(DatabaseError):
            shop.connection.cursor().execute("SELECT nonsense")
        shop.gator.task(note, "a")

    assert shop.state() == (0, [])


def test_commit_that_the_database_refuses_discards_the_task(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise DatabaseError("serialization failure")

    with pytest.raises(DatabaseError), transaction.atomic(USING):
        shop.insert("a")
        task = shop.gator.task(note, "a")
        monkeypatch.setattr(shop.connection, "_commit", refuse)

    monkeypatch.undo()
    assert task.status == CANCELED


def test_program_that_ends_after_its_commit_pushes_the_task(shop: Shop) -> None:
    with transaction.atomic(USING):
        shop.order("a")
    shop.gator.relays[0].close()  # as at the end of the process

    assert shop.gator.len() == 1


# Threads and coroutines.


def test_threads_have_transactions_of_their_own(shop: Shop) -> None:
    begun, ended = Event(), Event()

    def roll_back() -> None:
        with suppress(Broken), transaction.atomic(USING):
            shop.gator.task(note, "thread")
            begun.set()
            ended.wait(30)
            raise Broken
        connections[USING].close()

    thread = Thread(target=roll_back)
    thread.start()
    begun.wait(30)
    shop.gator.task(note, "at once")
    number = shop.gator.len()
    ended.set()
    thread.join()

    assert number == 1
    assert shop.state() == (0, ["at once"])


@sqlite_only
def test_coroutine_follows_the_transaction_of_its_thread_calls(shop: Shop) -> None:
    def create(name: str) -> None:
        with transaction.atomic(USING):
            shop.order(name)
            if name == "b":
                raise Broken

    async def view() -> None:
        shop.gator.task(note, "loop")
        await sync_to_async(create)("a")
        with suppress(Broken):
            await sync_to_async(create)("b")
        await sync_to_async(lambda: connections[USING].close())()

    async_to_sync(view)()

    assert shop.state() == (1, ["a", "loop"])


# Tasks that are not queued.


@pytest.mark.parametrize("mode", ["switch", "sync", "capture"])
def test_task_that_is_not_queued_follows_the_commit(
    shop: Shop, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr("tests.harness.django_databases.NOTED", ran)
    shop.gator.is_async = mode != "switch"
    context: Any = {"switch": nullcontext, "sync": sync, "capture": capture}[mode]

    with context() as captured:
        with transaction.atomic(USING):
            shop.order("a")
            with suppress(Broken), transaction.atomic(USING):
                shop.order("savepoint")
                raise Broken
            early = [*ran, *([] if captured is None else captured.pushed)]
        with suppress(Broken), transaction.atomic(USING):
            shop.order("rolled back")
            raise Broken
        if captured is not None:
            captured.assert_pushed(note, args=["a"], times=1)
            assert len(captured) == 1
            assert len(captured.discarded) == 2
            captured.run()

    assert (early, ran) == ([], ["a"])
    assert shop.state() == (1, [])


@sqlite_only
def test_error_of_a_task_in_this_process_is_raised_after_the_commit(shop: Shop) -> None:
    with sync(), pytest.raises(Broken), transaction.atomic(USING):
        shop.insert("a")
        shop.gator.task(fail)
        after = shop.gator.task(note, "b")

    assert after.status == CANCELED
    assert shop.state() == (1, [])


@sqlite_only
def test_coroutine_task_runs_in_this_process_after_the_commit(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr("tests.harness.django_databases.NOTED", ran)
    with sync(), transaction.atomic(USING):
        task = shop.gator.task(note_later, "a")
        early = list(ran)

    assert (early, ran, task.status) == ([], ["a"], SUCCESS)


def test_database_in_memory_delivers_after_the_commit(production: None) -> None:
    connection = add_database("memory", ENGINE="django.db.backends.sqlite3", NAME=":memory:")
    with Gator("locmem://") as gator:
        enlist(gator, "memory")  # without a table
        with transaction.atomic("memory"):
            task = gator.task(note, "a")
            before = gator.len(), task.status
        with suppress(Broken), transaction.atomic("memory"):
            gator.task(note, "b")
            raise Broken

        assert before == (0, DEFERRED)
        assert (gator.len(), task.status) == (1, WAITING)
    connection.close()


def test_counters_have_each_task_by_its_end(shop: Shop) -> None:
    with transaction.atomic(USING):
        shop.order("a")
    with suppress(Broken), transaction.atomic(USING):
        shop.order("b")
        raise Broken
    shop.gator.counters.flush()

    assert shop.gator.client.figures("") == {"committed": 1, "exception": 1}
