"""Connections to Redis on an event loop: the loop sends the scripts and waits for the replies.

With a thread instead, the interpreter would switch between loop and thread several times per round trip.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from socket import socket
from ssl import SSLContext
from time import monotonic
from typing import Any, TypeAlias, cast
from weakref import WeakKeyDictionary, finalize

from redis import exceptions as errors

from ..._runtime.threads import run_in_thread
from .blocking import CHUNK, TIME
from .connection import CLOCK_SECONDS, IDLE_SECONDS, Connections, clock_offset
from .dsn import Address
from .protocol import NOTHING, Call, new_reader, packed
from .server import Server, seconds_left

ByLoop: TypeAlias = "WeakKeyDictionary[asyncio.AbstractEventLoop, LoopConnection]"

_of_parents: list[ByLoop] = []
"""The connections of parent processes. They are never deleted: a loop that closes its copy of a socket
would end the parent's watch on it, which is shared."""


class LoopConnections:
    """One connection for each event loop, which only that loop uses."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._begin()

    def _begin(self) -> None:
        self._by_loop: ByLoop = WeakKeyDictionary()
        self._pid = os.getpid()
        # An event loop that continues to run keeps its connections.
        self._end = finalize(self, _close_all, self._by_loop, self._pid)
        self._end.atexit = False

    def _forget(self) -> None:
        """Start without connections: a child process must not use those of its parent."""
        _of_parents.append(self._by_loop)
        self._end.detach()
        self._begin()

    async def get(self, deadline: float) -> "LoopConnection | None":
        """Return the connection of this event loop; None if it cannot be used.

        The reasons: the server cannot be reached, or an exchange is in progress.
        """
        if self._pid != os.getpid():
            self._forget()
        loop = asyncio.get_running_loop()
        link = self._by_loop.get(loop)
        if link is not None and link.is_busy:
            return None
        if link is not None and link.transport is not None and monotonic() < link.fresh_until:
            return link
        # The rest of the time is for a second attempt.
        until = min(deadline, monotonic() + self._connections.timeout)
        if link is not None and await link.refresh(until):
            return link
        for other in [other for other in self._by_loop if other.is_closed()]:
            del self._by_loop[other]  # an open connection would keep it
        link = self._by_loop[loop] = LoopConnection(self._connections)
        return link if await link.open(until) else None

    def close(self) -> None:
        """Close all connections."""
        if self._pid == os.getpid():
            _close_all(self._by_loop, self._pid)
        else:
            self._forget()


def _close_all(by_loop: "ByLoop", pid: int) -> None:
    """Close the connections, from any thread."""
    if pid != os.getpid():
        _of_parents.append(by_loop)
        return
    for loop, link in list(by_loop.items()):
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(link.close)
    by_loop.clear()


class LoopConnection(asyncio.BufferedProtocol):
    """A connection of one event loop, for one exchange at a time."""

    def __init__(self, connections: Connections) -> None:
        self.is_busy: bool = False
        """Whether it is being opened or checked, or an exchange is in progress."""
        self._connections = connections
        self._address: Address = ("", 0)
        self._offset = 0.0
        self._measured = 0.0
        self.fresh_until: float = 0.0
        """Until when it is known to lead to the master, and what the server's clock shows."""
        self.transport: asyncio.Transport | None = None
        """Removed when it is closed, because it refers to the event loop; so does `_keeper`."""
        self._keeper: AsyncGenerator[None] | None = None
        self._reader = new_reader()
        self._buffer = bytearray(CHUNK)
        self._replies: list[Any] = []
        self._expected = 0
        self._done: asyncio.Future[None] | None = None
        """What an exchange waits for."""
        self._deadline = self._timer_at = inf
        """Until when it waits, and when the next timer ends."""
        self._error: Exception | None = None
        """Why no more replies will arrive."""

    # Its beginning and end.

    async def open(self, deadline: float) -> bool:
        """Connect to the master; return False if that fails: the next attempt reports the error."""
        self.is_busy, succeeded = True, False
        try:
            server = await self._connect(deadline)
            succeeded = await self._log_in([*server.login, TIME], deadline)
        except (errors.RedisError, OSError, RuntimeError):  # without threads, or the loop ends
            pass
        finally:
            self.is_busy = False
            if not succeeded:
                self.close()
        return succeeded

    async def _connect(self, deadline: float) -> Server:
        """Connect to the master, in a thread because that blocks; the loop begins TLS."""
        loop = asyncio.get_running_loop()
        dialed: list[tuple[Server, socket, SSLContext | None]] = []
        try:
            await run_in_thread(
                lambda: dialed.append(self._connections.topology.connect(_dial, deadline)),
                undo=lambda: _drop(dialed),
            )
            [(server, sock, context)] = dialed
            self._address = server.address
            async with asyncio.timeout(seconds_left(deadline)):
                if server.path:
                    await loop.create_unix_connection(lambda: self, sock=sock)
                else:
                    host = server.host if context else None
                    await loop.create_connection(
                        lambda: self, sock=sock, ssl=context, server_hostname=host
                    )
                self._keeper = self._close_with_loop()
                await anext(self._keeper)
        except BaseException:
            _drop(dialed)
            raise
        return server

    async def _log_in(self, commands: Sequence[Sequence[str | int]], deadline: float) -> bool:
        """Send *commands*, the last of which asks for the time; return whether all succeeded."""
        replies = await self._request(commands, deadline)
        if len(replies) < len(commands) or any(isinstance(each, Exception) for each in replies):
            return False
        self._measured = monotonic()  # the server sent the reply before this moment, never after
        self._offset = clock_offset(replies[-1], self._measured)
        seconds = min(CLOCK_SECONDS, self._connections.topology.check_seconds)
        self.fresh_until = self._measured + seconds
        return True

    async def refresh(self, deadline: float) -> bool:
        """Check that it leads to the master, and ask for the time; close it if one fails."""
        topology, succeeded = self._connections.topology, False
        self.is_busy = True
        try:
            # A NAT may have dropped a connection that was idle for long.
            is_usable = monotonic() - self._measured < IDLE_SECONDS and self.transport is not None
            if is_usable and topology.check_seconds < inf:  # it blocks
                check = partial(topology.is_master, self._address, deadline)
                is_usable = await run_in_thread(check)
            succeeded = is_usable and await self._log_in([TIME], deadline)
        except RuntimeError:  # no thread can be started
            pass
        finally:
            self.is_busy = False
            if not succeeded:
                self.close()
        return succeeded

    async def _close_with_loop(self) -> AsyncGenerator[None]:
        """Close it when the event loop shuts down: a loop then ends its asynchronous generators."""
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Close it; the event loop must be running."""
        transport, self.transport, self._keeper = self.transport, None, None
        if transport is not None:
            transport.abort()

    # Exchanges.

    def server_time(self, moment: float) -> int:
        """Return a lower bound of the server's clock at the local *moment*, in microseconds."""
        return int((moment + self._offset) * 1e6)

    async def exchange(self, calls: Sequence[Call], deadline: float) -> list[Any]:
        """Run scripts in one round trip; return for each its reply, None or an error.

        None: the server rejected the call and did not run the script. A cancellation is not raised:
        it closes the connection, and the missing replies are errors. The caller's next attempt
        determines the outcome.
        """
        self.is_busy = True
        try:
            await self._request([call.command for call in calls], deadline)
        except asyncio.CancelledError:
            pass
        finally:
            self.is_busy = False
        replies = [
            reply if isinstance(reply, (int, list)) else self._rejection(reply)
            for reply in self._replies
        ]
        while len(replies) < len(calls):
            replies.append(self._missing_reply())
        return replies

    def _rejection(self, reply: Any) -> errors.RedisError | None:
        """Return what a reply means that is not the result of a script."""
        if not isinstance(reply, errors.RedisError):
            self._fail(ConnectionError(f"unexpected reply: {reply!r:.100}"))
            return self._missing_reply()
        if not isinstance(reply, errors.NoScriptError):  # the server may no longer be the master
            self.close()
        return None

    def _missing_reply(self) -> errors.RedisError:
        """Return the error that stands for a reply that did not arrive."""
        timed_out = isinstance(self._error, TimeoutError)
        kind = errors.TimeoutError if timed_out else errors.ConnectionError
        return kind(str(self._error or "the connection was closed"))

    async def _request(self, commands: Sequence[Sequence[Any]], deadline: float) -> list[Any]:
        """Send *commands*; return the replies, or those before the connection was lost."""
        loop = asyncio.get_running_loop()
        self._replies, self._expected = [], len(commands)
        if self.transport is None:  # lost since it was chosen
            return self._replies
        self._done, self._deadline = loop.create_future(), deadline
        if deadline < self._timer_at:
            self._set_timer(loop)
        try:
            self.transport.write(b"".join(map(packed, commands)))
            await self._done
        except BaseException as error:
            self._fail(ConnectionError(type(error).__name__))
            raise
        finally:
            self._done = None
        return self._replies

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set a timer for the deadline. It serves later exchanges, too: one for each costs more."""
        self._timer_at = self._deadline
        loop.call_later(seconds_left(self._deadline), self._expire, loop, self._deadline)

    def _expire(self, loop: asyncio.AbstractEventLoop, timer_at: float) -> None:
        if timer_at != self._timer_at:
            return  # there is an earlier one
        self._timer_at = inf
        if self._done is None:
            return
        if monotonic() < self._deadline:
            self._set_timer(loop)
        else:
            self._fail(TimeoutError())

    def _fail(self, error: Exception) -> None:
        """Close the connection, and end the exchange without its missing replies."""
        if self.transport is not None:
            self._error = error
            self.close()
            # The same cause may have broken the idle ones: see `Connections.discard`.
            self._connections.topology.forget_master()
            self._connections.close()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return the buffer for what arrives: without it, asyncio allocates 256 KiB each time."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read the bytes that have arrived; end the exchange after its last reply."""
        try:
            if self._done is None:
                raise ConnectionError("unexpected data from the server")
            self._reader.feed(self._buffer, 0, nbytes)
            while (reply := self._reader.gets()) is not NOTHING:
                self._replies.append(reply)
        except Exception as error:  # the reader raises for bytes that are not of the protocol
            self._fail(error)
            return
        if len(self._replies) >= self._expected and not self._done.done():
            self._done.set_result(None)

    def eof_received(self) -> None:
        """Drop the connection, which the server has closed."""
        self._fail(ConnectionError("the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the connection, unless this side has closed it."""
        self._fail(exc or ConnectionError("the connection was closed"))


def _dial(server: Server, deadline: float) -> tuple[Server, socket, SSLContext | None]:
    """Return a connected socket, and what begins TLS on it."""
    context = server.tls_context() if server.has_tls else None
    sock = server.dial(deadline)
    sock.setblocking(False)
    return server, sock, context


def _drop(dialed: Sequence[tuple[Server, socket, SSLContext | None]]) -> None:
    for _, sock, _ in dialed:
        sock.close()
