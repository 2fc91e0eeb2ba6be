"""Health: what could lose tasks, what makes queues slow, and whether a push would be accepted."""

import psycopg
import pytest

from alligator.backends.postgres_backend import Client, checks
from alligator.exceptions import BackendUnavailable
from tests.backends.postgres_backend.conftest import Query
from tests.harness.postgres_servers import PostgresServer, postgres_server
from tests.harness.requirements import needed


def test_settings_that_can_lose_tasks_are_named(client: Client, query: Query) -> None:
    found = " ".join(client.warnings())

    assert "fsync = on" in found  # the tests' server has it off
    assert "synchronous_commit" not in found


def test_transaction_that_is_open_for_long_is_named(
    client: Client, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ping()
    monkeypatch.setattr(checks, "OLD_SECONDS", 0.0)
    with psycopg.connect(server.dsn) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM pg_class")

        found = " ".join(client.warnings())

    assert "transaction in PostgreSQL has been open" in found


def test_prepared_transaction_is_named(
    client: Client, server: PostgresServer, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ping()
    monkeypatch.setattr(checks, "OLD_SECONDS", 0.0)
    with psycopg.connect(server.dsn) as connection:
        connection.tpc_begin("alligator-test")
        connection.execute("SELECT txid_current()")
        connection.tpc_prepare()
        try:
            assert "prepared transaction" in " ".join(client.warnings())
        finally:
            connection.tpc_rollback()


def test_replication_slot_that_nothing_reads_is_named() -> None:
    with needed(), postgres_server(wal_level="logical") as server:
        client = Client(server.dsn)
        client.ping()
        before = " ".join(client.warnings())
        server.run("SELECT pg_create_logical_replication_slot('left_behind', 'pgoutput')")

        found = " ".join(client.warnings())
        client.close()

    assert "Replication slots" not in before
    assert "(left_behind)" in found


def test_dead_rows_are_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.ping()
    monkeypatch.setattr(checks, "DEAD_ROWS", -1)

    assert "dead rows in the table of tasks" in " ".join(client.warnings())


def test_server_that_accepts_no_writes_fails_the_check(
    client: Client, query: Query, server: PostgresServer, schema: str
) -> None:
    client.ping()
    query("CREATE ROLE ro_{s} LOGIN")
    query("GRANT USAGE ON SCHEMA {s} TO ro_{s}")
    dsn = server.dsn.replace("postgres@", f"ro_{schema}@")
    reader = Client(f"{dsn}?schema={schema}&target_session_attrs=any")

    with pytest.raises(BackendUnavailable, match="grant the rights"):
        reader.ping()

    query("ALTER ROLE ro_{s} SET default_transaction_read_only = on")
    reader.close()
    with pytest.raises(BackendUnavailable, match="read-only"):
        reader.ping()
    reader.close()
    query("DROP OWNED BY ro_{s}")
    query("DROP ROLE ro_{s}")
