"""Talk to Redis beside an event loop: redis-py makes the connection, the loop waits for the replies.

A thread for that would take the interpreter from the loop, and give it back, several times a trip.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from socket import SHUT_RDWR, socket
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

        That is so without hiredis and with TLS, whose socket a loop cannot use as it is; with a loop
        that watches no sockets (Windows'); when the server cannot be reached; and while another
        exchange is under way.
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
            if wire is not None:
                del self._wires[loop]
                wire.unplug(loop)
            wire = await offload(partial(self._open, wire, deadline))
            if wire is not None and not wire.plug_in(loop):
                self._parser = None
                return None
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
        for loop, wire in list(wires.items()):
            wire.hang_up(loop)


class Wire:
    """A connection of one event loop, for one exchange at a time.

    The loop watches its socket all the time: to begin that and to end it costs more than an exchange.
    """

    is_closed: bool = False
    _answered: "asyncio.Future[None] | None" = None
    """What an exchange waits for; not kept after it, for it knows the event loop."""
    _wanted = 0
    _error: Exception | None = None
    """Why no more replies will come."""

    def __init__(self, connections: Connections, connection: Any, offset: int, reader: Any) -> None:
        self.connection = connection
        self._sock: socket = connection._sock
        self._connections = connections
        self._offset = offset
        self._measured = monotonic()
        self._reader = reader
        self._replies: list[Any] = []

    @property
    def is_busy(self) -> bool:
        """Whether an exchange is under way."""
        return self._answered is not None

    @property
    def is_fresh(self) -> bool:
        """Whether it can be used, and knows what time it is at the other end."""
        return not self.is_closed and monotonic() - self._measured < CLOCK_SECONDS

    def server_time(self, moment: float) -> int:
        """Tell what the server's clock will say at *moment* of ours, at the least, in microseconds."""
        return int(moment * 1e6) + self._offset

    def plug_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Let *loop* watch its socket; False, and it is closed, if that is a loop that cannot."""
        try:
            loop.add_reader(self._sock, self._receive, loop)
        except NotImplementedError:
            self.is_closed = True
            self._connections.give_up(self.connection)
            return False
        return True

    def unplug(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let *loop* forget its socket, which it knows by a number that another will get."""
        if not self.is_closed and not loop.is_closed():
            loop.remove_reader(self._sock)
            loop.remove_writer(self._sock)

    async def exchange(self, calls: Sequence[Call], deadline: float) -> list[Any]:
        """Run scripts in one trip; return for each its reply, or the error there was in its place.

        What the server refused is None: the script was not run, for whichever reason. To be cancelled
        is to lose the connection: whoever has the next try finds out what became of this one.
        """
        loop = asyncio.get_running_loop()
        data = b"".join([packed(self.connection, call.command) for call in calls])
        replies = self._replies = []
        self._wanted = len(calls)
        self._answered = loop.create_future()
        expiry = loop.call_later(left(deadline), self._lose, loop, TimeoutError())
        try:
            self._send(loop, memoryview(data))
            await self._answered
        except BaseException as error:
            self._lose(loop, ConnectionError(type(error).__name__))
            if not isinstance(error, asyncio.CancelledError):
                raise
        finally:
            expiry.cancel()
            self._answered = None
        if len(replies) < len(calls):
            lost = (
                errors.TimeoutError
                if isinstance(self._error, TimeoutError)
                else errors.ConnectionError
            )
            replies += [lost(str(self._error)) for _ in range(len(replies), len(calls))]
        if None in replies:  # this server may not be the one to ask any more
            self.close(loop)
        return replies

    def _send(self, loop: asyncio.AbstractEventLoop, data: memoryview) -> None:
        """Send what the socket takes now, and the rest when it takes more."""
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(loop, error)
            return
        if sent < len(data):
            loop.add_writer(self._sock, self._send_more, loop, data[sent:])

    def _send_more(self, loop: asyncio.AbstractEventLoop, data: memoryview) -> None:
        loop.remove_writer(self._sock)
        self._send(loop, data)

    def _receive(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take what has come."""
        try:
            data = self._sock.recv(CHUNK)
            if not data:
                raise ConnectionError("the server closed the connection")
            if self._answered is None:
                raise ConnectionError("the server speaks without being asked")
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._replies.append(reply if isinstance(reply, int) else None)
        except BlockingIOError:
            return
        except Exception as error:  # of the parser: what came is not of this protocol
            self._lose(loop, error)
            return
        if len(self._replies) >= self._wanted:
            self._end_exchange()

    def _lose(self, loop: asyncio.AbstractEventLoop, error: Exception) -> None:
        """Give up on what has not come."""
        self._error = error
        self.close(loop)
        self._end_exchange()

    def _end_exchange(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def hang_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close it, from any thread: *loop* sees to that itself while it runs."""
        if not loop.is_running():
            self.close(loop)
        elif not self.is_closed:
            with suppress(OSError):  # it has ended
                self._sock.shutdown(SHUT_RDWR)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close it for good."""
        if not self.is_closed:
            self.unplug(loop)
            self.is_closed = True
            self._connections.give_up(self.connection)
