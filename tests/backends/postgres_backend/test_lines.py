"""Limit keys in PostgreSQL: lines and transactions of an application, and what lines leave behind."""

from contextlib import closing

import psycopg
import pytest

from alligator.backends.base import Limit, Message
from alligator.backends.limits import EACH
from alligator.backends.postgres_backend import Client, marks
from alligator.backends.shared_database import shared_database_of
from tests.backends.postgres_backend.conftest import Query
from tests.backends.postgres_backend.test_shared_database import names, write
from tests.harness.contract import elsewhere
from tests.harness.postgres_servers import PostgresServer
from tests.harness.programs import eventually


def lined(task_id: str, delay: float = 0.0) -> Message:
    return Message("mail", task_id, "{}", delay, limit_key=task_id[0])


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_tasks_of_an_application_join_their_lines(
    client: Client, server: PostgresServer, isolation: str
) -> None:
    database = shared_database_of(client)
    assert database is not None
    client.push_many([lined("a0"), lined("a1")])
    with closing(psycopg.connect(server.dsn)) as application:
        application.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}".encode())
        written = write(database, application, lined("b0"), lined("b1"), lined("c0", 3600.0))
        application.commit()

    assert written is not None
    assert names(client) == ["a0", "b0", "a1", "b1"]
    assert client.stats("mail").scheduled == 1


def test_line_goes_on_past_a_task_that_an_application_keeps(
    client: Client, server: PostgresServer
) -> None:
    database = shared_database_of(client)
    assert database is not None
    client.push_many([lined("a0"), lined("a1")])
    with closing(psycopg.connect(server.dsn)) as application:
        written = write(database, application, lined("a0"))
        assert written is not None
        assert written.duplicates == [0]

        assert names(client) == ["a1"]
        assert 0 < client.step(["mail"], 1).pause < 1
        application.rollback()

    found: list[str] = []
    while not found:
        found = names(client)
    assert found == ["a0"]


def test_step_takes_other_lines_while_another_one_has_a_line(
    client: Client, server: PostgresServer, schema: str
) -> None:
    client.push_many([lined(f"{key}{n}") for n in range(3) for key in "ab"])
    with closing(psycopg.connect(server.dsn)) as other:
        other.execute(f"SELECT FROM {schema}.line WHERE limit_key = 'a' FOR UPDATE".encode())

        assert names(client) == ["b0", "b1", "b2"]

    assert names(client) == ["a0", "a1", "a2"]


def test_step_waits_for_the_only_line(
    client: Client, server: PostgresServer, schema: str, query: Query
) -> None:
    client.push_many([lined(f"a{n}") for n in range(6)])
    found: list[str] = []

    def find() -> None:
        while not found:  # it does not wait for long
            found.extend(names(client))

    with closing(psycopg.connect(server.dsn)) as other:
        other.execute(f"SELECT FROM {schema}.line FOR UPDATE".encode())
        with elsewhere(find):
            eventually(lambda: bool(query("SELECT 1 FROM pg_locks WHERE NOT granted")))
            other.rollback()

    assert found == [f"a{n}" for n in range(6)]


def test_step_waits_for_a_line_only_for_a_moment(
    client: Client, server: PostgresServer, schema: str
) -> None:
    client.push_many([lined(f"a{n}") for n in range(6)])
    with closing(psycopg.connect(server.dsn)) as other:
        other.execute(f"SELECT FROM {schema}.line FOR UPDATE".encode())

        # For longer it might wait in a circle: it may have locked other lines that it did not take.
        step = client.step(["mail"], 1)

    assert not step.leases
    assert 0 < step.pause < 1


def test_marks_do_not_pass_over_a_line_whose_key_had_another_turn(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "SLOW_SECONDS", -1.0)
    monkeypatch.setattr(marks, "FULL_EVERY", 60.0)
    client.limit("mail", Limit(at_once=2), EACH)
    client.pause("mail", 60.0)
    for message in (lined("a0"), lined("b0"), lined("a1")._replace(priority=1)):
        client.push_many([message])
        assert names(client) == []  # it places the line
    client.pause("mail", 0.0)

    assert names(client) == ["a1", "b0"]
    assert names(client) == ["a0"]


def test_push_leaves_the_end_of_a_lease_to_the_next_step(client: Client, query: Query) -> None:
    client.limit("mail", Limit(at_once=1), EACH)
    client.push_many([lined("a0"), lined("a1")])
    assert names(client) == ["a0"]
    client.cancel("mail", "a0")

    client.push_many([lined(f"b{n}") for n in range(6)])  # places the line of b

    assert query("SELECT limit_keys FROM {s}.changed_line") == [(["a"],)]
    assert sorted(names(client)) == ["a1", "b0"]


def test_lines_without_tasks_leave_no_rows(client: Client, query: Query) -> None:
    client.limit("mail", Limit(starts=100, seconds=0.001), EACH)
    client.push_many([lined(f"{key}{n}") for key in "abc" for n in range(2)])
    client.cancel("mail", "c1")
    for _ in range(3):
        for lease in client.reserve("mail", limit=9):
            client.ack(lease)
    client.step(["mail"], 1)

    for table in ("task", "line", "changed_line"):
        assert query(f"SELECT * FROM {{s}}.{table}") == []
    client._call(client._statements.fold, [])
    assert query("SELECT * FROM {s}.begun") == []
