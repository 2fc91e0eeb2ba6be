"""Tasks are written on a connection that the application names."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from threading import current_thread, main_thread

import pytest

from alligator import CANCELED, WAITING, Gator
from alligator.backends.base import Commit, Pushed
from alligator.commits.databases import ddl
from alligator.exceptions import ConfigurationError
from alligator.testing import capture, sync
from tests.harness.programs import eventually
from tests.harness.sample_tasks import add


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database with rows and an outbox."""
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{ddl('sqlite')}; CREATE TABLE orders (name TEXT)")
    return path


@pytest.fixture
def gator(path: Path) -> Iterator[Gator]:
    """Return a gator that relays the outbox of the database."""
    with Gator("locmem://") as gator:
        gator.relay_from(lambda: sqlite3.connect(path))
        yield gator


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """Return a connection of the application."""
    with closing(sqlite3.connect(path)) as connection:
        yield connection


INSERT = "INSERT INTO orders VALUES ('a')"


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def state(gator: Gator, path: Path) -> tuple[int, int]:
    """Return the number of rows, and of tasks on the queue."""
    eventually(lambda: not rows(path, "alligator_outbox"))
    return rows(path, "orders"), gator.len()


def test_task_is_queued_by_the_commit(
    gator: Gator, path: Path, connection: sqlite3.Connection
) -> None:
    with connection:
        connection.execute(INSERT)
        with gator.transaction(on=connection):
            gator.task(add, 1, 2)
            gator.task(add, 3, 4)
        before = gator.len()

    assert before == 0
    assert state(gator, path) == (1, 2)


def test_task_is_discarded_by_the_rollback(
    gator: Gator, path: Path, connection: sqlite3.Connection
) -> None:
    with pytest.raises(ZeroDivisionError), connection:
        connection.execute(INSERT)
        with gator.transaction(on=connection):
            gator.task(add, 1, 2)
        raise ZeroDivisionError

    assert state(gator, path) == (0, 0)


def test_exception_in_the_block_discards_its_tasks_only(
    gator: Gator, path: Path, connection: sqlite3.Connection
) -> None:
    with connection:
        connection.execute(INSERT)
        with pytest.raises(ZeroDivisionError), gator.transaction(on=connection):
            task = gator.task(add, 1, 2)
            raise ZeroDivisionError
        with gator.transaction(on=connection):
            gator.task(add, 3, 4)

    assert task.status == CANCELED
    assert state(gator, path) == (1, 1)


def test_block_around_the_transaction_is_refused(
    gator: Gator, path: Path, connection: sqlite3.Connection
) -> None:
    with pytest.raises(ConfigurationError, match="No transaction is open"):  # noqa: SIM117
        with gator.transaction(on=connection):
            with connection:
                connection.execute(INSERT)
            gator.task(add, 1, 2)

    assert state(gator, path) == (1, 0)


def test_request_around_it_has_no_influence(
    gator: Gator, path: Path, connection: sqlite3.Connection
) -> None:
    with pytest.raises(ZeroDivisionError), gator.transaction():
        gator.task(add, 0, 0)
        with connection:
            connection.execute(INSERT)
            with gator.transaction(on=connection):
                gator.task(add, 1, 2)
        raise ZeroDivisionError

    assert state(gator, path) == (1, 1)


