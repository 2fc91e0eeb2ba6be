"""Connections to PostgreSQL on an event loop: a thread opens them, and the loop waits for the replies.

With a thread for each push instead, the interpreter would switch between loop and thread several times
per round trip.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary, finalize

import psycopg

from ..._runtime.threads import run_in_thread
from .codec import Value
from .sessions import Session, Sessions
from .statements import Statement
from .wire import Lost, Row, ServerError, TimedOut, message_of, read_results

Loop: TypeAlias = asyncio.AbstractEventLoop

LAST_READ_SECONDS: Final = 0.01
"""How long a call that has timed out waits for a reply that has arrived and was not read yet."""


class LoopSessions:
    """One connection for each event loop, which only that loop uses."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._pid = os.getpid()
        self._by_loop: WeakKeyDictionary[Loop, LoopSession] = WeakKeyDictionary()
        self._cannot_watch = False
        # An event loop that continues to run keeps the sockets that it watches.
        finalize(self, _close_all, self._by_loop).atexit = False

    async def get(self, deadline: float) -> "LoopSession | None":
        """Return the connection of this event loop; None if it cannot be used.

        The reasons: the loop cannot watch sockets (Windows); the server cannot be reached; a call is in
        progress.
        """
        if self._cannot_watch:
            return None
        if self._pid != os.getpid():  # a child process must not use those of its parent
            self._by_loop.clear()
            self._pid = os.getpid()
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is not None:
            if found.is_busy:
                return None
            if not found.is_closed:
                return found
            del self._by_loop[loop]
        session = await run_in_thread(partial(self._open, deadline))
        if session is None:
            return None
        opened = LoopSession(session)
        try:
            opened.attach(loop)
        except NotImplementedError:
            self._cannot_watch = True
            self._sessions.give_back(session)
            return None
        self._by_loop[loop] = opened
        return opened

    def _open(self, deadline: float) -> Session | None:
        """Return a connection on which the push is prepared."""
        until = monotonic() + (deadline - monotonic()) / 2
        try:
            session = self._sessions.take(until)
            session.wire.prepare(self._sessions.statements.push, until)
        except (Lost, ServerError):
            return None  # the next attempt, in a thread, reports the error
        return session

    def close(self) -> None:
        """Close all connections."""
        if self._pid == os.getpid():
            _close_all(self._by_loop)
        self._by_loop.clear()


def _close_all(by_loop: "WeakKeyDictionary[Loop, LoopSession]") -> None:
    for loop, session in list(by_loop.items()):
        session.shut_down(loop)


class LoopSession:
    """A connection of one event loop, for one call at a time.

    The loop watches its socket permanently: to start and stop that would cost more than a call.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pgconn: Any = session.wire.pgconn
        self._socket: int = self._pgconn.socket
        self._results: list[Any] = []
        self._done: asyncio.Future[None] | None = None
        """The future of the current call; removed after it, because it refers to the event loop."""
        self._expiry: asyncio.TimerHandle | None = None
        """The timer of the current call, removed after it for the same reason."""
        self._error: Exception | None = None
        """Why the reply will not arrive."""
        self.is_closed: bool = False
        self.set_clock: Callable[[float], None] = session.set_clock
        self.server_time: Callable[[float], float] = session.server_time

    @property
    def is_busy(self) -> bool:
        """Whether a call is in progress."""
        return self._done is not None

    def attach(self, loop: Loop) -> None:
        """Make *loop* watch the socket; raise `NotImplementedError` if the loop cannot do so."""
        loop.add_reader(self._socket, self._receive, loop)

    async def call(
        self, statement: Statement, values: Sequence[Value], deadline: float
    ) -> list[Row]:
        """Execute *statement*, which is prepared, and return its rows.

        Raises `ServerError`, or `Lost`, after which the connection is closed. A cancellation is not
        raised: it ends the call as if the connection were lost. The caller's next attempt determines
        the outcome.
        """
        loop = asyncio.get_running_loop()
        self._results, self._error = [], None
        self._done = loop.create_future()
        self._expiry = loop.call_later(max(0.0, deadline - monotonic()), self._expire, loop)
        try:
            self._session.wire.send(statement, values)
            self._flush(loop)
            await self._done
        except asyncio.CancelledError:
            self._fail(loop, Lost("the call was cancelled"))
        except psycopg.Error as error:
            self._fail(loop, Lost(str(error)))
        except BaseException as error:
            self._fail(loop, Lost(type(error).__name__))
            raise
        finally:
            self._expiry.cancel()
            self._done = self._expiry = None
        if self._error is not None:
            raise self._error
        try:
            return read_results(self._pgconn, self._results)
        except Lost:
            self.close(loop)
            raise

    def _expire(self, loop: Loop) -> None:
        """Give up soon: a timer may run before what came while the process was frozen is read."""
        self._expiry = loop.call_later(LAST_READ_SECONDS, self._give_up, loop)

    def _give_up(self, loop: Loop) -> None:
        self._fail(loop, TimedOut("no reply in time"))

    def _flush(self, loop: Loop) -> None:
        """Send what the socket accepts now, and the rest when it accepts more."""
        if self._pgconn.flush():
            loop.add_writer(self._socket, self._flush_more, loop)

    def _flush_more(self, loop: Loop) -> None:
        try:
            if not self._pgconn.flush():
                loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._fail(loop, Lost(str(error)))

    def _receive(self, loop: Loop) -> None:
        """Read the bytes that have arrived; end the call after its last result."""
        try:
            self._pgconn.consume_input()
            while self._pgconn.notifies() is not None:
                pass
            if self._done is None:
                if self._session.wire.is_closed:
                    self.close(loop)
                return
            while not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    self._finish()
                    return
                self._results.append(result)
        except psycopg.Error as error:
            self._fail(loop, Lost(message_of(self._pgconn) or str(error)))

    def _fail(self, loop: Loop, error: Exception) -> None:
        """Close the connection, and end the call without its reply."""
        self._error = error
        self.close(loop)
        self._finish()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def shut_down(self, loop: Loop) -> None:
        """Close it from any thread; a running *loop* closes it itself."""
        if loop.is_running():
            loop.call_soon_threadsafe(self.close, loop)
        else:
            self.close(loop)

    def close(self, loop: Loop) -> None:
        """Close it."""
        if self.is_closed:
            return
        self.is_closed = True
        if not loop.is_closed():
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
        self._session.wire.close()
