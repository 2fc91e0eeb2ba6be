"""The connections of a process to a Redis server; every wait has a time limit."""

import os
import socket
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any
from weakref import WeakKeyDictionary

from redis.exceptions import NoScriptError, RedisError, ResponseError

from ...exceptions import BackendError
from .blocking import TIME, Connection
from .dsn import read_dsn
from .error_messages import explain, text_of
from .protocol import Call, packed
from .topology import Cluster, Standalone, choose_topology

CLOCK_SECONDS = 10.0
"""For how long the measured offset of a server's clock is used."""
DRIFT_SECONDS = 0.01
"""How much the offset may change in that time, at most."""
MOVE_SECONDS = 0.02
"""The pause before a command is sent again whose queue is moving to another server."""
IDLE_SECONDS = 60.0
"""How long an idle connection is kept: a NAT or load balancer may have dropped an older one."""
HALF_CLOSED_SECONDS = 1.0
"""How long a server may take to close its side after this side was closed."""


class Connections:
    """The connections of a process to one master; a connection serves one thread at a time.

    The pool of redis-py costs as much as the call itself, and it has locks, which a signal handler must
    not wait for.
    """

    def __init__(self, conn_string: str) -> None:
        dsn = read_dsn(conn_string)
        self.store: str = dsn.store
        self.namespace: str = dsn.namespace
        self.scope: str = dsn.scope
        self.timeout: float = dsn.timeout
        self.topology: Standalone = choose_topology(dsn)
        self._forget()

    def _forget(self) -> None:
        """Start without connections: a child process must not use those of its parent."""
        self._idle: list[tuple[Connection, float]] = []
        """Unused connections, each with the time of its last use; the latest is last."""
        self._waiting: dict[Connection, list[float]] = {}
        """The connections that block in `wait`, and the times at which each was interrupted."""
        self._clocks: WeakKeyDictionary[Connection, tuple[float, float]] = WeakKeyDictionary()
        self._pid = os.getpid()  # last: after this, other threads use the fields above

    def close(self) -> None:
        """Close the idle connections."""
        if self._pid != os.getpid():
            self._forget()
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def acquire(self, deadline: float) -> Connection:
        """Return an idle connection, or open one; `exchange` releases it."""
        if self._pid != os.getpid():
            self._forget()
        while self._idle:
            try:
                connection, since = self._idle.pop()
            except IndexError:  # another thread has taken the last one
                break
            is_old = monotonic() - since > IDLE_SECONDS
            if not self.topology.is_fixed:
                is_old = is_old or not self.topology.is_master(connection.address, deadline)
            if not is_old and connection.is_usable:
                return connection
            connection.close()
            if is_old:  # the others were used earlier, or lead to the same old master
                self.close()
        connection = self.topology.connect(Connection.open, deadline)
        if isinstance(connection.first_reply, list):  # otherwise the user may not run TIME
            self._note_clock(connection, connection.first_reply)
        return connection

    def exchange(
        self,
        connection: Connection,
        commands: Sequence[Sequence[Any]],
        deadline: float,
        *,
        keep: bool = False,
    ) -> list[Any]:
        """Send *commands* at once and return their replies; an error of the server is a reply.

        Then *connection* is released, unless the caller wants to *keep* it. If it is lost, it is
        closed, and that error stands in place of each missing reply.
        """
        replies: list[Any] = []
        try:
            connection.send(b"".join(map(packed, commands)), deadline)
            while len(replies) < len(commands):
                replies.append(connection.receive(deadline))
        except RedisError as error:
            self.discard(connection)
            return replies + [error] * (len(commands) - len(replies))
        except BaseException:
            self.discard(connection)
            raise
        if not keep:
            self.release(connection)
        return replies

    def release(self, connection: Any) -> None:
        """Make a connection available for others."""
        self._idle.append((connection, monotonic()))

    def discard(self, connection: Any) -> None:
        """Close a connection on which a reply is missing, and all idle ones.

        The same cause may have broken the others: the server ended, or the network dropped them
        silently. Each of those would cost the next caller its whole timeout.
        """
        connection.close()
        self.topology.forget_master()
        self.close()

    def server_time(self, connection: Connection, moment: float, *, refresh: bool = False) -> int:
        """Return a lower bound of the server's clock at the local *moment*, in microseconds.

        Asks the server if the last answer is too old, or to *refresh* it; waits for that until *moment*.
        """
        offset, measured = self._clocks.get(connection, (0.0, 0.0))
        if refresh or not measured or monotonic() - measured > CLOCK_SECONDS:
            [reply] = self.exchange(connection, [TIME], moment, keep=True)
            if isinstance(reply, ResponseError):
                self.release(connection)
            if isinstance(reply, RedisError):
                raise reply
            offset = self._note_clock(connection, reply)
        return int((moment + offset) * 1e6)

    def _note_clock(self, connection: Connection, reply: Sequence[str]) -> float:
        measured = monotonic()  # the server sent the reply before this moment, never after
        offset = clock_offset(reply, measured)
        self._clocks[connection] = offset, measured
        return offset

    def run(self, connection: Connection, call: Call, deadline: float) -> Any:
        """Run a script; send its source if the server lacks it; follow a queue that moves."""
        command = call.command
        while True:
            [reply] = self.exchange(connection, [command], deadline)
            if not isinstance(reply, RedisError):
                return reply
            if isinstance(reply, NoScriptError):
                command = call.with_source
            elif not isinstance(reply, ResponseError) or not self._has_moved(reply, deadline):
                raise reply
            connection = self.acquire(deadline)

    def run_all(self, connection: Connection, calls: Sequence[Call], deadline: float) -> list[Any]:
        """Run scripts in one round trip; return for each its reply or its error."""
        replies = self.exchange(connection, [call.command for call in calls], deadline)
        for place, reply in enumerate(replies):
            # It was not run, and can be if it is sent again separately.
            if isinstance(reply, ResponseError) and (
                isinstance(reply, NoScriptError) or self._has_moved(reply, deadline)
            ):
                try:
                    replies[place] = self.run(self.acquire(deadline), calls[place], deadline)
                except RedisError as error:
                    replies[place] = error
        return replies

    def _has_moved(self, error: ResponseError, deadline: float) -> bool:
        """Return whether a command that failed with *error* can be sent again, to the current master.

        If so, this has waited for `MOVE_SECONDS`.
        """
        if not self.topology.has_moved(error):
            return False
        self.close()
        if monotonic() + MOVE_SECONDS > deadline:
            return False
        sleep(MOVE_SECONDS)
        return True

    def call(self, call: Call, patience: float = 0.0) -> Any:
        """Run a script; raise `BackendError` if that fails."""
        deadline = monotonic() + max(patience, self.timeout)
        try:
            return self.run(self.acquire(deadline), call, deadline)
        except RedisError as error:
            raise self.explain(error) from error

    def command(self, *words: str) -> Any:
        """Run a read-only command; raise `BackendError` if that fails."""
        return self.call(Call(None, [*words]))

    def wait(
        self,
        command: Sequence[Any],
        timeout: float,
        is_wanted: Callable[[], bool],
        call: Call | None = None,
    ) -> list[Any]:
        """Run a command that blocks for up to *timeout* seconds, and *call* as soon as it ends.

        Returns the replies, which may be errors; an empty list if the wait was interrupted.
        """
        commands: list[Sequence[Any]] = [command]
        if call is not None:
            commands.append(call.command)
        connection = self.acquire(monotonic() + self.timeout)
        # In this order: `interrupt` finds the connection, or `is_wanted` already returns false.
        interrupts = self._waiting[connection] = []
        replies: list[Any] = []
        try:
            was_sent = is_wanted()
            if was_sent:
                until = monotonic() + timeout + self.timeout
                replies = self.exchange(connection, commands, until, keep=True)
                last = replies[-1]
                if isinstance(last, RedisError) and not isinstance(last, ResponseError):
                    raise last  # the connection is lost
        except RedisError:
            if is_wanted() and not interrupts:
                raise
            return []
        finally:
            del self._waiting[connection]
        if was_sent and is_wanted() and not interrupts:
            self.release(connection)
        else:  # `interrupt` has closed, or is about to close, half of it
            connection.close()
        return replies

    def raise_if_permanent(self, error: ResponseError) -> None:
        """Raise *error*, unless the next attempt can succeed."""
        if not self._has_moved(error, monotonic() + self.timeout):
            raise error

    def interrupt(self) -> None:
        """End each `wait`. It takes no lock, so a signal handler may call it.

        A reply with a task in it may be in transit. Therefore only this side is closed, and what
        arrives before the server closes its side is read. If the server hangs, a later interrupt
        closes both sides.
        """
        for connection, interrupts in tuple(self._waiting.items()):
            if connection.pid == os.getpid() and not connection.is_closed:
                interrupts.append(monotonic())
                server_hangs = interrupts[-1] - interrupts[0] > HALF_CLOSED_SECONDS
                connection.shut_down(socket.SHUT_RDWR if server_hangs else socket.SHUT_WR)

    def explain(self, error: RedisError) -> BackendError:
        """Return *error* as a `BackendError` that says what to do and never shows the password."""
        if "READONLY" in text_of(error):
            self.close()  # so that the next use finds the new master
        return explain(error, self.store, is_cluster=isinstance(self.topology, Cluster))


def clock_offset(reply: Sequence[str], measured: float) -> float:
    """Return the least by which the server's clock is ahead; *reply* came at the local *measured*."""
    seconds, micros = reply
    return int(seconds) + int(micros) / 1e6 - measured - DRIFT_SECONDS
