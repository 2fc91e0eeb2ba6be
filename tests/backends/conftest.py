"""Every store that the contract is held against, each test in a namespace of its own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from alligator.backends import open_client
from alligator.backends.base import Client
from tests.servers import Missing, redis_server, valkey_server

Connect = Callable[[], Client]


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """Give the DSN of a Valkey that runs as long as the tests do."""
    try:
        with valkey_server() as dsn:
            yield dsn
    except Missing as missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(missing))


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    """Give the DSN of a Redis that runs as long as the tests do, where one is installed."""
    try:
        with redis_server() as dsn:
            yield dsn
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(params=["locmem", "sqlite", "valkey", "redis"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a new and empty store, of each kind in turn."""
    if request.param == "locmem":
        return f"locmem://{uuid4()}"
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/queue.db"
    return f"{request.getfixturevalue(request.param)}?ns={uuid4().hex}"


@pytest.fixture
def connect(dsn: str) -> Iterator[Connect]:
    """Open clients of the same store, as several programs would."""
    clients: list[Client] = []

    def open_another() -> Client:
        clients.append(open_client(dsn))
        return clients[-1]

    yield open_another
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Connect) -> Client:
    """Open one client of the store."""
    return connect()


@pytest.fixture
def shared_dsn(dsn: str) -> str:
    """Name a store that several processes can share."""
    if dsn.startswith("locmem:"):
        pytest.skip("locmem:// is the memory of one process")
    return dsn
