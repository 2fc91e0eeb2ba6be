"""Connections to a Redis server: those that a network dropped silently, and how long one is kept."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing
from time import monotonic
from typing import Any

import pytest

from alligator.backends.base import Commit, Message
from alligator.backends.redis_backend import Client
from alligator.backends.redis_backend import connection as redis_connection
from tests.faults.proxy import Proxy
from tests.harness.programs import SLACK
from tests.harness.requirements import needed
from tests.harness.store_servers import valkey_server

IDLE = 40


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with needed():
        running = valkey_server()
    with running as server, Proxy(server) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Client]:
    with closing(Client(proxy.dsn)) as client:
        client.drop_all("all")
        yield client


def message(task_id: str) -> Message:
    return Message("all", task_id, "{}")


def make_idle(client: Client, number: int) -> None:
    """Leave *number* idle connections behind, as a process does that had as many busy threads."""
    connections = client._connections
    taken = [connections.acquire(monotonic() + SLACK) for _ in range(number)]
    for connection in taken:
        connections.release(connection)


def test_connections_dropped_by_a_nat_cost_one_push(client: Client, proxy: Proxy) -> None:
    make_idle(client, IDLE)
    proxy.forget_connections()

    errors: list[Any] = []
    for number in range(3):
        errors += client.push_commits([Commit([message(str(number))], str(number))])

    assert errors[1:] == [None, None]
    assert client.len("all") == 3 - sum(error is not None for error in errors)


def test_connections_dropped_by_a_nat_cost_one_commit_of_a_loop(
    client: Client, proxy: Proxy
) -> None:
    async def main() -> list[Any]:
        await client.apush_commits([Commit([message("before")], "before")])
        make_idle(client, IDLE)
        proxy.forget_connections()
        errors: list[Any] = []
        for number in range(3):
            errors += await client.apush_commits([Commit([message(str(number))], str(number))])
        return errors

    errors = asyncio.run(main())

    assert errors[1:] == [None, None]


def test_connection_that_was_idle_for_a_minute_is_not_used_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_idle(client, 3)
    first = client._connections.acquire(monotonic() + SLACK)
    client._connections.release(first)
    now = monotonic()
    monkeypatch.setattr(
        redis_connection, "monotonic", lambda: now + redis_connection.IDLE_SECONDS + 1
    )

    second = client._connections.acquire(now + 1000)

    assert second is not first
    assert first.is_closed, "it was closed"
    assert not client._connections._idle, "the others are older still"
    second.close()


def test_connections_are_kept_alive(client: Client) -> None:
    connection = client._connections.acquire(monotonic() + SLACK)

    assert connection._sock is not None
    assert connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    client._connections.release(connection)
