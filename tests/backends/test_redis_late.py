"""A push that arrives when nobody waits for it any more: Redis refuses it by its own clock."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from alligator.backends.base import Message
from alligator.backends.redis_backend import Client
from alligator.backends.redis_connection import Connections
from alligator.backends.redis_pushes import Pushes
from alligator.exceptions import BackendError, BackendUnavailable
from tests.faults.proxy import Proxy
from tests.needs import needed
from tests.programs import eventually
from tests.servers import Server, valkey_server

MESSAGES = [Message("all", "a", "{}")]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with needed(), valkey_server() as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with closing(Client(server)) as client:
        client.conn.flushall()
        yield client


@pytest.fixture
def network(server: Server) -> Iterator[Proxy]:
    with Proxy(server) as proxy:
        yield proxy


def test_a_push_that_was_held_back_is_refused_before_anybody_undoes_it(
    network: Proxy, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pushes, "_undo", lambda *args: True)  # a worker would be quicker
    with closing(Client(f"{network.dsn}?timeout=0.2")) as pushing:
        pushing.push_many([Message("all", "connects", "{}")])
        with network.stall():
            with pytest.raises(BackendUnavailable):
                pushing.push_many(MESSAGES)
            carried = network.passed
        eventually(lambda: client.conn.info("commandstats")["cmdstat_evalsha"]["calls"] >= 1)
        pushing.ping()

        assert carried >= 2
        assert client.len("all") == 1


def test_a_push_survives_that_the_clock_of_the_server_was_put_forward(client: Client) -> None:
    client.push_many([Message("all", "connects", "{}")])
    clocks = client._connections._clocks
    for connection, (offset, measured) in list(clocks.items()):
        clocks[connection] = offset - 3600, measured

    client.push_many(MESSAGES)

    assert client.len("all") == 2


def test_a_push_that_is_always_too_late_says_so_and_is_not_queued(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connections, "server_time", lambda *args, **more: 0)

    with pytest.raises(BackendUnavailable, match="too late"):
        client.push_many(MESSAGES, commit_id="c")

    assert client.len("all") == 0
    monkeypatch.undo()
    client.push_many(MESSAGES, commit_id="c")
    assert client.len("all") == 1


def test_the_clock_is_asked_for_once_by_a_connection_that_is_used(client: Client) -> None:
    for number in range(20):
        client.push_many([Message("all", str(number), "{}")])

    before = client.conn.info("commandstats")["cmdstat_time"]["calls"]
    for number in range(20, 40):
        client.push_many([Message("all", str(number), "{}")])
    after = client.conn.info("commandstats")["cmdstat_time"]["calls"]

    # The script asks for the time too, once each.
    assert after - before == 20


def test_a_server_that_is_away_is_still_an_error(network: Proxy) -> None:
    with (
        closing(Client(f"{network.dsn}?timeout=0.2")) as client,
        network.stall(),
        pytest.raises(BackendError),
    ):
        client.push_many(MESSAGES)
