"""Transactions of the application write to the tables of the store, if both are in one database."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from shutil import copytree
from uuid import uuid4

import psycopg
import pytest

from alligator.backends.base import Message, Outcome
from alligator.backends.postgres_backend import Client
from alligator.backends.shared_database import SharedDatabase, Written, shared_database_of
from alligator.backends.unique import Held, Unique
from tests.backends.postgres_backend.conftest import Open, Query
from tests.backends.postgres_backend.test_marks import always_slow as always_slow
from tests.backends.postgres_backend.test_pgbouncer import bouncer as bouncer
from tests.harness.postgres_servers import PostgresServer, postgres_server
from tests.harness.programs import eventually

Application = Callable[..., psycopg.Connection]


@pytest.fixture
def database(client: Client) -> SharedDatabase:
    found = shared_database_of(client)
    assert found is not None
    return found


@pytest.fixture
def connect(server: PostgresServer) -> Iterator[Application]:
    """Connect as the application does, in a transaction of that isolation level."""
    with ExitStack() as stack:

        def connect(dsn: str = "", isolation: str = "read committed") -> psycopg.Connection:
            connection = stack.enter_context(psycopg.connect(dsn or server.dsn))
            connection.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}".encode())
            connection.execute("SELECT 1")  # this takes the snapshot
            return connection

        yield connect


def of_database(server: PostgresServer, name: str) -> str:
    """Return the DSN of another database of the server."""
    return f"{server.dsn.rpartition('/')[0]}/{name}"


def ask(connection: psycopg.Connection, sql: str, *values: str) -> str:
    [answer] = connection.execute(sql.replace("?", "%s").encode(), values).fetchone() or [""]
    return str(answer)


def write(
    database: SharedDatabase, connection: psycopg.Connection, *messages: Message, identity: str = ""
) -> Written | None:
    """Write tasks in the transaction of *connection*."""
    query = database.enqueue(identity or database.identify(), messages)
    return database.read(ask(connection, query.sql, *query.parameters), messages)


def why_not(database: SharedDatabase, connection: psycopg.Connection) -> str:
    identity = database.identify()
    return database.why_not(ask(connection, database.probe().sql), identity)


def task(name: str, delay: float = 0.0, queue: str = "mail", data: str = "{}") -> Message:
    return Message(queue, name, data, delay)


def names(client: Client) -> list[str]:
    return [lease.task_id for lease in client.step(["mail"], 1000).leases]


def test_tasks_are_queued_by_the_commit(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    application = connect()
    written = write(
        database, application, task("b"), task("a"), task("c", 60), task("d", queue="print")
    )
    before = client.stats_of(["mail", "print"])
    application.commit()

    assert written is not None
    assert (written.numbers, written.duplicates) == ({"mail": 3, "print": 1}, None)
    assert [stats.pushed for stats in before] == [0, 0]
    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled, stats.pushed) == (2, 1, 3)
    assert names(client) == ["b", "a"]
    assert client.len("print") == 1


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_tasks_of_a_commit_have_their_priorities(
    client: Client, database: SharedDatabase, connect: Application, isolation: str
) -> None:
    client.ping()
    application = connect(isolation=isolation)
    messages = [Message("mail", name, "{}", 0.0, n) for name, n in (("c", -1), ("b", 0), ("a", 1))]
    write(database, application, *messages)
    write(
        database,
        application,
        *(each._replace(task_id=f"{each.task_id}2") for each in messages),
        Message("mail", "a3", "{}", 0.0, 1, Unique("k")),
        Message("mail", "c3", "{}", 0.0, -1, Unique("l")),
    )
    application.commit()

    assert names(client) == ["a", "a2", "a3", "b", "b2", "c", "c2", "c3"]


def test_tasks_are_gone_with_the_rollback(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    application = connect()
    write(database, application, task("a"), task("b"))
    application.rollback()

    assert client.stats("mail").pushed == 0
    assert names(client) == []


def test_thousand_tasks_of_a_commit_keep_their_order(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    application = connect()
    messages = [task(uuid4().hex) for _ in range(1000)]
    write(database, application, *messages)
    application.commit()

    assert names(client) == [message.task_id for message in messages]


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
def test_payload_arrives_whatever_the_encoding_of_the_database(
    server: PostgresServer, connect: Application, encoding: str
) -> None:
    data = '{"a": "\\u0000 \u20ac \U0001f40a %s ? \' \\\\"}'
    name = f"shop_{encoding.lower()}"
    server.run(f"DROP DATABASE IF EXISTS {name}")
    server.run(f"CREATE DATABASE {name} ENCODING {encoding} TEMPLATE template0")
    dsn = of_database(server, name)
    client = Client(f"{dsn}?timeout=20")
    application = connect(dsn)
    assert write(client.shared_database, application, task("a", data=data)) is not None
    application.commit()
    [lease] = client.step(["mail"], 1).leases
    client.close()

    assert lease.data == data


# Ids that wait already.


def test_duplicates_are_reported_and_change_nothing(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    client.push_many([task("a", data='"first"')])
    application = connect()
    written = write(database, application, task("b"), task("a"), task("b"))
    application.commit()

    assert written is not None
    assert written.duplicates == [1, 2]
    assert client.stats("mail").pushed == 2
    leases = client.step(["mail"], 10).leases
    assert {lease.task_id: lease.data for lease in leases} == {"a": '"first"', "b": "{}"}


@pytest.mark.parametrize("is_returned", [False, True])
@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_task_that_waits_is_not_run_before_the_commit(
    client: Client, database: SharedDatabase, connect: Application, is_returned: bool, ending: str
) -> None:
    client.push_many([task("a")])
    if is_returned:
        [lease] = client.step(["mail"], 1).leases
        client.step([], 0, outcomes=[Outcome("retry", lease)])
    application = connect()
    written = write(database, application, task("a"))
    before = names(client)
    getattr(application, ending)()

    assert written is not None
    assert written.duplicates == [0]
    assert before == []  # it would not see what the transaction has written
    assert names(client) == ["a"]


def test_running_task_does_not_block_a_new_one_of_its_id(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    client.push_many([task("a")])
    [lease] = client.step(["mail"], 1).leases
    application = connect()
    written = write(database, application, task("a"))
    application.commit()
    client.step([], 0, outcomes=[Outcome("ack", lease)])

    assert written is not None
    assert written.duplicates is None
    assert names(client) == ["a"]


def test_transactions_with_the_same_ids_wait_and_not_in_a_circle(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    first, second = connect(), connect()
    identity = database.identify()
    write(database, first, task("a"), task("b"), identity=identity)
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(write, database, second, task("b"), task("a"), identity=identity)
        first.commit()
        written = waits.result(30)
    second.commit()

    assert written is not None
    assert written.duplicates == [0, 1]
    assert names(client) == ["a", "b"]


# Isolation.


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_newer_task_of_the_id_does_not_fail_a_transaction_with_a_snapshot(
    client: Client, database: SharedDatabase, connect: Application, isolation: str
) -> None:
    client.push_many([task("old")])
    client.push_many([task("moved")])
    application = connect(isolation=isolation)
    client.push_many([task("new", data='"other"')])
    client.cancel("mail", "moved")
    written = write(
        database, application, *[task(name) for name in ("old", "new", "moved", "fresh")]
    )
    application.commit()

    assert written is not None
    assert written.duplicates == [0]
    # It could not be kept from running before the commit, so it runs once more.
    assert sorted(names(client)) == ["fresh", "moved", "new", "new", "old"]
    stats = client.stats("mail")
    assert (stats.leased, stats.ready) == (5, 0)


def test_serializable_transactions_do_not_fail_because_of_the_queue(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    identity = database.identify()

    def work(number: int) -> None:
        application = connect()
        application.rollback()
        application.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        for n in range(20):
            with application.transaction():
                application.execute("SELECT 1")
                write(
                    database, application, task(f"{number}-{n}"), task(f"x{n}"), identity=identity
                )

    with ThreadPoolExecutor(4) as pool:
        worker = pool.submit(lambda: [names(client) for _ in range(20)])
        list(pool.map(work, range(3)))
        ran = [name for found in worker.result(60) for name in found] + names(client)

    assert {f"{number}-{n}" for number in range(3) for n in range(20)} <= set(ran)


def test_conflict_of_the_application_is_still_one(
    client: Client, database: SharedDatabase, connect: Application, query: Query
) -> None:
    client.ping()
    query("CREATE TABLE {s}.doctors (name text, on_call boolean)")
    query("INSERT INTO {s}.doctors VALUES ('a', true), ('b', true)")
    schema = client._sessions.schema
    first, second = (connect(isolation="serializable") for _ in "ab")
    for application in (first, second):
        application.execute(f"SELECT count(*) FROM {schema}.doctors WHERE on_call".encode())
    update = f"UPDATE {schema}.doctors SET on_call = false WHERE name = %s".encode()
    first.execute(update, ["a"])
    second.execute(update, ["b"])
    write(database, first, task("a"))
    first.commit()

    with pytest.raises(psycopg.errors.SerializationFailure):
        write(database, second, task("b"))
        second.commit()
    second.rollback()

    assert names(client) == ["a"]


# Long transactions.


@pytest.mark.usefixtures("always_slow")
def test_task_that_becomes_visible_late_is_not_skipped(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    application = connect()
    write(database, application, task("late"))
    client.push_many([task("a")])
    for _ in range(5):  # so that steps begin where the last one has found its first task
        names(client)
    application.execute(
        # As if the transaction had lasted for a minute.
        f"UPDATE {client._sessions.schema}.task SET at = at - interval '60 s' WHERE id = 'late'".encode()
    )
    application.commit()
    skipped = names(client)
    client._marks._full_at = 1e-9  # a scan from the beginning, which is made about once a second

    assert skipped == []
    assert names(client) == ["late"]


# Where the connection leads.


def test_connection_to_the_database_of_the_store_is_found_out(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    assert why_not(database, connect()) == ""


@pytest.mark.usefixtures("client")
def test_copy_of_the_database_is_another_one(server: PostgresServer, connect: Application) -> None:
    server.run("DROP DATABASE IF EXISTS shop_copy")
    server.run("DROP DATABASE IF EXISTS shop_original")
    server.run("CREATE DATABASE shop_original")
    original = Client(f"{of_database(server, 'shop_original')}?timeout=20")
    database = original.shared_database
    identity = database.identify()
    original.close()
    server.run("CREATE DATABASE shop_copy TEMPLATE shop_original")
    staging = connect(of_database(server, "shop_copy"))

    assert "in another database" in why_not(database, staging)
    assert write(database, staging, task("a"), identity=identity) is None
    [copied] = staging.execute("SELECT id FROM alligator.store").fetchone() or [None]
    assert str(copied) in identity
    assert staging.execute("SELECT count(*) FROM alligator.task").fetchone() == (0,)
    original.close()


@pytest.mark.slow
def test_copy_of_the_server_is_another_one(connect: Application) -> None:
    with postgres_server() as production:
        client = Client(f"{production.dsn}?timeout=20")
        client.ping()
        client.close()
        production.stop()
        with postgres_server() as staging:
            staging.stop()
            copytree(production._data, staging._data, dirs_exist_ok=True)
            _own(staging)
            staging.start()
            production.start()
            application = connect(staging.dsn)
            database = client.shared_database

            assert "in another database" in why_not(database, application)
            assert write(database, application, task("a")) is None
            application.close()
        client.close()


def _own(server: PostgresServer) -> None:
    """Give the copied files to the user of the server."""
    import os
    import pwd

    if server._user is not None:
        account = pwd.getpwnam(server._user)
        for folder, _, files in os.walk(server._data):
            os.chmod(folder, 0o700)
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                os.chown(path, account.pw_uid, account.pw_gid)
    (server._data / "postmaster.pid").unlink(missing_ok=True)


def test_database_without_the_store_is_another_one(
    server: PostgresServer, database: SharedDatabase, connect: Application
) -> None:
    server.run("DROP DATABASE IF EXISTS shop_empty")
    server.run("CREATE DATABASE shop_empty TEMPLATE template0")

    assert "in another database" in why_not(database, connect(of_database(server, "shop_empty")))


@pytest.mark.usefixtures("client")
def test_schemas_are_told_apart(server: PostgresServer, connect: Application) -> None:
    one, two = (Client(f"{server.dsn}?schema=shop_{n}&timeout=20") for n in (1, 2))
    application = connect()

    assert why_not(one.shared_database, application) == ""
    write(two.shared_database, application, task("a"))
    application.commit()

    assert (one.len("mail"), two.len("mail")) == (0, 1)
    one.close()
    two.close()


def test_role_needs_the_right_to_use_the_schema_and_no_other(
    server: PostgresServer, client: Client, database: SharedDatabase, connect: Application
) -> None:
    server.run('DROP ROLE IF EXISTS "Web"')
    server.run('CREATE ROLE "Web" LOGIN')
    schema = client._sessions.schema
    database.identify()
    application = connect(server.dsn.replace("postgres@", "Web@"))
    refused = why_not(database, application)
    server.run(f'GRANT USAGE ON SCHEMA "{schema}" TO "Web"')
    try:
        allowed = why_not(database, application)
        written = write(database, application, task("a"))
        application.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            application.execute(f"SELECT * FROM {schema}.task".encode())
    finally:
        application.close()
        server.run(f'REVOKE USAGE ON SCHEMA "{schema}" FROM "Web"')
        server.run('DROP ROLE "Web"')

    assert refused.endswith(f'GRANT USAGE ON SCHEMA "{schema}" TO "Web"')
    assert allowed == ""
    assert written is not None
    assert names(client) == ["a"]


def test_search_path_of_the_application_has_no_influence(
    server: PostgresServer, client: Client, database: SharedDatabase, connect: Application
) -> None:
    database.identify()
    application = connect()
    application.execute("SET search_path = pg_temp")
    application.execute(
        "CREATE FUNCTION pg_temp.clock_timestamp() RETURNS int LANGUAGE sql AS 'SELECT 1 / 0'"
    )
    written = write(database, application, task("a"))
    application.commit()

    assert written is not None
    assert names(client) == ["a"]


def test_pgbouncer_is_no_obstacle(
    client: Client, database: SharedDatabase, connect: Application, bouncer: str
) -> None:
    application = connect(bouncer)

    assert why_not(database, application) == ""
    write(database, application, task("a"))
    application.commit()

    assert names(client) == ["a"]


# Waking.


def test_workers_are_woken_after_the_commit(
    client: Client, open_client: Open, connect: Application, query: Query
) -> None:
    database, worker = client.shared_database, open_client(timeout="20")
    application = connect()
    written = write(database, application, task("a"))
    assert written is not None
    with ThreadPoolExecutor() as pool:
        found = pool.submit(worker.wait_then_step, ["mail"], 30.0, 1)
        eventually(
            lambda: (
                query(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'"
                    " AND classid = 1634494569 AND granted"
                )
                == [(1,)]
            )
        )
        unfinished = database.wake([written])
        application.commit()
        finished = database.wake([written])
        step = found.result(30)

    assert (unfinished, finished) == ([0], [])
    assert [lease.task_id for lease in step.leases] == ["a"]


def test_prepared_transaction_has_not_ended(
    database: SharedDatabase, connect: Application, query: Query
) -> None:
    application = connect()
    written = write(database, application, task("a"))
    assert written is not None
    name = f"prepared-{uuid4().hex}"
    application.execute(f"PREPARE TRANSACTION '{name}'".encode())
    application.commit()
    prepared = database.wake([written, written])
    query(f"COMMIT PREPARED '{name}'")

    assert prepared == [0, 1]
    assert database.wake([written]) == []


def test_other_stores_share_no_database() -> None:
    from alligator.backends import open_client

    assert shared_database_of(open_client("locmem://")) is None


def test_worker_beside_an_open_transaction_takes_the_other_tasks(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    application = connect()
    write(database, application, task("open"))
    client.push_many([task("a"), task("b")])

    assert names(client) == ["a", "b"]
    application.commit()
    assert names(client) == ["open"]


def keyed(name: str, key: str = "k", *, until_start: bool = True, seconds: float = 0.0) -> Message:
    return Message("mail", name, "{}", 0.0, 0, Unique(key, until_start, seconds))


def holders(written: Written | None) -> dict[int, str]:
    """Return the ids of the tasks that hold the keys of those that were not written."""
    assert written is not None
    found = written.duplicates or ()
    return {int(place): place.task_id if isinstance(place, Held) else "" for place in found}


def test_unique_keys_are_decided_in_the_transaction(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    client.push_many([keyed("a"), task("w")])
    application = connect()

    written = write(
        database,
        application,
        *(keyed("b"), task("w"), keyed("c", "other", seconds=3600.0), keyed("d", "other")),
        task("e"),
    )
    application.commit()

    assert holders(written) == {0: "a", 1: "", 3: "c"}
    assert names(client) == ["a", "w", "c", "e"]
    assert client.push_many([keyed("f"), keyed("g", "other")]) == [1]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_follow_up_is_queued_when_the_tasks_of_the_transaction_are_done(
    client: Client, database: SharedDatabase, connect: Application, isolation: str
) -> None:
    client.push_many([task("w")])
    application = connect(isolation=isolation)
    follow_up = Message("mail", "f", "{}", 0.0, 1, None, True)
    write(database, application, follow_up, task("a"), task("w"), keyed("b"))
    assert client.stats("mail").pushed == 1
    application.commit()

    leases = {lease.task_id: lease for lease in client.reserve("mail", limit=5)}
    assert sorted(leases) == ["a", "b", "w"]
    client.ack(leases["a"])
    assert names(client) == []
    client.ack(leases["b"])
    [found] = client.reserve("mail")
    assert (found.task_id, found.data) == ("f", "batch:2,0 {}")


def test_follow_up_without_other_tasks_is_queued_by_the_transaction(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    client.push_many([task("w")])
    application = connect()
    follow_up = Message("mail", "f", "{}", 0.0, 0, None, True)
    write(database, application, follow_up, task("w"))
    assert client.stats("mail").pushed == 1
    application.commit()

    assert names(client) == ["w", "f"]


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_task_is_replaced_by_the_transaction(
    client: Client, database: SharedDatabase, connect: Application, ends: str
) -> None:
    replace = Unique("k", replace=True)
    client.push_many([Message("mail", "a", "{}", 0.0, 0, replace)])
    application = connect()
    assert holders(write(database, application, Message("mail", "b", "{}", 0.0, 0, replace))) == {}
    assert names(client) == []
    getattr(application, ends)()

    assert client.stats("mail").canceled == (ends == "commit")
    assert names(client) == ["b" if ends == "commit" else "a"]


def test_rollback_discards_follow_ups(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    application = connect()
    write(database, application, task("a"), Message("mail", "f", "{}", 0.0, 0, None, True))
    application.rollback()

    assert names(client) == []
    assert client.stats("mail").pushed == 0


def test_rollback_frees_unique_keys(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    application = connect()
    assert holders(write(database, application, keyed("a"))) == {}
    application.rollback()

    assert client.push_many([keyed("b")]) is None


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_task_that_holds_the_key_waits_for_the_transaction(
    client: Client, database: SharedDatabase, connect: Application, isolation: str
) -> None:
    client.push_many([keyed("a")])
    application = connect(isolation=isolation)
    assert holders(write(database, application, keyed("b"))) == {0: "a"}

    before = names(client)
    application.commit()

    assert before == []
    assert names(client) == ["a"]


def test_key_of_a_task_that_started_since_the_snapshot_is_free(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    client.push_many([keyed("a")])
    application = connect(isolation="repeatable read")
    assert names(client) == ["a"]

    assert holders(write(database, application, keyed("b"))) == {}
    application.commit()

    assert names(client) == ["b"]


def test_key_waits_for_the_transaction_that_takes_it(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    first, second = connect(), connect()
    write(database, first, keyed("a", until_start=False))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(write, database, second, keyed("b", until_start=False))
        first.commit()

        assert holders(waiting.result(20)) == {0: "a"}
    second.commit()
    assert names(client) == ["a"]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_task_runs_beside_a_newer_one_of_its_key(
    client: Client, database: SharedDatabase, connect: Application, isolation: str
) -> None:
    database.identify()  # creates the tables before the snapshots
    first, second = connect(isolation=isolation), connect(isolation=isolation)
    write(database, first, keyed("a", until_start=False))
    first.commit()
    assert holders(write(database, second, keyed("b", until_start=False))) == {}
    second.commit()

    assert client.push_many([keyed("c")]) == [0]
    leases = client.step(["mail"], 10).leases
    assert [lease.task_id for lease in leases] == ["a", "b"]
    client.ack(leases[1])
    assert client.push_many([keyed("c")]) == [0]
    client.ack(leases[0])
    assert client.push_many([keyed("c")]) is None


def test_acks_of_two_tasks_of_one_key_succeed(
    client: Client, database: SharedDatabase, connect: Application
) -> None:
    database.identify()  # creates the tables before the snapshot
    application = connect(isolation="repeatable read")
    client.push_many([keyed("a", until_start=False, seconds=3600.0)])
    write(database, application, keyed("b", until_start=False, seconds=3600.0))
    application.commit()
    leases = client.step(["mail"], 10).leases
    assert [lease.task_id for lease in leases] == ["a", "b"]

    client.step((), 0, outcomes=[Outcome("ack", lease) for lease in leases])

    assert client.stats("mail").succeeded == 2
    assert client.push_many([keyed("c")]) == [0]
