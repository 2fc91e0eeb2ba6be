"""Tasks that are started in ``atomic()`` follow its transaction."""

import logging

import pytest
from django.db import DatabaseError, connections, transaction

from alligator import CANCELED, DEFERRED, SUCCESS, WAITING, Gator, Task
from alligator.exceptions import ConfigurationError
from alligator.testing import capture, sync
from django_alligator.enlisting import enlist
from tests.harness.django_databases import USING, Shop, add_database, note

sqlite_only = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)


class Broken(Exception):
    """Ends a block."""


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
        savepoint = transaction.savepoint(USING)
        shop.order("inner")
        transaction.savepoint_rollback(savepoint, USING)
        kept = transaction.savepoint(USING)
        shop.order("kept")
        transaction.savepoint_commit(kept, USING)

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
def test_tasks_before_a_transaction_begins_by_hand_wait(shop: Shop) -> None:
    transaction.set_autocommit(False, USING)
    task = shop.gator.task(note, "a")
    transaction.set_autocommit(True, USING)

    assert (task.status, shop.gator.len()) == (WAITING, 1)
