"""Transactions in the database of the store write its tables, without an outbox."""

from collections.abc import Iterator

import pytest
from django.db import connections, transaction

from alligator import CANCELED, DEFERRED, DUPLICATE, WAITING, Gator
from tests.harness.django_databases import USING, Broken, Shop, add_database, note
from tests.harness.django_settings import settings_of


@pytest.fixture
def shop(postgres: str, production: None) -> Iterator[Shop]:
    """Return a shop whose store is in its own database, which has no outbox."""
    connection = add_database(USING, **settings_of(postgres))
    with Gator(f"{postgres}?schema=django_queue") as gator:
        shop = Shop(gator)
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE alligator_outbox")
            cursor.execute("DROP SCHEMA IF EXISTS django_queue CASCADE")
        gator.client.ping()
        yield shop
    connection.close()


def state(shop: Shop) -> tuple[int, list[str]]:
    """Return the number of committed orders, and the tasks on the queue, right now."""
    leases = shop.gator.client.reserve("all", limit=1000)
    tasks = [shop.gator.read(lease).func_args[0] for lease in leases]
    return shop.count("orders"), sorted(tasks)


def test_task_is_on_the_queue_when_the_commit_returns(shop: Shop) -> None:
    with transaction.atomic(USING):
        shop.insert("a")
        task = shop.gator.task(note, "a")
        before = shop.gator.len(), task.status

    assert (before, task.status) == ((0, DEFERRED), WAITING)
    assert state(shop) == (1, ["a"])


def test_rollback_and_savepoint_take_tasks_along(shop: Shop) -> None:
    with pytest.raises(Broken), transaction.atomic(USING):
        shop.insert("a")
        lost = shop.gator.task(note, "a")
        raise Broken
    with transaction.atomic(USING):
        shop.order("outer")
        with pytest.raises(Broken), transaction.atomic(USING):
            shop.order("inner")
            raise Broken
        savepoint = str(shop.connection.savepoint())
        shop.order("by hand")
        shop.connection.savepoint_rollback(savepoint)

    assert lost.status == CANCELED
    assert state(shop) == (1, ["outer"])


def test_named_connection_writes_tasks_together(shop: Shop) -> None:
    with transaction.atomic(USING), shop.gator.transaction(on=connections[USING]):
        for name in "abc":
            shop.gator.task(note, name)

    assert state(shop) == (0, ["a", "b", "c"])


def test_transaction_committed_by_hand_queues_its_tasks(shop: Shop) -> None:
    transaction.set_autocommit(False, USING)
    shop.order("a")
    transaction.commit(USING)
    shop.order("b")
    transaction.rollback(USING)
    transaction.set_autocommit(True, USING)

    assert state(shop) == (1, ["a"])


def test_duplicate_is_reported_after_the_commit(shop: Shop) -> None:
    with transaction.atomic(USING), shop.gator.options(task_id="one") as options:
        first = options.task(note, "a")
    with transaction.atomic(USING), shop.gator.options(task_id="one") as options:
        second = options.task(note, "b")

    assert (first.status, second.status) == (WAITING, DUPLICATE)
    assert state(shop) == (0, ["a"])


def test_task_is_canceled_after_the_commit_only(shop: Shop) -> None:
    with transaction.atomic(USING):
        task = shop.gator.task(note, "a")
        during = shop.gator.cancel(task.task_id)
    after = shop.gator.cancel(task.task_id)

    assert during is None
    assert after is not None
    assert state(shop) == (0, [])
