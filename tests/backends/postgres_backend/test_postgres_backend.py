"""Tasks in PostgreSQL: what the contract does not ask of every store."""

import psycopg
import pytest

from alligator.backends import open_client as open_by_dsn
from alligator.backends.base import Message, Outcome
from alligator.backends.postgres_backend import Client
from alligator.exceptions import MissingExtra
from tests.backends.postgres_backend.conftest import Open, Query
from tests.harness.postgres_servers import PostgresServer
from tests.harness.programs import eventually

INDEXES = 4
"""How many the table of tasks has: making each reads the table."""


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_both_schemes_of_libpq_open_it(scheme: str) -> None:
    assert isinstance(open_by_dsn(f"{scheme}://localhost/shop"), Client)


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)

    with pytest.raises(MissingExtra, match=r"alligator\[postgres\]"):
        open_by_dsn("postgresql://localhost/shop")


def test_tasks_committed_in_another_transaction_appear_at_its_end(
    client: Client, server: PostgresServer, schema: str
) -> None:
    client.ping()
    with psycopg.connect(server.dsn) as connection:
        connection.execute(
            f"SELECT {schema}.push(ARRAY['c'], ARRAY[true], ARRAY[1], ARRAY[1], ARRAY['mail'],"
            " ARRAY['a'], ARRAY[0::float8], ARRAY['{}'::bytea], ARRAY[0])".encode()
        )
        assert not client.step(["mail"], 1).leases
        assert client.stats("mail").pushed == 0
        connection.commit()

    assert len(client.step(["mail"], 1).leases) == 1


def test_open_transaction_of_a_push_blocks_no_other(
    client: Client, server: PostgresServer, schema: str
) -> None:
    client.ping()
    with psycopg.connect(server.dsn) as connection:
        connection.execute(
            f"SELECT {schema}.push(ARRAY['c'], ARRAY[true], ARRAY[1], ARRAY[1], ARRAY['mail'],"
            " ARRAY['a'], ARRAY[0::float8], ARRAY['{}'::bytea], ARRAY[0])".encode()
        )

        client.push_many([Message("mail", "b", "{}")])
        (lease,) = client.step(["mail"], 5).leases
        client._call(client._statements.fold, [])
        client.ack(lease)

        assert client.stats("mail").succeeded == 1
        connection.rollback()

    assert client.stats("mail").pushed == 1


def test_leases_of_many_lost_workers_are_all_reclaimed(client: Client) -> None:
    client.push_many([Message("mail", f"{n}", "{}") for n in range(600)])
    client.step(["mail"], 600, lease_for=0.0)

    for _ in range(3):
        client.step(["mail"], 1)

    assert client.stats("mail").lost == 600


def test_queue_of_ten_thousand_is_dropped_in_parts(
    client: Client, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.backends.postgres_backend.DROP_AT_ONCE", 30)
    client.push_many([Message("mail", f"{n}", "{}", 60.0 * (n % 2)) for n in range(100)])

    client.drop_all("mail")

    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled, stats.dropped) == (0, 0, 100)
    assert query("SELECT count(*) FROM {s}.task") == [(0,)]


def test_plans_read_no_table_as_a_whole(client: Client, query: Query) -> None:
    """Count scans while the statistics say that the table is empty, and while it is full."""
    client.push_many([Message("mail", f"{n}", "{}") for n in range(500)])
    client.close()  # which makes its numbers known
    eventually(lambda: scans(query)[0] >= INDEXES)
    before, by_index = scans(query)
    for _ in range(10):
        leases = client.step(["mail"], 20).leases
        outcomes = [Outcome("ack", lease) for lease in leases[:10]]
        outcomes += [Outcome("retry", lease) for lease in leases[10:15]]
        outcomes += [Outcome("dead", lease, reason="x") for lease in leases[15:]]
        client.step(["mail"], 0, outcomes=outcomes)
        client.push_many([Message("mail", "x", "{}"), Message("mail", "y", "{}")])
        client.stats("mail")
        client.cancel("mail", "x")
        client.extend(client.step(["mail"], 2).leases)
        client.lease("mail", "y")

    client.close()
    eventually(lambda: scans(query)[1] >= by_index + 100)
    assert scans(query)[0] == before


def scans(query: Query) -> tuple[int, int]:
    """Return how often the table of tasks was read as a whole, and by an index."""
    [found] = query(
        "SELECT seq_scan, idx_scan FROM pg_stat_user_tables"
        " WHERE schemaname = '{s}' AND relname = 'task'"
    )
    return found[0], found[1]


def test_tasks_may_be_pushed_under_a_held_snapshot_and_stay_fast(
    open_client: Open, server: PostgresServer
) -> None:
    """Not timed here: the steps begin at their marks once scans are slow; see test_marks."""
    client = open_client(timeout="20")
    with psycopg.connect(server.dsn) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        for _ in range(5):
            client.push_many([Message("mail", f"{n}", "{}") for n in range(200)])
            leases = client.step(["mail"], 200).leases
            assert len(leases) == 200
            client.step((), 0, outcomes=[Outcome("ack", lease) for lease in leases])

    assert client.stats("mail").succeeded == 1000
