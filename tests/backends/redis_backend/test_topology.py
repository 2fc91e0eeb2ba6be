"""What Sentinels say of the master, and which of them is believed."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from time import monotonic

import hiredis
import pytest

from alligator.backends.base import Message
from alligator.backends.redis_backend import Client
from alligator.backends.redis_backend.topology import ASK_SECONDS
from alligator.exceptions import BackendUnavailable
from tests.harness.requirements import needed
from tests.harness.store_servers import Server, valkey_server


class Sentinel:
    """A server that looks like a Sentinel to a client: it answers questions for the master."""

    def __init__(self, master: Server, epoch: int, *, is_silent: bool = False) -> None:
        self._facts = {"name": "main", "ip": "127.0.0.1", "port": master.port}
        self._facts |= {"flags": "master", "config-epoch": epoch}
        self._is_silent = is_silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        reader = hiredis.Reader(encoding="utf-8")
        with client, suppress(OSError):
            while data := client.recv(65536):
                reader.feed(data)
                while (words := reader.gets()) is not False:
                    is_question = words[:2] == ["SENTINEL", "MASTER"]
                    self.asked += is_question
                    if not self._is_silent:
                        client.sendall(written(self._facts) if is_question else b"+OK\r\n")


def written(facts: Mapping[str, object]) -> bytes:
    words = [str(word) for pair in facts.items() for word in pair]
    return f"*{len(words)}\r\n".encode() + b"".join(
        f"${len(word)}\r\n{word}\r\n".encode() for word in words
    )


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    """Yield the master of before a failover, which has been started again, and that of after it."""
    with needed():
        starting = [valkey_server(), valkey_server()]
    with ExitStack() as stack:
        old, new = (stack.enter_context(server) for server in starting)
        yield old, new


@contextmanager
def client_of(*sentinels: Sentinel, master: str = "main") -> Iterator[Client]:
    with ExitStack() as stack:
        for sentinel in sentinels:
            stack.enter_context(closing(sentinel))
        dsn = f"redis+sentinel://{','.join(sentinel.place for sentinel in sentinels)}/{master}"
        yield stack.enter_context(closing(Client(dsn)))


def test_sentinel_that_has_missed_a_failover_is_not_believed(
    servers: tuple[Server, Server],
) -> None:
    old, new = servers

    with (
        client_of(Sentinel(old, 1), Sentinel(new, 2), Sentinel(old, 1)) as client,
        closing(Client(old)) as before,
        closing(Client(new)) as after,
    ):
        client.push_many([Message("all", "a", "{}")])

        assert (before.len("all"), after.len("all")) == (0, 1)


def test_silent_sentinel_delays_only_the_first_connection(servers: tuple[Server, Server]) -> None:
    _, new = servers
    silent = Sentinel(new, 9, is_silent=True)
    answering = Sentinel(new, 2)

    with client_of(silent, answering) as client:
        client.ping()
        took = []
        for _ in range(3):
            client.close()
            began = monotonic()
            client.ping()
            took.append(monotonic() - began)

    assert answering.asked == 4
    assert silent.asked == 1, "it is not asked again"
    assert min(took) < ASK_SECONDS


def test_silent_sentinels_are_asked_again_when_no_other_answers(
    servers: tuple[Server, Server],
) -> None:
    _, new = servers
    sentinel = Sentinel(new, 1, is_silent=True)

    with client_of(sentinel) as client:
        with pytest.raises(BackendUnavailable, match="did not answer in time"):
            client.ping()
        sentinel._is_silent = False
        client.ping()
