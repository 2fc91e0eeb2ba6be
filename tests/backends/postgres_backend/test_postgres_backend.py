"""Tasks in PostgreSQL: what the contract does not ask of every store."""

import psycopg
import pytest

from alligator.backends import open_client as open_by_dsn
from alligator.backends.base import Commit, Message, Outcome
from alligator.backends.postgres_backend import Client
from alligator.backends.unique import Unique
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


def test_unique_keys_leave_nothing_behind(client: Client, query: Query) -> None:
    for kind, seconds in enumerate((0.0, 0.0, 3600.0, 3600.0)):
        for name in ("ack", "dead", "cancel", "drop", "abort"):
            key = Unique(f"{name}{kind}", until_start=bool(kind % 2), seconds=seconds)
            client.push_many([Message(name, "a", "{}", 0.0, 0, key)], commit_id=name + str(kind))
        client.ack(client.reserve("ack")[0])
        client.dead_letter(client.reserve("dead")[0], reason="no luck")
        client.cancel("cancel", "a")
        client.drop_all("drop")
        client.abort(f"abort{kind}", [Message("abort", "a", "{}")])

    kept = query("SELECT unique_key, done FROM {s}.held_key ORDER BY unique_key")
    assert kept == [("ack2", True), ("ack3", True)]
    query("UPDATE {s}.held_key SET until = now()")
    query("SELECT {s}.fold()")
    assert query("SELECT count(*) FROM {s}.held_key") == [(0,)]


def test_thousand_tasks_with_keys_are_one_push(client: Client) -> None:
    messages = [Message("mail", f"{n}", "{}", 0.0, 0, Unique(f"k{n}")) for n in range(1000)]

    assert client.push_many(messages) is None
    assert (
        len(client.push_many([m._replace(task_id=f"again {m.task_id}") for m in messages]) or ())
        == 1000
    )
    assert client.stats("mail").ready == 1000


def test_index_finds_what_is_old_or_due(client: Client, query: Query) -> None:
    client.push_commits(
        [Commit([Message("mail", f"{n}", "{}", 3600.0)], f"{n}") for n in range(300)]
    )

    query("BEGIN")
    query("SELECT {s}.fold()")
    query("SELECT {s}.stats(ARRAY['mail'])")
    [(read,)] = query(
        "SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_stat_user_indexes"
        " WHERE schemaname = '{s}'"
    )
    query("ROLLBACK")

    assert read < 100
