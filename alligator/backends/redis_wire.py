"""Talk to Redis beside an event loop: redis-py makes the connection, the loop waits for the replies.

A thread for that would take the interpreter from the loop, and give it back, several times a trip.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from socket import SHUT_RDWR
from ssl import SSLSocket
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from redis import exceptions as errors

from ..offload import offload
from .redis_connection import CLOCK_SECONDS, Call, Connections, hiredis, packed
from .redis_topology import left

CHUNK = 65536


class Wires:
    """For each event loop a connection that only it uses."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._parser: Any = hiredis
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._wires: WeakKeyDictionary[asyncio.AbstractEventLoop, Wire] = WeakKeyDictionary()

    async def get(self, deadline: float) -> "Wire | None":
        """Return a connection for this event loop; None when there can be none.

        That is so without hiredis and with TLS, whose socket a loop cannot use as it is; when the
        server cannot be reached; and while another exchange is under way.
        """
        if self._parser is None:
            return None
        if self._pid != os.getpid():
            self._forget()
        loop = asyncio.get_running_loop()
        wire = self._wires.get(loop)
        if wire is not None and wire.is_busy:
            return None
        if wire is None or not wire.is_fresh:
            # Forgotten meanwhile: it is closed, or among the idle ones, when it is not returned.
            self._wires.pop(loop, None)
            wire = await offload(partial(self._open, wire, deadline))
            if wire is not None:
                self._wires[loop] = wire
        return wire

    def _open(self, wire: "Wire | None", deadline: float) -> "Wire | None":
        """Open a connection, or ask the server of an open one for the time once more."""
        until = min(deadline, monotonic() + self._connections.answer)  # the rest is for a try anew
        try:
            if wire is None or wire.is_closed:
                connection = self._connections.take(until)
            else:
                connection = wire.connection
            offset = self._connections.server_time(connection, 0.0, until, anew=True)
        except errors.RedisError:
            return None  # whoever tries again finds the words for it
        if isinstance(connection._sock, SSLSocket):
            self._connections.give_back(connection)
            self._parser = None
            return None
        connection._sock.setblocking(False)
        return Wire(self._connections, connection, offset, self._parser.Reader())

    def close(self) -> None:
        """Close those that there are."""
        wires, self._wires = self._wires, WeakKeyDictionary()
        for wire in list(wires.values()):
            wire.hang_up()


class Wire:
    """A connection of one event loop, for one exchange at a time."""

    is_closed: bool = False
    is_busy: bool = False
    """Whether an exchange is under way."""

    def __init__(self, connections: Connections, connection: Any, offset: int, reader: Any) -> None:
        self.connection = connection
        self._connections = connections
        self._offset = offset
        self._measured = monotonic()
        self._reader = reader

    @property
    def is_fresh(self) -> bool:
        """Whether it can be used, and knows what time it is at the other end."""
        return not self.is_closed and monotonic() - self._measured < CLOCK_SECONDS

    def server_time(self, moment: float) -> int:
        """Tell what the server's clock will say at *moment* of ours, at the least, in microseconds."""
        return int(moment * 1e6) + self._offset

    async def exchange(self, calls: Sequence[Call], deadline: float) -> list[Any]:
        """Run scripts in one trip; return for each its reply, or the error there was in its place.

        What the server refused is None: the script was not run, for whichever reason. To be cancelled
        is to lose the connection: whoever has the next try finds out what became of this one.
        """
        loop = asyncio.get_running_loop()
        data = b"".join([packed(self.connection, call.command) for call in calls])
        sock = self.connection._sock
        replies: list[Any] = []
        self.is_busy = True
        try:
            async with asyncio.timeout(left(deadline)):
                await loop.sock_sendall(sock, data)
                while len(replies) < len(calls):
                    self._reader.feed(await _received(loop, sock))
                    while (reply := self._reader.gets()) is not False:
                        replies.append(reply if isinstance(reply, int) else None)
        except (OSError, asyncio.CancelledError) as error:
            self.close()
            lost = (
                errors.TimeoutError if isinstance(error, TimeoutError) else errors.ConnectionError
            )
            replies += [lost(str(error)) for _ in range(len(replies), len(calls))]
        except BaseException:
            self.close()
            raise
        finally:
            self.is_busy = False
        if None in replies:  # this server may not be the one to ask any more
            self.close()
        return replies

    def hang_up(self) -> None:
        """Close it, from any thread: its event loop sees to that itself while it waits for replies.

        For the loop knows the socket by its number, which the next file to be opened would get.
        """
        sock = self.connection._sock
        if not self.is_busy:
            self.close()
        elif sock is not None:
            with suppress(OSError):  # it has ended
                sock.shutdown(SHUT_RDWR)

    def close(self) -> None:
        """Close it for good."""
        self.is_closed = True
        self._connections.give_up(self.connection)


async def _received(loop: asyncio.AbstractEventLoop, sock: Any) -> bytes:
    data = await loop.sock_recv(sock, CHUNK)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data
