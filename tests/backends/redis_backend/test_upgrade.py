"""Data that an older Alligator has left in Redis: its fences count, and its markers know no times."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from alligator.backends.base import Message, Outcome
from alligator.backends.redis_backend import Client
from tests.harness.requirements import needed
from tests.harness.store_servers import Server, valkey_server

LOST = 2**32


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with needed(), valkey_server() as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with closing(Client(server)) as client:
        client.conn.flushall()
        yield client


def put(client: Client, state: str, task_id: str, score: float, fence: int | None = None) -> None:
    """Write a task as an older version did."""
    queue = "{alligator}:all"
    client.conn.hset(f"{queue}:job", task_id, f"data of {task_id}")
    client.conn.zadd(f"{queue}:{state}", {task_id: score})
    if fence is not None:
        client.conn.hset(f"{queue}:try", task_id, fence)
    if state == "dead":
        client.conn.hset(f"{queue}:why", task_id, '["no luck",""]')


def test_tasks_of_every_state_are_read(client: Client) -> None:
    put(client, "due", "fresh", 1)
    put(client, "due", "retried", 2, 3)
    put(client, "due", "lost", 3, 2 * LOST + 5)
    put(client, "run", "leased", 4)
    put(client, "dead", "dead", 5, 5 * LOST + 5)

    found = [client.step(["all"], 9).leases for _ in range(3)]

    assert [[(lease.task_id, lease.lost) for lease in some] for some in found] == [
        [("fresh", 0), ("retried", 0)],
        [("lost", 2)],
        [("leased", 0)],
    ]
    for lease in [lease for some in found for lease in some]:
        client.ack(lease)
    stats = client.stats("all")
    assert (stats.succeeded, stats.lost, stats.dead) == (4, 1, 1)
    (letter,) = client.dead_letters("all")
    assert (letter.task_id, letter.reason) == ("dead", "no luck")


def test_tasks_without_a_priority_run_among_those_with_one(client: Client) -> None:
    put(client, "due", "retried", 1, 3)
    put(client, "due", "fresh", 2)
    client.push_many([Message("all", "low", "{}", 0.0, -1), Message("all", "high", "{}", 0.0, 1)])

    leases = client.reserve("all", limit=9)

    assert [lease.task_id for lease in leases] == ["high", "retried", "fresh", "low"]
    client.step((), 0, outcomes=[Outcome("ack", lease) for lease in leases])
    assert client.stats("all").succeeded == 4


@pytest.mark.parametrize(("state", "fence"), [("run", None), ("run", 7), ("dead", 5 * LOST)])
def test_newer_task_takes_the_id_of_an_old_one(
    client: Client, state: str, fence: int | None
) -> None:
    put(client, state, "a", 4e15, fence)

    assert client.push_many([Message("all", "a", "new")]) is None

    assert client.cancel("all", "a") == ("new", False)
    stats = client.stats("all")
    assert (stats.leased, stats.dead) == ((1, 0) if state == "run" else (0, 1))
    assert client.retry_dead("all", "a") == (state == "dead")


def test_dead_task_is_retried_without_its_losses(client: Client) -> None:
    put(client, "dead", "a", 5, 5 * LOST + 5)
    client.push_many([Message("all", "b", "{}")])

    client.retry_dead("all", "a")

    assert {(lease.task_id, lease.lost) for lease in client.reserve("all", limit=5)} == {
        ("a", 0),
        ("b", 0),
    }


@pytest.mark.parametrize("marker", ["done", '{"{alligator}:all": {"a": true}}'])
def test_push_with_a_marker_without_times_is_undone(client: Client, marker: str) -> None:
    put(client, "due", "a", 1)
    put(client, "due", "b", 2, 1)
    client.conn.set("{alligator}:c1:commit", marker)

    client.abort("c1", [Message("all", "a", "{}"), Message("all", "b", "{}")])

    assert [lease.task_id for lease in client.reserve("all", limit=5)] == ["b"]
