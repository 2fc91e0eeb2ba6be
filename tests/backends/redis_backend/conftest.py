"""A Redis and a Valkey for each test, and clients that are closed at its end."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from typing import Any
from weakref import WeakSet

import pytest

from alligator.backends.redis_backend import Client
from alligator.backends.redis_backend.commits import ABORT, PUSH, Pusher
from tests.harness.redis_network import (
    LossyNetwork,
    earlier,
)
from tests.harness.requirements import needed
from tests.harness.store_servers import Server, redis_server, valkey_server


@pytest.fixture(params=[valkey_server, redis_server], ids=["valkey", "redis"])
def run(request: pytest.FixtureRequest) -> Callable[..., Server]:
    """Start a server with the configuration given, until the test is over."""

    def start(**config: str) -> Server:
        with needed():
            running = request.param(**config)
        server: Server = running.__enter__()
        request.addfinalizer(lambda: running.__exit__(None, None, None))
        return server

    return start


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close each client at the end of its test; otherwise it may warn during a later test."""
    made: WeakSet[Client] = WeakSet()
    begin = Client.__init__

    def noted(self: Client, conn_string: str) -> None:
        begin(self, conn_string)
        made.add(self)

    monkeypatch.setattr(Client, "__init__", noted)
    yield
    for client in made:
        client.close()


@pytest.fixture
def server(run: Callable[..., Server]) -> Server:
    return run()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with closing(Client(server)) as client:
        yield client


@pytest.fixture
def note_earlier() -> None:
    """Remember the threads of tests before this one."""
    earlier.update(threading.enumerate())


@pytest.fixture
def network(server: Server, client: Client) -> Iterator[LossyNetwork]:
    for script in (PUSH, ABORT):
        client.conn.script_load(script.source)  # so that one request is one attempt
    with closing(LossyNetwork(server)) as cutter:
        yield cutter


@pytest.fixture(params=["asyncio", "uvloop"])
def either_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `asyncio.run` use each of the event loops that web servers use."""
    new_loop = pytest.importorskip(request.param).new_event_loop

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main)

    monkeypatch.setattr(asyncio, "run", run)


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a push fail that is not settled by one exchange on the event loop."""

    def refuse(*_: object) -> None:
        pytest.fail("a thread makes the trip")

    monkeypatch.setattr(Pusher, "_push_or_undo", refuse)


@pytest.fixture
def script_known(client: Client) -> None:
    """Let the server know the script, so that one request is one attempt."""
    client.conn.script_load(PUSH.source)
