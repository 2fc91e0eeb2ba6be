"""PgBouncer in transaction mode: noticed, and used without prepared statements and notifications."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from alligator.backends.base import Commit, Message, Outcome
from tests.backends.postgres_backend.conftest import Open, Query
from tests.harness.postgres_servers import PostgresServer, pgbouncer
from tests.harness.store_servers import Missing


@pytest.fixture(scope="module")
def bouncer(postgres_process: PostgresServer) -> Iterator[str]:
    try:
        with pgbouncer(postgres_process) as found:
            yield found.dsn
    except Missing as missing:
        pytest.skip(str(missing))


def test_tasks_pass_from_threads_to_workers(open_client: Open, bouncer: str) -> None:
    web, worker = open_client(bouncer, timeout="20"), open_client(bouncer, timeout="20")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: web.push_many([Message("mail", f"{n}", "{}")]), range(100)))

    done: list[str] = []
    outcomes: list[Outcome] = []
    while leases := worker.step(["mail"], 7, outcomes=outcomes).leases:
        done += [lease.task_id for lease in leases]
        outcomes = [Outcome("ack", lease) for lease in leases]

    assert sorted(done, key=int) == [f"{n}" for n in range(100)]
    assert worker.stats("mail").succeeded == 100
    assert all(session.is_pooled for session in web._sessions._idle)


def test_sleeping_worker_finds_a_task(open_client: Open, bouncer: str, query: Query) -> None:
    web, worker = open_client(bouncer, timeout="20"), open_client(bouncer, timeout="20")
    web.ping()
    with ThreadPoolExecutor() as pool:
        found = pool.submit(worker.wait_then_step, ["mail"], 30.0, 1)
        web.push_many([Message("mail", "a", "{}")])

        assert len(found.result(30).leases) == 1
    assert query(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1634494569"
    ) == [(0,)]


def test_event_loop_pushes_through_it(open_client: Open, bouncer: str) -> None:
    client = open_client(bouncer, timeout="20")

    async def main() -> None:
        for number in range(10):
            commit = Commit([Message("mail", f"{number}", "{}")], f"c{number}")
            assert await client.apush_commits([commit]) == [None]

    asyncio.run(main())

    assert client.len("mail") == 10


def test_settings_of_a_session_do_not_reach_other_clients(
    open_client: Open, bouncer: str, server: PostgresServer
) -> None:
    import psycopg

    client = open_client(bouncer, timeout="20")
    for number in range(10):
        client.push_many([Message("mail", f"{number}", "{}")])

    with psycopg.connect(bouncer, autocommit=True, prepare_threshold=None) as other:
        [(timeout,)] = other.execute("SELECT current_setting('lock_timeout')").fetchall()
    assert timeout == "0"
