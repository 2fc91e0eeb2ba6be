"""Pushes that arrive after their deadline: Redis rejects them by its own clock."""

from collections.abc import Iterator
from contextlib import closing
from threading import Thread
from typing import Any, NoReturn

import pytest

from alligator.backends.base import Commit, Message
from alligator.backends.redis_backend import Client
from alligator.backends.redis_backend.commits import Pusher
from alligator.backends.redis_backend.connection import Connections
from alligator.commits.counters import Reports
from alligator.constants import COMMIT_MEMORY
from alligator.exceptions import BackendError, BackendUnavailable
from tests.faults.proxy import Proxy
from tests.harness.programs import eventually
from tests.harness.requirements import needed
from tests.harness.store_servers import Server, valkey_server

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


def test_push_that_was_delayed_is_refused_without_an_undo(
    network: Proxy, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pusher, "_undo", lambda *args: True)  # a worker would be quicker
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


def test_push_succeeds_after_the_clock_was_put_forward(client: Client) -> None:
    client.push_many([Message("all", "connects", "{}")])
    clocks = client._connections._clocks
    for connection, (offset, measured) in list(clocks.items()):
        clocks[connection] = offset - 3600, measured

    client.push_many(MESSAGES)

    assert client.len("all") == 2


def test_push_that_is_always_too_late_fails_and_is_not_queued(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connections, "server_time", lambda *args, **more: 0)

    with pytest.raises(BackendUnavailable, match="too late"):
        client.push_many(MESSAGES, commit_id="c")

    assert client.len("all") == 0
    monkeypatch.undo()
    client.push_many(MESSAGES, commit_id="c")
    assert client.len("all") == 1


def test_clock_is_read_once_per_used_connection(client: Client) -> None:
    for number in range(20):
        client.push_many([Message("all", str(number), "{}")])

    before = client.conn.info("commandstats")["cmdstat_time"]["calls"]
    for number in range(20, 40):
        client.push_many([Message("all", str(number), "{}")])
    after = client.conn.info("commandstats")["cmdstat_time"]["calls"]

    # The script asks for the time too, once each.
    assert after - before == 20


def test_unreachable_server_is_an_error(network: Proxy) -> None:
    with (
        closing(Client(f"{network.dsn}?timeout=0.2")) as client,
        network.stall(),
        pytest.raises(BackendError),
    ):
        client.push_many(MESSAGES)


def test_report_that_was_delayed_and_repeated_counts_once(network: Proxy, client: Client) -> None:
    with closing(Client(f"{network.dsn}?timeout=0.2")) as reporting:
        reporting.note({}, ["all"])
        client.conn.config_resetstat()
        reports = Reports(reporting)
        with network.stall(), pytest.raises(BackendUnavailable):
            reports.send({"all": {"run:1": 1}})
        reports.resend()
        eventually(lambda: client.conn.info("commandstats")["cmdstat_set"]["calls"] >= 2)
        reports.send({"all": {"run:1": 1}})

    assert client.figures("all") == {"run:1": 2}
    [marker, _] = client.conn.keys("*:report")
    assert 0 < client.conn.ttl(marker) <= COMMIT_MEMORY


def test_undo_is_repeated_after_any_error(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.push_many(MESSAGES, commit_id="c")
    pushes, call = client._pusher, client._connections.call
    errors: list[Exception] = [OSError("no route"), MemoryError("no memory")]

    def fail_first(*given: Any, **named: Any) -> Any:
        if errors:
            raise errors.pop()
        return call(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(client._connections, "call", fail_first)
        pushes._undo_later(pushes._prepare(Commit(MESSAGES, "c")))
        eventually(lambda: not pushes.pending)

    assert not errors
    assert client.len("all") == 0


def test_undo_without_a_thread_happens_with_the_next(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    pushes = client._pusher
    for name in "ab":
        client.push_many([Message("all", name, "{}")], commit_id=name)
    first, second = (pushes._prepare(Commit([Message("all", name, "{}")], name)) for name in "ab")

    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        pushes._undo_later(first)
    assert "can't start new thread" in caplog.text
    assert client.len("all") == 2
    pushes._undo_later(second)
    eventually(lambda: not pushes.pending)

    assert client.len("all") == 0
