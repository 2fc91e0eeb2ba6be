"""Credentials that are missing, late or expired, and an endpoint that hangs."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

import pytest

from alligator.backends.base import Commit, Message
from alligator.backends.sqs_backend import Client
from alligator.commits.breaker import FAILURES
from alligator.commits.committer import Committer
from alligator.exceptions import BackendError, BackendUnavailable
from tests.backends.conftest import PATIENCE
from tests.harness.programs import SLACK
from tests.harness.sqs_proxy import Refuse, Request, SqsProxy

MESSAGE = [Message("mail", "a", "data")]


class Endpoint:
    """The credentials endpoint of a container, as in ECS and EKS."""

    def __init__(self) -> None:
        self.answers = Event()
        """Whether it answers."""
        self.status = 200
        self.lives = timedelta(hours=6)
        self.asked = 0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoint.asked += 1
                endpoint.answers.wait()
                body = json.dumps(endpoint.credentials()).encode()
                self.send_response(endpoint.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that did not wait

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def credentials(self) -> dict[str, str]:
        ends = datetime.now(UTC) + self.lives
        return {
            "AccessKeyId": f"key{self.asked}",
            "SecretAccessKey": "any",
            "Token": "any",
            "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def close(self) -> None:
        self.answers.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def no_credentials(sqs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    endpoint = Endpoint()
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url)
    yield endpoint
    endpoint.close()


@pytest.fixture
def connect(sqs: str) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def open_another(dsn: str = sqs, patience: float | None = None) -> Client:
        client = Client(f"{dsn}?prefix={uuid4().hex[:8]}-&poll=0")
        if patience is not None:
            client.commit_seconds = patience
        clients.append(client)
        return client

    yield open_another
    for client in clients:
        client.close()


def test_late_credentials_are_found(
    connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    with pytest.raises(BackendUnavailable, match="set AWS_ACCESS_KEY_ID"):
        client.push_many(MESSAGE)
    with pytest.raises(BackendUnavailable, match="set AWS_ACCESS_KEY_ID"):
        client.ping()

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")

    client.push_many(MESSAGE)
    assert client.len("mail") == 1


def test_credentials_that_sqs_calls_expired_are_searched_again(
    sqs: str,
    connect: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
    endpoint: Endpoint,
) -> None:
    monkeypatch.setattr("alligator.backends.sqs_backend.credentials.FORGET_SECONDS", 0.0)
    endpoint.answers.set()
    with SqsProxy(sqs) as proxy:
        client = connect(proxy.dsn)
        client.push_many(MESSAGE)
        asked = endpoint.asked

        def refuse(request: Request) -> Refuse | None:
            return Refuse("ExpiredToken") if endpoint.asked == asked else None

        with proxy.rule(refuse):
            client.push_many([Message("mail", "b", "data")])

    assert endpoint.asked == asked + 1


def test_credentials_are_renewed_before_they_expire(
    connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setattr("alligator.backends.sqs_backend.credentials.SEARCH_SECONDS", 0.0)
    endpoint.answers.set()
    endpoint.lives = timedelta(minutes=12)
    client = connect()
    client.push_many(MESSAGE)
    asked = endpoint.asked

    endpoint.lives = timedelta(hours=6)
    client.push_many(MESSAGE)
    search = client._sqs._credentials._search
    if search is not None:
        assert search.done.wait(PATIENCE)
    client.push_many(MESSAGE)

    assert endpoint.asked == asked + 1


def test_renewal_of_credentials_delays_no_call(
    connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setattr("alligator.backends.sqs_backend.credentials.SEARCH_SECONDS", 0.0)
    endpoint.answers.set()
    endpoint.lives = timedelta(minutes=12)
    client = connect()
    client.push_many(MESSAGE)
    endpoint.answers.clear()

    client.push_many(MESSAGE)

    assert client._sqs._credentials._search is not None


def test_endpoint_that_hangs_blocks_no_thread_beyond_a_commit(
    connect: Callable[..., Client], endpoint: Endpoint
) -> None:
    client = connect(patience=1.0)
    took: list[float] = []

    def push() -> None:
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="credentials"):
            client.push_many(MESSAGE)
        took.append(time.monotonic() - began)

    threads = [Thread(target=push) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(took) == 5
    assert max(took) < 1 + SLACK
    assert endpoint.asked <= 2


def test_endpoint_that_hangs_opens_the_breaker(
    connect: Callable[..., Client], endpoint: Endpoint
) -> None:
    committer = Committer(connect(patience=0.6))

    for _ in range(FAILURES):
        with pytest.raises(BackendUnavailable, match="credentials"):
            committer.push(Commit(MESSAGE, "c"))

    assert committer.breaker is not None
    assert committer.breaker.is_open


def test_push_succeeds_once_the_endpoint_answers(
    connect: Callable[..., Client], endpoint: Endpoint
) -> None:
    hasty = connect(patience=0.6)
    with pytest.raises(BackendUnavailable, match="credentials"):
        hasty.push_many(MESSAGE)

    endpoint.answers.set()
    hasty.commit_seconds = PATIENCE
    hasty.push_many(MESSAGE)

    assert hasty.len("mail") == 1


def test_missing_credentials_are_reported_with_the_remedy(connect: Callable[..., Client]) -> None:
    with pytest.raises(BackendError, match="set AWS_ACCESS_KEY_ID"):
        connect().push_many(MESSAGE)
