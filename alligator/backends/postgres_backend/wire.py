"""One connection to PostgreSQL, through libpq, with deadlines that hold.

libpq itself has no time limit for a reply, and the settings of the server and of TCP do not notice a
server or a proxy that is frozen. So this waits on the socket itself. It also costs a third of the CPU
time of a cursor.
"""

import os
import select
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg import pq

from .codec import DECODERS, Value
from .statements import Statement

READABLE: Final = select.POLLIN if hasattr(select, "POLLIN") else 1
WRITABLE: Final = select.POLLOUT if hasattr(select, "POLLOUT") else 4

BINARY: Final = pq.Format.BINARY


class Lost(Exception):
    """The connection cannot be used any more; it is unknown whether a statement was executed."""


class TimedOut(Lost):
    """No reply came in time."""


class ServerError(Exception):
    """The server rejected a statement; the connection can still be used."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
        """The SQLSTATE."""


Row = tuple[Value, ...]


class Wire:
    """A connection of libpq; one thread at a time uses it."""

    def __init__(self, pgconn: "pq.abc.PGconn") -> None:
        self.pgconn = pgconn
        self.pid: Final = os.getpid()
        self.prepares: bool = True
        """Whether statements can be prepared: not through a pooler that changes the server process."""
        self._prepared: set[bytes] = set()
        self._poll: Any = None

    @classmethod
    def connect(cls, conninfo: bytes, deadline: float) -> "Wire":
        """Return an open connection; raise `Lost` with libpq's message."""
        pgconn = pq.PGconn.connect_start(conninfo)
        wire = cls(pgconn)
        try:
            while True:
                if pgconn.status == pq.ConnStatus.BAD:
                    raise Lost(message_of(pgconn))
                state = pgconn.connect_poll()
                if state == pq.PollingStatus.OK:
                    break
                if state == pq.PollingStatus.FAILED:
                    raise Lost(message_of(pgconn))
                # The socket changes between the addresses of a host.
                wire._poll = None
                is_reading = state == pq.PollingStatus.READING
                wire.wait_until(READABLE if is_reading else WRITABLE, deadline)
            pgconn.nonblocking = 1
        except BaseException:
            pgconn.finish()
            raise
        return wire

    @property
    def is_closed(self) -> bool:
        return self.pgconn.status != pq.ConnStatus.OK

    def is_alive(self) -> bool:
        """Return whether an idle connection is still open, as far as this side knows."""
        if self.is_closed:
            return False
        try:
            if self._ready(READABLE, 0.0):
                self.discard_notifications()
        except Lost:
            return False
        return True

    def call(self, statement: Statement, values: Sequence[Value], deadline: float) -> list[Row]:
        """Execute *statement*, and return its rows.

        Raises `ServerError`, or `Lost`, after which the connection is closed.
        """
        with self._closed_on_failure():
            self._prepare(statement, deadline)
            self.send(statement, values)
            return self._receive(deadline)

    def prepare(self, statement: Statement, deadline: float) -> None:
        """Prepare *statement* for `send`, if that is possible; raises what `call` raises."""
        with self._closed_on_failure():
            self._prepare(statement, deadline)

    def run_script(self, sql: str, deadline: float) -> None:
        """Execute several statements in one transaction; raises what `call` raises."""
        with self._closed_on_failure():
            self.pgconn.send_query(sql.encode())
            self._receive(deadline)

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        """Close the connection if the block fails, except for a `ServerError`."""
        try:
            yield
        except ServerError:
            raise
        except psycopg.Error as error:
            message = message_of(self.pgconn) or str(error)
            self.close()
            raise Lost(message) from error
        except BaseException:
            self.close()
            raise

    def _prepare(self, statement: Statement, deadline: float) -> None:
        if statement.name and self.prepares and statement.name not in self._prepared:
            self.pgconn.send_prepare(statement.name, statement.sql, statement.oids)
            self._receive(deadline)
            self._prepared.add(statement.name)

    def send(self, statement: Statement, values: Sequence[Value]) -> None:
        """Begin to send *statement*, which is prepared if it can be."""
        encoded = statement.encode(values)
        formats = [BINARY] * len(encoded)
        if statement.name and self.prepares:
            self.pgconn.send_query_prepared(statement.name, encoded, formats, BINARY)
        else:
            self.pgconn.send_query_params(statement.sql, encoded, statement.oids, formats, BINARY)

    def wait_until(self, events: int, deadline: float) -> None:
        """Wait until the socket is readable or writable; raise `TimedOut` at *deadline*."""
        if not self._ready(events, deadline - monotonic()):
            raise TimedOut("no reply in time")

    def sleep(self, seconds: float, interrupt: int) -> None:
        """Wait for a notification, or until the file descriptor *interrupt* is readable."""
        poll = select.poll()
        poll.register(self.pgconn.socket, READABLE)
        poll.register(interrupt, READABLE)
        poll.poll(max(0.0, seconds) * 1000)
        self.discard_notifications()

    def discard_notifications(self) -> None:
        """Read what has arrived outside of a call."""
        with self._closed_on_failure():
            self.pgconn.consume_input()
            while self.pgconn.notifies() is not None:
                pass
            if self.is_closed:
                raise Lost(message_of(self.pgconn))

    def close(self) -> None:
        """Close it, unless it belongs to the parent process."""
        if self.pid == os.getpid():
            with suppress(psycopg.Error):
                self.pgconn.finish()

    def _receive(self, deadline: float) -> list[Row]:
        pgconn = self.pgconn
        while pgconn.flush():
            self.wait_until(READABLE | WRITABLE, deadline)
            pgconn.consume_input()
        results: list[Any] = []
        while True:
            while pgconn.is_busy():
                self.wait_until(READABLE, deadline)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            results.append(result)
        return read_results(pgconn, results)

    def _ready(self, events: int, seconds: float) -> bool:
        poll = self._poll
        if poll is None:
            # Looked up in its module, because gevent may have patched it after this import.
            poll = self._poll = select.poll()
            poll.register(self.pgconn.socket, READABLE)
        if events == READABLE:
            return bool(poll.poll(max(0.0, seconds) * 1000))
        poll.modify(self.pgconn.socket, events)
        try:
            return bool(poll.poll(max(0.0, seconds) * 1000))
        finally:
            poll.modify(self.pgconn.socket, READABLE)


def read_results(pgconn: "pq.abc.PGconn", results: Sequence[Any]) -> list[Row]:
    """Return the rows of the last result; raise the error of one that failed."""
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            primary = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
            message = primary.decode(errors="replace").strip()
            if pgconn.status != pq.ConnStatus.OK or not code:
                raise Lost(message)
            raise ServerError(message, code)
    if not results:
        raise Lost(message_of(pgconn) or "the server closed the connection")
    return read_rows(results[-1])


def read_rows(result: Any) -> list[Row]:
    """Return the rows of *result*, decoded."""
    columns = range(result.nfields)
    decoders = [DECODERS.get(result.ftype(column), bytes) for column in columns]
    rows: list[Row] = []
    for place in range(result.ntuples):
        row: list[Value] = []
        for column, decode in zip(columns, decoders, strict=True):
            value = result.get_value(place, column)
            row.append(None if value is None else decode(value))
        rows.append(tuple(row))
    return rows


def message_of(pgconn: "pq.abc.PGconn") -> str:
    """Return the first line of libpq's message about the connection."""
    text = (pgconn.error_message or b"").decode(errors="replace").strip()
    lines = [line for line in text.splitlines() if line]
    return " ".join(line.strip() for line in lines[:2])
