"""A database of the application is that of the store, or not: found out once, and checked always."""

import asyncio
from collections.abc import Sequence
from threading import enumerate as enumerate_threads
from typing import Any

import pytest

from alligator import Gator
from alligator.backends.base import Message
from alligator.backends.locmem_backend import Client
from alligator.backends.shared_database import Query, Written
from alligator.commits import same_server
from alligator.commits.same_server import SameServer
from alligator.exceptions import BackendUnavailable

TASKS = [Message("mail", "a", "{}")]


class Database:
    """The database of a store, and a connection of an application that leads to `server`."""

    def __init__(self) -> None:
        self.store = self.server = "one"
        self.may_use = True
        self.is_away = False
        self.asked = 0
        self.executed: list[str] = []
        self.woken: list[Written] = []

    def identify(self) -> str:
        self.asked += 1
        if self.is_away:
            raise BackendUnavailable("the store did not answer in time")
        return self.store

    def probe(self) -> Query:
        return Query("probe")

    def why_not(self, answer: str, identity: str) -> str:
        if answer != identity:
            return "the store is in another database"
        return "" if self.may_use else "its role may not use it"

    def enqueue(self, identity: str, messages: Sequence[Message]) -> Query:
        return Query("enqueue", (identity,))

    def read(self, answer: str, messages: Sequence[Message]) -> Written | None:
        return None if answer == "elsewhere" else Written(answer, {"mail": len(messages)})

    def wake(self, written: Sequence[Written]) -> list[int]:
        self.woken += written
        return []

    def execute(self, query: Query) -> str:
        """Execute a query on the connection of the application."""
        self.executed.append(query.sql)
        if query.sql == "probe":
            return self.server
        return "7" if query.parameters == (self.server,) else "elsewhere"


class SharingClient(Client):
    """A client whose store may be in the database of the application."""

    shared_database: Database


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def same(database: Database) -> SameServer:
    client = SharingClient("locmem://")
    client.shared_database = database
    return SameServer(client)


def test_same_database_is_found_out_once(database: Database, same: SameServer) -> None:
    written = [same.write(TASKS, database.execute) for _ in range(3)]

    assert written == [Written("7", {"mail": 1})] * 3
    assert database.asked == 1
    assert database.executed == ["probe", "enqueue", "enqueue", "enqueue"]


def test_other_database_is_asked_again_after_a_while(
    database: Database, same: SameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.server = "other"
    for _ in range(3):
        assert same.write(TASKS, database.execute) is None
    first = list(database.executed)
    database.server = "one"
    still = same.write(TASKS, database.execute)
    monkeypatch.setattr(same_server, "monotonic", lambda: 1e12)

    assert first == ["probe"]
    assert still is None
    assert same.write(TASKS, database.execute) is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"server": "other"}, "the store is in another database"),
        ({"may_use": False}, "its role may not use it"),
        (
            {"is_away": True},
            "the store could not say where it is: the store did not answer in time",
        ),
    ],
)
def test_reason_says_why_tasks_cannot_be_written(
    database: Database, same: SameServer, change: dict[str, Any], reason: str
) -> None:
    for name, value in change.items():
        setattr(database, name, value)

    assert same.write(TASKS, database.execute) is None
    assert same.reason == reason


def test_restart_of_the_server_is_noticed_in_the_transaction(
    database: Database, same: SameServer
) -> None:
    same.write(TASKS, database.execute)
    database.store = database.server = "restarted"
    database.executed.clear()

    assert same.write(TASKS, database.execute) is not None
    assert database.executed == ["enqueue", "probe", "enqueue"]


def test_connection_that_leads_elsewhere_writes_nothing(
    database: Database, same: SameServer
) -> None:
    same.write(TASKS, database.execute)
    database.server = "other"  # restored from a backup, or behind a pooler

    assert same.write(TASKS, database.execute) is None
    assert same.reason == "the store is in another database"


def test_error_of_the_database_is_raised_and_the_next_commit_asks_again(
    database: Database, same: SameServer
) -> None:
    same.write(TASKS, database.execute)

    def fail(query: Query) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        same.write(TASKS, fail)
    same.write(TASKS, database.execute)

    assert database.asked == 2


def test_coroutines_may_execute_and_ask(database: Database, same: SameServer) -> None:
    async def execute(query: Query) -> str:
        await asyncio.sleep(0)
        return database.execute(query)

    written = asyncio.run(same.awrite(TASKS, execute, asyncio.to_thread))

    assert written is not None


def test_dialect_and_store_decide_whether_it_is_possible(same: SameServer) -> None:
    assert same.is_possible("postgresql")
    assert not same.is_possible("mysql")
    assert not SameServer(Client("locmem://")).is_possible("postgresql")


def test_close_of_the_gator_ends_the_thread_that_wakes_workers(database: Database) -> None:
    client = SharingClient("locmem://")
    client.shared_database = database
    before = set(enumerate_threads())
    with Gator("", backend_class=lambda dsn: client) as gator:
        gator.same_server.wake(Written("7", {"mail": 1}))
        started = set(enumerate_threads()) - before

    assert database.woken == [Written("7", {"mail": 1})]
    assert [each.name for each in started] == ["alligator-wake"]
    assert not any(each.is_alive() for each in started)
