"""Sleeping and waking: by locks and notifications, and by polling through a pooler."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from alligator.backends.base import Limit, Message
from alligator.backends.postgres_backend import Client, waiting
from alligator.backends.postgres_backend.sessions import Session
from tests.backends.postgres_backend.conftest import Open, Query
from tests.faults.proxy import Proxy
from tests.harness.programs import eventually


def sleepers(query: Query) -> int:
    """Return how many locks show a worker that sleeps; it looks for tasks once more before that."""
    [(number,)] = query(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND classid = 1634494569 AND mode = 'ShareLock' AND granted"
        " AND state = 'idle'"
    )
    return int(number)


def test_sleeper_holds_a_lock_and_releases_it(client: Client, query: Query) -> None:
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(client.wait, ["mail", "print"], 30)
        eventually(lambda: sleepers(query) == 2)
        client.interrupt()
        waits.result(30)

    assert sleepers(query) == 0


def test_push_wakes_as_many_sleepers_as_it_has_tasks(open_client: Open, query: Query) -> None:
    workers = [open_client(timeout="20") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(each.wait_then_step, ["mail"], 4.0, 1) for each in workers]
        eventually(lambda: sleepers(query) == 8)
        workers[0].push_many([Message("mail", f"t{n}", "{}") for n in range(2)])
        eventually(lambda: workers[0].stats("mail").leased == 2)
        # Each that took a task may have woken one more.
        assert sleepers(query) >= 8 - 2 * 2
        for each in workers:
            each.interrupt()
        steps = [future.result(30) for future in found]

    assert sum(len(step.leases) for step in steps) == 2


@pytest.mark.parametrize(
    ("left_in", "priority"),
    [("mail", 0), ("mail", -1), ("print", 0)],
    ids=["the same queue", "a lower priority", "a later queue"],
)
def test_full_worker_wakes_another_for_what_is_left(
    open_client: Open, query: Query, left_in: str, priority: int
) -> None:
    busy, idle = open_client(timeout="20"), open_client(timeout="20")
    busy.push_many([Message("other", "a", "{}")])
    with ThreadPoolExecutor() as pool:
        found = pool.submit(idle.wait_then_step, [left_in], 30.0, 1)
        eventually(lambda: sleepers(query) == 1)
        query(
            "INSERT INTO {s}.task (queue, id, seq, state, delayed, at, due, data, priority) VALUES"
            " ('mail', 'a', 1, 'w', false, now(), now(), '', 0),"
            f" ('{left_in}', 'b', 2, 'w', false, now() + {{s}}.shift({priority}), now(), '', {priority})"
        )
        assert not found.done()
        assert [lease.task_id for lease in busy.step(["mail", "print"], 1).leases] == ["a"]

        assert [lease.task_id for lease in found.result(30).leases] == ["b"]


def test_worker_that_goes_to_sleep_misses_no_place_that_becomes_free(open_client: Open) -> None:
    tasks = 60
    first = open_client(timeout="20")
    first.push_many([Message("mail", f"t{n}", "{}") for n in range(tasks)])
    first.limit("mail", Limit(at_once=1))
    workers = [open_client(timeout="20") for _ in range(3)]

    def work(client: Client) -> int:
        done = 0
        while first.stats("mail").succeeded < tasks:
            # A wake-up that is lost would cost as much as the lease.
            for lease in client.wait_then_step(["mail"], 60.0, 1).leases:
                client.ack(lease)
                done += 1
        for each in workers:
            each.interrupt()
        return done

    start = time.monotonic()
    with ThreadPoolExecutor() as pool:
        counts = [each.result(300) for each in [pool.submit(work, each) for each in workers]]

    assert sum(counts) == tasks
    assert time.monotonic() - start < 45


def test_connection_that_is_lost_while_it_sleeps_is_replaced(
    open_client: Open, query: Query, network: Proxy, through: str
) -> None:
    worker, web = open_client(through, timeout="20"), open_client(timeout="20")
    with ThreadPoolExecutor() as pool:
        found = pool.submit(worker.wait_then_step, ["mail"], 30.0, 1)
        eventually(lambda: sleepers(query) == 1)
        network.cut_all()
        web.push_many([Message("mail", "a", "{}")])

        assert len(found.result(30).leases) == 1


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every session look as through a pooler in transaction mode."""
    begin: Callable[[Session, float], str] = Session.begin

    def begin_pooled(session: Session, deadline: float) -> str:
        version = begin(session, deadline)
        session.is_pooled, session.wire.prepares = True, False
        return version

    monkeypatch.setattr(Session, "begin", begin_pooled)


@pytest.mark.usefixtures("pooled")
def test_sleeper_behind_a_pooler_looks_for_itself(open_client: Open, query: Query) -> None:
    worker, web = open_client(timeout="20"), open_client(timeout="20")
    web.ping()
    with ThreadPoolExecutor() as pool:
        found = pool.submit(worker.wait_then_step, ["mail"], 30.0, 1)
        time.sleep(0.1)
        assert sleepers(query) == 0
        web.push_many([Message("mail", "a", "{}")])

        assert len(found.result(30).leases) == 1
    assert query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'") == [(0,)]


@pytest.mark.usefixtures("pooled")
def test_interrupt_ends_a_sleep_behind_a_pooler(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "POLL_SECONDS", 60.0)
    client.ping()
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(client.wait, ["mail"], 60)
        time.sleep(0.1)
        client.interrupt()

        waits.result(30)
