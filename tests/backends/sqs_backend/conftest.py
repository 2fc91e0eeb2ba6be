"""Clients of SQS; through the proxy when a test uses it."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from alligator.backends.sqs_backend import Client
from tests.harness.sqs_proxy import SqsProxy


@pytest.fixture(autouse=True)
def patience(patient_sqs: None) -> None:
    """Allow each commit the time that a busy machine needs."""


@pytest.fixture
def proxy(sqs: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqsProxy]:
    """Run a proxy that can inject faults, and shorten the pauses between attempts."""
    monkeypatch.setattr("alligator.backends.sqs_backend.connection.PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("alligator.backends.sqs_backend.unbatching.PAUSES", (0.01, 0.01, 0.01))
    with SqsProxy(sqs) as proxy:
        yield proxy


@pytest.fixture
def dsn(request: pytest.FixtureRequest, sqs: str) -> str:
    """Return the DSN of a new prefix; through the proxy, if the test uses it."""
    server = request.getfixturevalue("proxy").dsn if "proxy" in request.fixturenames else sqs
    return f"{server}?prefix={uuid4().hex[:8]}-&poll=0"


@pytest.fixture
def connect(dsn: str) -> Iterator[Callable[..., Client]]:
    """Return a function that opens a client, with further options and a limit for its commits."""
    clients: list[Client] = []

    def open_another(options: str = "", patience: float | None = None) -> Client:
        client = Client(dsn + options)
        if patience is not None:
            client.commit_seconds = patience
        clients.append(client)
        return client

    yield open_another
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    """Return a client."""
    return connect()
