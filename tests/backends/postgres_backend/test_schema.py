"""The tables: the first use creates them once, in a schema of their own."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from click.testing import CliRunner

from alligator.backends.base import Message
from alligator.backends.postgres_backend import Client
from alligator.backends.postgres_backend.schema import script
from alligator.cli import main
from alligator.exceptions import BackendError
from tests.backends.postgres_backend.conftest import Open, Query
from tests.harness.postgres_servers import PostgresServer


def test_first_use_creates_the_tables_once(open_client: Open, query: Query) -> None:
    clients = [open_client(timeout="20") for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda client: client.push_many([Message("a", "b", "{}")]), clients))

    assert query("SELECT version FROM {s}.store") == [(1,)]
    assert clients[0].len("a") == 1


def test_asking_whether_it_exists_creates_nothing(
    client: Client, query: Query, schema: str
) -> None:
    assert not client.exists()
    assert query("SELECT FROM pg_namespace WHERE nspname = %s", schema) == []

    client.ping()

    assert client.exists()


def test_printed_script_makes_the_same_tables(client: Client, query: Query, schema: str) -> None:
    query(script(schema))

    client.push_many([Message("mail", "a", "{}")])

    assert client.len("mail") == 1
    assert query("SELECT version FROM {s}.store") == [(1,)]


def test_latergator_prints_the_script_and_creates_the_tables(
    client: Client, query: Query, schema: str
) -> None:
    printed = CliRunner().invoke(main, ["tables", "--print", client.conn_string])

    assert printed.output == script(schema)
    assert not client.exists()
    assert CliRunner().invoke(main, ["tables", client.conn_string]).exit_code == 0
    assert client.exists()


def test_store_without_sql_has_none_to_print() -> None:
    refused = CliRunner().invoke(main, ["tables", "--print", "sqlite://queue.db"])

    assert refused.exit_code == 2
    assert "only postgresql://" in refused.output


def test_use_of_existing_tables_needs_no_right_to_create(
    client: Client, query: Query, schema: str, server: PostgresServer
) -> None:
    client.ping()
    query("CREATE ROLE web_{s} LOGIN")
    for right in (
        "USAGE ON SCHEMA {s}",
        "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {s}",
        "USAGE ON ALL SEQUENCES IN SCHEMA {s}",
    ):
        query(f"GRANT {right} TO web_{{s}}")
    dsn = server.dsn.replace("postgres@", f"web_{schema}@")
    web = Client(f"{dsn}?schema={schema}&timeout=20")

    web.push_many([Message("mail", "a", "{}")])
    web.ack(web.reserve("mail")[0])

    assert client.stats("mail").succeeded == 1
    web.close()
    query("DROP OWNED BY web_{s}; DROP ROLE web_{s}")


def test_user_who_may_not_create_is_told_what_to_do(
    query: Query, schema: str, server: PostgresServer
) -> None:
    query("CREATE ROLE web_{s} LOGIN")
    web = Client(server.dsn.replace("postgres@", f"web_{schema}@") + f"?schema={schema}")

    with pytest.raises(BackendError, match="Grant the rights"):
        web.push_many([Message("mail", "a", "{}")])

    web.close()
    query("DROP ROLE web_{s}")


def test_two_schemas_are_two_stores(server: PostgresServer, schema: str) -> None:
    one, other = (Client(f"{server.dsn}?schema={schema}_{name}&timeout=20") for name in ("a", "B"))

    one.push_many([Message("mail", "a", "{}")])

    assert (one.len("mail"), other.len("mail")) == (1, 0)
    assert one.scope != other.scope
    one.close()
    other.close()


def test_database_that_publishes_all_tables_can_hold_a_store(
    server: PostgresServer, schema: str, query: Query
) -> None:
    query("CREATE DATABASE pub_{s}")
    dsn = f"postgresql://postgres@127.0.0.1:{server.port}/pub_{schema}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    client = Client(f"{dsn}?timeout=20")

    client.push_many([Message("mail", "a", "{}"), Message("mail", "b", "{}")])
    client.ack(client.reserve("mail")[0])
    client._call(client._statements.fold, [])

    assert client.stats("mail").succeeded == 1
    client.close()
    query("DROP DATABASE pub_{s} WITH (FORCE)")
