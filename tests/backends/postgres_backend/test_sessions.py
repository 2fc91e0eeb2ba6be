"""Connections: lent, returned, replaced when they are lost, and never shared with a child."""

import asyncio
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from alligator.backends.base import Commit, Message
from alligator.backends.postgres_backend import Client, sessions
from alligator.backends.postgres_backend.sessions import MAX_IDLE, Session
from alligator.backends.postgres_backend.statements import statement
from alligator.exceptions import BackendError, BackendUnavailable
from tests.backends.postgres_backend.conftest import Open, Query
from tests.faults.proxy import Proxy
from tests.harness.postgres_servers import PostgresServer
from tests.harness.programs import eventually

MAIL = [Message("mail", "a", "{}")]


def connections(query: Query) -> int:
    [(number,)] = query(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'alligator'"
    )
    return int(number)


def test_constructing_a_client_opens_no_connection(open_client: Open, query: Query) -> None:
    before = connections(query)

    open_client()

    assert connections(query) <= before


def test_threads_that_end_leave_no_connections(client: Client, query: Query) -> None:
    client.ping()
    for _ in range(50):
        thread = threading.Thread(target=client.ping)
        thread.start()
        thread.join()

    assert len(client._sessions._idle) <= 2


def test_idle_connections_are_kept_up_to_a_limit(client: Client) -> None:
    barrier = threading.Barrier(MAX_IDLE + 8)

    def hold() -> None:
        with client._sessions.lend(time.monotonic() + 60):
            barrier.wait(60)

    client.ping()
    with ThreadPoolExecutor(MAX_IDLE + 8) as pool:
        list(pool.map(lambda _: hold(), range(MAX_IDLE + 8)))

    assert len(client._sessions._idle) == MAX_IDLE


def test_lost_connection_is_replaced(open_client: Open, network: Proxy, through: str) -> None:
    client = open_client(through, timeout="20")
    client.ping()
    network.cut_all()

    client.ping()
    client.push_many(MAIL)

    assert client.len("mail") == 1


def test_restarted_server_is_used_again(client: Client, server: PostgresServer) -> None:
    client.push_many(MAIL)
    server.stop()
    with pytest.raises(BackendUnavailable):
        client.ping()
    server.start()

    client.ping()

    assert client.len("mail") == 1


