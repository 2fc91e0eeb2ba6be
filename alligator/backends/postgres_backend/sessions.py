"""The connections of a process: lent to one thread at a time, and never shared with a forked child."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Final, NoReturn, TypeVar

from ...exceptions import BackendError
from . import schema
from .codec import Value
from .dsn import read_dsn
from .errors import MISSING, READ_ONLY, explain, is_repeatable
from .statements import Statement, Statements, statement
from .wire import Lost, Row, ServerError, TimedOut, Wire

MAX_IDLE: Final = 32
"""How many connections that are not in use stay open."""

IDLE_SECONDS: Final = 60.0
"""How long an idle connection is kept: a NAT or load balancer may have dropped an older one."""

CALL_SECONDS: Final = 5.0
"""How long a call waits for its reply, other than a push."""

REFUSED: Final = {
    "cockroachdb": "CockroachDB",
    "-yb-": "YugabyteDB",
    "yugabyte": "YugabyteDB",
}
"""Servers that are not PostgreSQL though they speak its protocol, by a part of their version."""

# What a session needs whatever the settings of its user are. A pooler that changes the server process
# with each transaction would give these settings to other clients.
_BEGIN = statement(
    """
    SELECT version(), pg_backend_pid(), extract(epoch FROM clock_timestamp())::float8,
        CASE WHEN pg_backend_pid() = $1 THEN
            set_config('lock_timeout', '2000', false)
            || set_config('statement_timeout', '20000', false)
            || set_config('default_transaction_isolation', 'read committed', false)
        END
    """,
    "int4",
)

T = TypeVar("T")


class Session:
    """A connection, and what this program knows of its server."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.is_pooled: bool = False
        """Whether a pooler gives each transaction another server process, as PgBouncer may."""
        self.listens: bool = False
        self.idle_since: float = 0.0
        """When it was given back, on the monotonic clock."""
        self._offset = 0.0

    def begin(self, deadline: float) -> str:
        """Prepare it for use, and return the version of the server."""
        pid = self.wire.pgconn.backend_pid
        [(version, real_pid, clock, _)] = self.wire.call(_BEGIN, [pid], deadline)
        self.set_clock(clock)
        if real_pid != pid:
            self.is_pooled, self.wire.prepares = True, False
        return str(version)

    def set_clock(self, seconds: float) -> None:
        """Record a reading of the server's clock that has just arrived."""
        self._offset = seconds - monotonic()

    def server_time(self, moment: float) -> float:
        """Return a lower bound of the server's clock at the local *moment*."""
        return moment + self._offset


