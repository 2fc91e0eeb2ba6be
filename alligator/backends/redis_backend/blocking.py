"""A connection to Redis that blocks its thread; every wait has a deadline."""

import os
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import ceil
from ssl import SSLWantReadError
from time import monotonic
from typing import Any
from weakref import finalize

from redis import exceptions as errors

from .dsn import Address
from .protocol import NOTHING, new_reader, packed
from .server import Server, as_redis_error, seconds_left

CHUNK = 65536
TIME = ("TIME",)
CLOSED = "the connection is closed"

TLS_HINT = "; does this port use TLS? Without TLS, the DSN begins with redis"
PLAIN_HINT = "; if this port requires TLS, the DSN begins with rediss"


class Connection:
    """A connection to a server, for one thread at a time."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.address: Address = server.address
        self.pid: int = os.getpid()
        self.first_reply: Any = None
        """The reply to the first command after the login; an error of the server is a reply."""
        self._sock: socket.socket | None = sock
        # Not `__del__`: in a cycle, that of the socket may be called first, and warns.
        self._close_socket = finalize(self, sock.close)
        self._close_socket.atexit = False
        self._reader = new_reader()
        self._buffer = bytearray(CHUNK)
        self._poll: Callable[[int], object] | None = None
        self._never_blocks = False
        """Whether the socket never waits, and `_poll` waits instead. This takes fewer system calls."""
        if hasattr(select, "poll"):  # not on Windows
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            self._poll = poll.poll
            self._never_blocks = not server.has_tls
            if self._never_blocks:
                sock.setblocking(False)

    @classmethod
    def open(
        cls, server: Server, deadline: float, command: Sequence[str | int] = TIME
    ) -> "Connection":
        """Return a connection to *server*, after the login and a first *command*."""
        sock = server.dial(deadline)
        try:
            connection = cls(server, _with_tls(server, sock, deadline))
        except BaseException:
            sock.close()
            raise
        try:
            connection._begin([*server.login, command], deadline)
        except BaseException as error:
            connection.close()
            if isinstance(error.__cause__, ConnectionError) and not server.has_tls:
                raise errors.ConnectionError(f"{error}{PLAIN_HINT}") from error
            raise
        return connection

    def _begin(self, commands: Sequence[Sequence[str | int]], deadline: float) -> None:
        self.send(b"".join(map(packed, commands)), deadline)
        for _ in commands:
            if isinstance(self.first_reply, Exception):  # the login failed
                raise self.first_reply
            self.first_reply = self.receive(deadline)

    @property
    def is_closed(self) -> bool:
        """Whether this side was closed."""
        return self._sock is None

    @property
    def is_usable(self) -> bool:
        """Whether it is open and idle: neither the end nor an unexpected reply has arrived."""
        sock = self._sock
        if sock is None:
            return False
        if self._poll is not None:
            return not self._poll(0)
        try:
            sock.settimeout(0)
            sock.recv(1)
        except (BlockingIOError, SSLWantReadError):
            return True
        except OSError:
            pass
        return False

    def send(self, data: bytes, deadline: float) -> None:
        """Send *data*."""
        sock = self._sock
        if sock is None:
            raise errors.ConnectionError(CLOSED)
        try:
            if self._never_blocks:
                try:  # noqa: SIM105 - suppress() costs more
                    data = data[sock.send(data) :]
                except BlockingIOError:  # the server is slow to take it
                    pass
                if not data:
                    return
            sock.settimeout(max(0.001, deadline - monotonic()))
            sock.sendall(data)
            if self._never_blocks:
                sock.setblocking(False)
        except OSError as error:
            raise as_redis_error(error, "could not send the command") from error

    def receive(self, deadline: float) -> Any:
        """Return the next reply; a `ResponseError` is a reply, and other errors are raised."""
        while (reply := self._reader.gets()) is NOTHING:
            sock = self._sock
            if sock is None:
                raise errors.ConnectionError(CLOSED)
            try:
                seconds = max(0.001, deadline - monotonic())
                if not self._never_blocks:
                    sock.settimeout(seconds)
                elif self._poll is not None and not self._poll(ceil(seconds * 1000)):
                    raise TimeoutError("timed out")
                size = sock.recv_into(self._buffer)
                if not size:
                    raise ConnectionError("the server closed the connection")
            except BlockingIOError:  # there is nothing to read after all
                continue
            except OSError as error:
                raise as_redis_error(error, "the reply did not arrive") from error
            self._reader.feed(self._buffer, 0, size)
        if isinstance(reply, errors.RedisError) and not isinstance(reply, errors.ResponseError):
            raise reply
        return reply

    def shut_down(self, how: int) -> None:
        """Close a side of it, from any thread or signal handler, unless it belongs to the parent."""
        sock = self._sock  # read once: its thread may close it at any time
        if sock is not None and self.pid == os.getpid():
            with suppress(OSError):  # it has ended already
                # Not the method of a TLS socket, which would end TLS under the thread that reads.
                socket.socket.shutdown(sock, how)

    def close(self) -> None:
        """Close it."""
        self.shut_down(socket.SHUT_RDWR)  # a forked child may have the socket, too
        self._sock = None
        self._close_socket()


def _with_tls(server: Server, sock: socket.socket, deadline: float) -> socket.socket:
    if not server.has_tls:
        return sock
    try:
        sock.settimeout(seconds_left(deadline))
        return server.tls_context().wrap_socket(sock, server_hostname=server.host)
    except OSError as error:
        failure = as_redis_error(error, f"could not start TLS with {server.place}")
        hint = TLS_HINT if isinstance(failure, errors.TimeoutError) else ""
        raise type(failure)(f"{failure}{hint}") from error