def test_second_attempt_uses_a_new_connection(
    open_client: Open, network: Proxy, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(through, timeout="20")
    client.ping()
    deadline = time.monotonic() + 60
    with client._sessions.lend(deadline) as one, client._sessions.lend(deadline) as other:
        idle = [one, other]
    network.cut_all()
    # As if neither were known to be lost: the last words of a server hide the end of a connection.
    monkeypatch.setattr("alligator.backends.postgres_backend.wire.Wire.is_alive", lambda wire: True)

    client.ping()

    assert [session.wire.is_closed for session in idle] == [True, True]


def make_idle(client: Client, number: int) -> list[Session]:
    """Leave *number* idle connections behind, as a process does that had as many busy threads."""
    with ExitStack() as stack:
        return [
            stack.enter_context(client._sessions.lend(time.monotonic() + 60)) for _ in range(number)
        ]


def commit(name: str) -> list[Commit]:
    return [Commit([Message("all", name, "{}")], name)]


def test_connections_dropped_by_a_nat_cost_one_push(
    open_client: Open, network: Proxy, through: str
) -> None:
    client = open_client(through, timeout="4")
    make_idle(client, MAX_IDLE)
    network.forget_connections()

    errors = [error for name in "abc" for error in client.push_commits(commit(name))]

    assert errors[1:] == [None, None]
    assert client.len("all") == errors.count(None)


def test_connections_dropped_by_a_nat_cost_one_commit_of_a_loop(
    open_client: Open, network: Proxy, through: str
) -> None:
    client = open_client(through, timeout="4")

    async def main() -> list[Any]:
        await client.apush_commits(commit("before"))
        make_idle(client, MAX_IDLE)
        network.forget_connections()
        return [error for name in "abc" for error in await client.apush_commits(commit(name))]

    errors = asyncio.run(main())

    assert errors[1:] == [None, None]


def test_connections_dropped_by_a_nat_cost_one_call(
    open_client: Open, network: Proxy, through: str
) -> None:
    client = open_client(through, timeout="2")
    make_idle(client, MAX_IDLE)
    network.forget_connections()

    with pytest.raises(BackendUnavailable):
        client.ping()
    client.ping()


def test_connection_that_was_idle_for_a_minute_is_not_used_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = make_idle(client, 3)
    now = time.monotonic()
    monkeypatch.setattr(sessions, "monotonic", lambda: now + sessions.IDLE_SECONDS + 1)

    session = client._sessions.take(now + 1000)

    assert session not in idle
    assert all(each.wire.is_closed for each in idle)
    session.wire.close()


def test_dropped_tables_are_created_again(client: Client, query: Query) -> None:
    client.push_many(MAIL)
    query("DROP SCHEMA {s} CASCADE")

    client.push_many(MAIL)

    assert client.len("mail") == 1


def test_forked_child_leaves_the_connections_of_its_parent(client: Client) -> None:
    client.push_many(MAIL)
    [session] = client._sessions._idle

    child = os.fork()
    if not child:
        code = 1
        with suppress(BaseException):
            code = int(client.len("mail") != 1)
            client.close()
        os._exit(code)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert client.len("mail") == 1
    assert client._sessions._idle == [session]


def test_hosts_that_refuse_or_are_silent_are_passed_over(
    server: PostgresServer, schema: str
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        hosts = f"127.0.0.1:1,127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{server.port}"
        client = Client(f"postgresql://postgres@{hosts}/postgres?schema={schema}&timeout=15")

        client.push_many(MAIL)
        began = time.monotonic()
        client.close()
        client.push_many([Message("mail", "b", "{}")])

        # The next connection begins with the host that answered.
        assert time.monotonic() - began < 4.5  # of the five for which the silent one is waited for
        assert client.len("mail") == 2
        client.close()


def test_server_that_became_a_standby_is_left(client: Client, query: Query) -> None:
    client.push_many(MAIL)
    [session] = client._sessions._idle
    session.wire.run_script(
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", time.monotonic() + 20
    )

    client.push_many([Message("mail", "b", "{}")])

    assert client.len("mail") == 2
    assert session.wire.is_closed


def test_read_only_database_is_unavailable_and_says_so(
    client: Client, query: Query, server: PostgresServer, schema: str
) -> None:
    client.ping()
    query("CREATE ROLE ro_{s} LOGIN")
    query("ALTER ROLE ro_{s} SET default_transaction_read_only = on")
    reader = Client(server.dsn.replace("postgres@", f"ro_{schema}@") + f"?schema={schema}")

    with pytest.raises(BackendUnavailable, match="read-only"):
        reader.push_many(MAIL)

    reader.close()
    query("DROP ROLE ro_{s}")


@pytest.mark.parametrize(
    "version",
    [
        "CockroachDB CCL v24.1.0 (x86_64-pc-linux-gnu)",
        "PostgreSQL 11.2-YB-2024.1.0.0-b0 on x86_64-pc-linux-gnu",
    ],
)
def test_other_databases_are_refused_by_name(
    client: Client, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    asked = sessions._BEGIN.sql.decode().replace("version()", f"'{version}'::text")
    monkeypatch.setattr(sessions, "_BEGIN", statement(asked, "int4"))

    with pytest.raises(BackendError, match=r"is (CockroachDB|YugabyteDB), which"):
        client.ping()


def test_settings_of_the_role_do_not_change_a_session(
    client: Client, query: Query, server: PostgresServer, schema: str
) -> None:
    client.ping()
    query("CREATE ROLE odd_{s} SUPERUSER LOGIN")
    query("ALTER ROLE odd_{s} SET default_transaction_isolation = 'serializable'")
    query("ALTER ROLE odd_{s} SET search_path = nowhere")
    odd = Client(server.dsn.replace("postgres@", f"odd_{schema}@") + f"?schema={schema}&timeout=20")

    odd.push_many(MAIL)
    odd.nack(odd.reserve("mail")[0])

    assert odd.stats("mail").retried == 1
    odd.close()
    query("DROP ROLE odd_{s}")


def test_clock_of_the_server_is_known_after_a_reading() -> None:
    session = Session(None)  # type: ignore[arg-type]
    session.set_clock(1_000_000.0)

    assert 0 <= session.server_time(time.monotonic()) - 1_000_000.0 < 10


def test_pool_survives_threads_that_take_at_once(client: Client) -> None:
    client.ping()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: client.ping(), range(200)))

    eventually(lambda: len(client._sessions._idle) <= MAX_IDLE)