def test_block_inside_it_joins(gator: Gator, path: Path, connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute(INSERT)
        with gator.transaction(on=connection):
            with gator.transaction():
                gator.task(add, 1, 2)
            with pytest.raises(ZeroDivisionError), gator.transaction():
                gator.task(add, 3, 4)
                raise ZeroDivisionError

    assert state(gator, path) == (1, 1)


def test_doomed_block_writes_nothing(
    gator: Gator, path: Path, connection: sqlite3.Connection
) -> None:
    with connection:
        connection.execute(INSERT)
        with gator.transaction(on=connection) as transaction:
            gator.task(add, 1, 2)
            transaction.doom()

    assert state(gator, path) == (1, 0)


def test_gator_without_a_relay_says_how_to_name_the_database(
    connection: sqlite3.Connection,
) -> None:
    with Gator("locmem://") as gator, pytest.raises(ConfigurationError, match="relay_from"):
        gator.transaction(on=connection)


@pytest.mark.parametrize("wrong", [object(), "connection", 7])
def test_wrong_connection_is_refused(gator: Gator, wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="is no connection"):
        gator.transaction(on=wrong)


def test_capture_sees_its_tasks(gator: Gator, path: Path, connection: sqlite3.Connection) -> None:
    with capture() as tasks, connection, gator.transaction(on=connection):
        gator.task(add, 1, 2)

    tasks.assert_pushed(add, args=[1, 2])
    assert rows(path, "alligator_outbox") == 0


def test_sync_runs_its_tasks(gator: Gator, connection: sqlite3.Connection) -> None:
    with sync(), connection, gator.transaction(on=connection):
        task = gator.task(add, 1, 2)

    assert task.result == 3


def test_missing_table_is_an_error_that_says_how_to_create_it(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    with Gator("locmem://") as gator, closing(sqlite3.connect(path)) as connection:
        gator.relay_from(lambda: sqlite3.connect(path))
        connection.execute("CREATE TABLE orders (name TEXT)")

        with pytest.raises(ConfigurationError, match="latergator outbox sql"), connection:
            connection.execute(INSERT)
            with gator.transaction(on=connection):
                gator.task(add, 1, 2)

        assert rows(path, "orders") == 0


def test_failed_write_cancels_its_tasks_and_pushes_those_that_always_run(
    gator: Gator, path: Path, connection: sqlite3.Connection
) -> None:
    with pytest.raises(ConfigurationError, match="No transaction is open"):  # noqa: SIM117
        with gator.transaction(on=connection) as transaction:
            task = gator.task(add, 1, 2)
            always = gator.options(always=True).task(add, 3, 4)

    assert (task.status, always.status) == (CANCELED, WAITING)
    assert transaction.tasks == ()
    assert state(gator, path) == (0, 1)


# Asynchronous connections.


def test_aiosqlite(gator: Gator, path: Path) -> None:
    import aiosqlite

    async def main() -> None:
        async with aiosqlite.connect(path) as connection:
            await connection.execute(INSERT)
            async with gator.transaction(on=connection):
                gator.task(add, 1, 2)
            await connection.commit()
            await connection.execute(INSERT)
            async with gator.transaction(on=connection):
                gator.task(add, 3, 4)
            await connection.rollback()

    asyncio.run(main())

    assert state(gator, path) == (1, 1)


def test_async_connection_needs_an_async_block(gator: Gator, path: Path) -> None:
    import aiosqlite

    async def main() -> None:
        async with aiosqlite.connect(path) as connection:
            await connection.execute(INSERT)
            with pytest.raises(ConfigurationError, match="async with"):  # noqa: SIM117
                with gator.transaction(on=connection):
                    gator.task(add, 1, 2)
            await connection.commit()

    asyncio.run(main())

    assert state(gator, path) == (1, 0)


@pytest.mark.parametrize("is_doomed", [True, False])
def test_async_block_that_fails_pushes_in_a_thread(
    gator: Gator, path: Path, monkeypatch: pytest.MonkeyPatch, is_doomed: bool
) -> None:
    import aiosqlite

    threads = []
    push_commits = gator.client.push_commits

    def push(commits: Sequence[Commit]) -> Sequence[Pushed]:
        threads.append(current_thread())
        return push_commits(commits)

    monkeypatch.setattr(gator.client, "push_commits", push)
    monkeypatch.setattr(gator.delivery, "blocking", True)

    async def main() -> None:
        async with aiosqlite.connect(path) as connection:
            if is_doomed:
                await connection.execute(INSERT)
            async with gator.transaction(on=connection) as transaction:
                gator.task(add, 1, 2)
                gator.options(always=True).task(add, 3, 4)
                if is_doomed:
                    transaction.doom()

    with nullcontext() if is_doomed else pytest.raises(ConfigurationError, match="No transaction"):
        asyncio.run(main())

    assert gator.len() == 1
    assert len(threads) == 1
    assert threads[0] is not main_thread()