class Sessions:
    """The connections to one database."""

    def __init__(self, conn_string: str) -> None:
        self._dsn = read_dsn(conn_string)
        self.store: str = self._dsn.store
        self.scope: str = self._dsn.scope
        self.timeout: float = self._dsn.timeout
        self.schema: str = self._dsn.schema
        self.statements: Statements = Statements(schema.quoted(self.schema))
        self._conninfos = self._dsn.conninfos
        self._idle: list[Session] = []
        self._pid = os.getpid()
        self._is_installed = False

    # Single calls.

    def call(
        self, statement: Statement, values: Sequence[Value], *, seconds: float = CALL_SECONDS
    ) -> list[Row]:
        """Execute *statement*, once more on a new connection if the first is lost; return its rows.

        Raises `BackendError`. A statement whose reply is lost may be executed twice.
        """

        def call(session: Session, until: float) -> list[Row]:
            return session.wire.call(statement, values, until)

        return self.run(call, seconds)

    def run(self, action: Callable[[Session, float], T], seconds: float = CALL_SECONDS) -> T:
        """Return the result of *action*, called with a session and a deadline; see `call`."""
        for is_last in (False, True):
            deadline = monotonic() + max(seconds, self.timeout)
            try:
                with self.lend(deadline) as session:
                    return action(session, deadline)
            except (Lost, ServerError) as error:
                can_repeat = isinstance(error, Lost) or is_repeatable(error)
                if is_last or isinstance(error, TimedOut) or not can_repeat:
                    self.fail(error)
        raise AssertionError("unreachable")

    def fail(self, error: Lost | ServerError) -> NoReturn:
        """Raise *error* as a `BackendError`."""
        raise explain(error, self.store) from error

    # Lending.

    @contextmanager
    def lend(self, deadline: float, *, create: bool = True) -> Iterator[Session]:
        """Lend a session to this thread; raise `Lost` or `ServerError` if there is none.

        After any error but `ServerError` it is closed; after `Lost`, those that were idle are closed as
        well. With *create* the tables exist afterwards.
        """
        session = self.take(deadline, create=create)
        try:
            yield session
        except ServerError as error:
            if error.code == READ_ONLY:
                # The server has become a standby: a new connection finds the new primary.
                session.wire.close()
            elif error.code in MISSING:
                self._is_installed = False
            self.give_back(session)
            raise
        except BaseException as error:
            session.wire.close()
            if isinstance(error, Lost):
                self.close()  # the same cause may have broken them
            raise
        self.give_back(session)

    def take(self, deadline: float, *, create: bool = True) -> Session:
        """Return a session that no other thread uses; the caller gives it back or closes it."""
        if self._pid != os.getpid():  # also without Python's fork hooks, as under uWSGI
            self._idle, self._pid = [], os.getpid()
        while self._idle:
            try:
                session = self._idle.pop()
            except IndexError:  # another thread was faster
                continue
            is_old = monotonic() - session.idle_since > IDLE_SECONDS
            if not is_old and session.wire.is_alive():
                break
            session.wire.close()
            if is_old:
                self.close()  # the others were used earlier
        else:
            session = self._open(deadline)
        if create and not self._is_installed:
            try:
                schema.install(session.wire, self.schema, deadline)
            except BaseException:
                session.wire.close()
                raise
            self._is_installed = True
        return session

    def _open(self, deadline: float) -> Session:
        session = Session(self._connect(deadline))
        try:
            self._check_kind(session.begin(deadline))
        except BaseException:
            session.wire.close()
            raise
        return session

    def give_back(self, session: Session) -> None:
        """Keep *session* for the next caller."""
        if session.wire.is_closed or len(self._idle) >= MAX_IDLE or session.wire.pid != os.getpid():
            session.wire.close()
        else:
            session.idle_since = monotonic()
            self._idle.append(session)

    def exists(self) -> bool:
        """Return whether the tables exist, without creating them."""
        if self._is_installed:
            return True
        deadline = monotonic() + max(CALL_SECONDS, self.timeout)
        try:
            with self.lend(deadline, create=False) as session:
                return schema.is_installed(session.wire, self.schema, deadline)
        except (Lost, ServerError) as error:
            self.fail(error)

    def close(self) -> None:
        """Close the connections that are not in use."""
        with suppress(IndexError):
            while True:
                self._idle.pop().wire.close()

    def _connect(self, deadline: float) -> Wire:
        conninfos = self._conninfos
        for place, conninfo in enumerate(conninfos):
            left = deadline - monotonic()
            # A silent host leaves time for the others.
            until = monotonic() + left / (len(conninfos) - place)
            try:
                wire = Wire.connect(conninfo, until)
            except Lost:
                if place == len(conninfos) - 1:
                    raise
            else:
                if place:  # the next connection begins with this host
                    self._conninfos = [*conninfos[place:], *conninfos[:place]]
                return wire
        raise AssertionError("unreachable")

    def _check_kind(self, version: str) -> None:
        for word, name in REFUSED.items():
            if word in version.lower():
                raise BackendError(
                    f"{self.store} is {name}, which Alligator does not support: its locks and "
                    "notifications differ from PostgreSQL's. Use a PostgreSQL server, or another store."
                )
