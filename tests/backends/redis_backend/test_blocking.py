"""A connection to Redis for one thread: what it waits for, and how it ends."""

import gc
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from time import monotonic

import pytest
from redis import exceptions as errors

from alligator.backends.redis_backend.blocking import CHUNK, Connection
from alligator.backends.redis_backend.dsn import read_dsn
from alligator.backends.redis_backend.protocol import packed
from alligator.backends.redis_backend.server import Server
from tests.harness.programs import SLACK

SERVER = Server.from_dsn(read_dsn("redis://localhost"))


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    """Give a connection, and the server's side of it."""
    here, there = socket.socketpair()
    with closing(Connection(SERVER, here)) as connection, there:
        yield connection, there


def soon() -> float:
    return monotonic() + SLACK


def test_connection_begins_with_the_login_and_a_first_command(redis: str) -> None:
    with closing(Connection.open(Server.from_dsn(read_dsn(f"{redis}?db=5")), soon())) as connection:
        seconds, _ = connection.first_reply
        connection.send(packed(("CLIENT", "INFO")), soon())

        assert int(seconds) > 1e9
        assert " db=5 " in connection.receive(soon())


def test_reply_may_arrive_in_pieces(ends: tuple[Connection, socket.socket]) -> None:
    connection, there = ends
    there.sendall(b"$200000\r\n" + b"x" * 100_000)
    with pytest.raises(errors.TimeoutError):
        connection.receive(monotonic() + 0.01)
    there.sendall(b"x" * 100_000 + b"\r\n:1\r\n")

    assert connection.receive(soon()) == "x" * 200_000
    assert connection.receive(soon()) == 1


def test_response_error_is_a_reply_and_others_are_raised(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, there = ends
    there.sendall(b"-WRONGTYPE no\r\n-LOADING still\r\n")

    assert isinstance(connection.receive(soon()), errors.ResponseError)
    with pytest.raises(errors.BusyLoadingError):
        connection.receive(soon())


def test_server_that_takes_no_bytes_is_waited_for_until_the_deadline(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, _ = ends

    with pytest.raises(errors.TimeoutError):
        connection.send(b"x" * 50_000_000, monotonic() + 0.05)


def test_command_that_the_server_takes_slowly_is_sent_as_a_whole(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, there = ends
    taken = bytearray()

    def take() -> None:
        while chunk := there.recv(CHUNK):
            taken.extend(chunk)

    with ThreadPoolExecutor() as pool:
        taking = pool.submit(take)
        connection.send(b"x" * 20_000_000 + b"end", soon())
        connection.send(b"next", soon())
        connection.close()
        taking.result()

    assert len(taken) == 20_000_007
    assert taken.endswith(b"xendnext")


def test_reply_is_waited_for_again_if_there_was_nothing_to_read(
    ends: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, there = ends
    there.sendall(b":1\r\n")
    here, (empty, other) = connection._sock, socket.socketpair()
    empty.setblocking(False)
    waits: list[int] = []

    def poll(milliseconds: int) -> object:
        # The first time it says so of a socket that has nothing, as the kernel may.
        waits.append(milliseconds)
        connection._sock = here
        return [1]

    monkeypatch.setattr(connection, "_poll", poll)
    connection._sock = empty

    with empty, other:
        assert connection.receive(soon()) == 1

    assert len(waits) == 2


def test_connection_is_usable_until_something_arrives(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, there = ends

    assert connection.is_usable
    assert connection.is_usable
    there.sendall(b":1\r\n")
    assert not connection.is_usable


def test_connection_that_the_server_closed_is_not_usable(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, there = ends
    there.close()

    assert not connection.is_usable
    with pytest.raises(errors.ConnectionError):
        connection.receive(soon())
    connection.close()
    assert not connection.is_usable
    with pytest.raises(errors.ConnectionError, match="is closed"):
        connection.receive(soon())


def test_child_does_not_end_the_connection_of_its_parent(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, there = ends
    child = os.fork()
    if not child:
        connection.close()
        os._exit(0)
    os.waitpid(child, 0)
    there.sendall(b":1\r\n")

    assert connection.receive(soon()) == 1


def test_deleted_connection_in_a_cycle_closes_its_socket() -> None:
    here, there = socket.socketpair()
    connection = Connection(SERVER, here)
    connection.first_reply = [connection]
    del here, connection
    gc.collect()

    with there:
        assert there.recv(1) == b""
