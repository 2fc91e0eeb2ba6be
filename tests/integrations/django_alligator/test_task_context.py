"""Old database connections are closed before and after each task, and broken ones are replaced."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections, transaction
from django.test import override_settings

from alligator.workers import Worker
from django_alligator import gator
from django_alligator.task_context import TaskContext
from tests.harness.django_databases import add_database
from tests.harness.django_settings import settings_of

SHORT, LASTING = "short", "lasting"
"""Two databases, because threads keep their connections after a test."""

SEEN: list[int] = []
"""The results of the queries of tasks."""


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    SEEN.clear()
    with override_settings(ALLIGATOR={"CONN": "locmem://", "ASYNC": True, "DATABASES": []}):
        yield


@pytest.fixture
def _short(tmp_path: Path) -> Iterator[None]:
    """Have a database whose connections are closed at the end of a request, Django's default."""
    add_database(SHORT, **settings_of(f"sqlite:///{tmp_path / 'shop.db'}"))
    yield
    connections[SHORT].close()


@pytest.fixture
def _lasting(postgres: str) -> Iterator[None]:
    """Have a database whose connections are kept."""
    add_database(LASTING, **settings_of(postgres), CONN_MAX_AGE=None)
    yield
    connections[LASTING].close()


def is_open() -> bool:
    return connections[SHORT].connection is not None


def query(alias: str = SHORT) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 42")
        SEEN.append(cursor.fetchone()[0])


async def aquery(alias: str = SHORT) -> None:
    await sync_to_async(query)(alias)


def _lose() -> None:
    """Query on a connection that the server closes, as it does when it is restarted."""
    with (
        pytest.raises(DatabaseError, match="terminating connection"),
        connections[LASTING].cursor() as cursor,
    ):
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def lose_connection() -> None:
    _lose()
    gator.task(query, LASTING)


async def alose_connection() -> None:
    await sync_to_async(_lose)()
    gator.task(aquery, LASTING)


@pytest.mark.usefixtures("_short")
def test_old_connection_is_closed_before_and_after_a_task() -> None:
    query()
    with TaskContext():
        before = is_open()
        query()
        during = is_open()

    assert (before, during, is_open()) == (False, True, False)


@pytest.mark.usefixtures("_short")
def test_connection_of_an_open_transaction_stays() -> None:
    with transaction.atomic(SHORT):
        query()
        with TaskContext():
            assert is_open()
        assert is_open()


@pytest.mark.usefixtures("_short")
def test_connection_of_coroutines_is_closed_when_none_runs() -> None:
    async def main() -> list[bool]:
        await sync_to_async(query)()
        first, second = TaskContext(), TaskContext()
        async with first:
            seen = [await sync_to_async(is_open)()]
            await aquery()
            async with second:
                seen.append(await sync_to_async(is_open)())
            seen.append(await sync_to_async(is_open)())
        return [*seen, await sync_to_async(is_open)()]

    assert asyncio.run(main()) == [False, True, True, False]


@pytest.mark.usefixtures("_lasting")
@pytest.mark.parametrize("lose", [lose_connection, alose_connection])
def test_task_after_a_lost_connection_has_a_new_one(lose: Callable[[], object]) -> None:
    gator.task(lose)
    Worker(gator, burst=True).run_forever()

    assert SEEN == [42]
    assert gator.stats().dead == 0
