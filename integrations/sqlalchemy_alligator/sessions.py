"""Enlist sessions: their commits queue the tasks that were started while they were open."""

import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, UnboundExecutionError
from sqlalchemy.orm import Session, SessionTransaction, scoped_session, sessionmaker

from alligator import Gator, Transaction
from alligator._runtime.coroutines import complete
from alligator._runtime.forks import register_fork_hooks
from alligator._runtime.threads import run_in_thread
from alligator.backends.base import Commit, Duplicates
from alligator.backends.shared_database import Query, Written
from alligator.commits import interception
from alligator.commits.databases import TABLE, check_dialect, with_parameters
from alligator.commits.relay import Relay
from alligator.exceptions import ConfigurationError
from alligator.transaction.enlistment import Enlister, Enlistment
from alligator.transaction.scope import innermost

from .engines import EngineOutbox, is_in_memory
from .greenlets import await_in_greenlet, is_in_greenlet
from .statements import may_write

MAX_FLUSHES = 100
"""How often a commit flushes because hooks of a flush have changed objects; as in SQLAlchemy."""

Sessions = Any
"""A sessionmaker, async_sessionmaker, scoped_session, async_scoped_session, or a class of sessions."""

Bind = Any
"""An Engine or AsyncEngine, a function that returns one, or None."""


def enlist(gator: Gator, sessions: Sessions, *, bind: Bind = None, table: str = TABLE) -> None:
    """Let tasks follow the transactions of *sessions*.

    Ex::

        Session = sessionmaker(engine)
        enlist(gator, Session)

    *sessions* is a sessionmaker, an async_sessionmaker, a scoped_session such as the ``db.session`` of
    Flask-SQLAlchemy, or a subclass of Session. A task that is started while a transaction of such a
    session is open is queued by its commit, and discarded by its rollback. Any other task waits for
    the response.

    The tasks are written to the tables of the store, if it is in the same PostgreSQL database, and
    otherwise to *table*, which must exist: see `outbox_table`. *bind* is the engine of that database,
    or a function that returns it; it is needed if the sessions have several.
    """
    _Enlisting(gator, sessions, bind, table).listen()


class _Enlisting:
    """One call of `enlist`: what finds the open transaction, and what follows it."""

    def __init__(self, gator: Gator, sessions: Sessions, bind: Bind, table: str) -> None:
        self.gator = gator
        self.bind = bind
        self.target, self.make = _resolve(sessions)
        self.relay = Relay(gator.client, EngineOutbox(self.engine, table))
        self._open: ContextVar[tuple[ref[Enlistment], ...]] = ContextVar("session", default=())
        """The enlistments of the transactions begun in this context, in their order."""
        self._requests: WeakKeyDictionary[Transaction, list[ref[Enlistment]]] = WeakKeyDictionary()
        """The same for each request, because its threads have contexts of their own."""
        self._connections: WeakKeyDictionary[Connection, Enlistment] = WeakKeyDictionary()
        self._engine: Engine | None = None
        self._observed: WeakSet[Engine] = WeakSet()
        """The engines whose statements are observed."""
        self._joined: WeakSet[Commit] = WeakSet()
        """Commits of sessions that are bound to a connection, whose own commit comes later."""
        self._written: WeakKeyDictionary[Commit, Written] = WeakKeyDictionary()
        """What commits have written to the tables of the store."""
        self._is_started = False
        register_fork_hooks(self)

    def listen(self) -> None:
        """Listen to the events of the sessions."""
        for name in (
            "after_transaction_create",
            "after_begin",
            "before_commit",
            "after_commit",
            "after_rollback",
            "after_soft_rollback",
            "after_transaction_end",
            "transient_to_pending",
        ):
            event.listen(self.target, name, getattr(self, name))
        with suppress(Exception):  # if it is not known yet, the first transaction names it
            self._engine = self._find_engine(self.make() if self.make is not None else None)
        self.gator.enlisters.append(Enlister(self.find))
        self.gator.relays.append(self.relay)

    def engine(self) -> Engine:
        """Return the engine of the database with the outbox."""
        if self._engine is None:
            self._engine = self._find_engine(self.make() if self.make is not None else None)
        return self._engine

    def _find_engine(self, session: Session | None) -> Engine:
        bind: Any = self.bind
        if callable(bind) and not (isinstance(bind, Engine) or hasattr(bind, "sync_engine")):
            bind = bind()
        if bind is None and session is not None:
            with suppress(UnboundExecutionError):
                bind = session.get_bind()
        if bind is None:
            raise ConfigurationError(
                "It is not known which engine leads to the outbox, because the sessions have several "
                "or none: name it, as in enlist(gator, Session, bind=engine)."
            )
        bind = getattr(bind, "sync_engine", bind)
        engine: Engine = getattr(bind, "engine", bind)
        return engine

    # For tasks.

    def find(self) -> Enlistment | None:
        """Return the enlistment of the transaction that is open here."""
        for reference in reversed(self._open.get()):
            enlistment = reference()
            if enlistment is not None and enlistment.is_here:
                return self._usable(enlistment)
        here: Transaction | None = innermost()
        if here is None:
            return None
        begun = [found() for found in self._requests.get(here.outermost(), ())]
        live = [each for each in begun if each is not None and each.is_open]
        if len(live) > 1:
            raise ConfigurationError(
                "Two sessions are open in other threads of this request: name the one that the task "
                "follows, as in: with gator.transaction(on=session.connection()): ..."
            )
        return self._usable(live[0]) if live else None

    def _usable(self, enlistment: Enlistment) -> Enlistment:
        if self.relay.problem is not None:
            raise self.relay.problem
        return enlistment

    # For `Enlistment`: this is its writer.

    def is_needed(self) -> bool:
        """Return whether tasks are written: not to a database that no other process can read."""
        return not is_in_memory(self.engine())

    def committed(self, commit: Commit) -> Duplicates | None:
        """Wake workers, or have the relay of this process push the commit at once."""
        written = self._written.pop(commit, None)
        if written is not None:
            self.relay.same_server.wake(written)
            return written.duplicates
        if commit in self._joined:
            self.relay.expect(commit)
        else:
            self.relay.add(commit)
        return None

    # The events of SQLAlchemy come in this order (2.0 and 2.1):
    #   commit      before_commit (of a savepoint, too; for two phases at prepare), after_commit,
    #               after_transaction_end
    #   rollback    after_rollback, after_transaction_end, after_soft_rollback
    #   close       after_transaction_end

    def after_transaction_create(self, session: Session, transaction: SessionTransaction) -> None:
        """Enlist a transaction, or note the beginning of a savepoint."""
        if transaction.parent is None:
            if not self._is_started:
                self._start(session)
            enlistment = Enlistment(self.gator, self)
            session.info[self] = enlistment, {}
            reference = ref(enlistment)
            others = [each for each in self._open.get() if (it := each()) and it.is_open]
            self._open.set((*others, reference))
            if enlistment.request is not None:
                self._requests.setdefault(enlistment.request, []).append(reference)
        elif transaction.nested and (found := session.info.get(self)):
            found[1][id(transaction)] = found[0].mark()

    def after_begin(
        self, session: Session, transaction: SessionTransaction, connection: Connection
    ) -> None:
        """Observe what is executed on a connection of the transaction."""
        found = session.info.get(self)
        if found is None:
            return
        if connection.engine not in self._observed:
            self._observed.add(connection.engine)
            event.listen(connection.engine, "before_cursor_execute", self._executing)
        self._connections[connection] = found[0]

    def _start(self, session: Session) -> None:
        """Start the relay of this process, when it first uses the database."""
        self._is_started = True
        # Not later in the relay's thread: Flask-SQLAlchemy needs an application context.
        self._engine = self._find_engine(session)
        if interception.active is None and self.is_needed():
            self.relay.start()

    def after_fork_in_child(self) -> None:
        """Start the relay of the forked child when that uses the database."""
        self._is_started = False

    def _executing(
        self, connection: Connection, cursor: Any, statement: str, *rest: object
    ) -> None:
        enlistment = self._connections.get(connection)
        if enlistment is not None and not enlistment.wrote and may_write(statement):
            enlistment.wrote = True

    def transient_to_pending(self, session: Session, instance: object) -> None:
        """Note an object that the commit would insert."""
        found = session.info.get(self)
        if found is not None:
            found[0].wrote = True

    def before_commit(self, session: Session) -> None:
        """Write the tasks into the transaction."""
        found = session.info.get(self)
        if found is None or session.in_nested_transaction():
            return
        # Hooks of a flush may start tasks, too.
        for _ in range(MAX_FLUSHES):
            if not (session.new or session.dirty or session.deleted):
                break
            session.flush()
        commit = found[0].prepare()
        if commit is None:
            return
        connection = self._connection(session)
        dialect = check_dialect(connection.dialect.name)
        same = self.relay.same_server
        if same.is_possible(dialect):
            written = complete(same.awrite(commit.messages, partial(_fetch, connection), _ask))
            if written is not None:
                self._written[commit] = written
                return
        if isinstance(session.bind, Connection):
            self._joined.add(commit)
        statement = self.relay.outbox.statement(str(commit.commit_id), commit.messages, dialect)
        sql = with_parameters(statement.sql, connection.dialect.paramstyle)
        try:
            connection.exec_driver_sql(sql, statement.parameters)
        except DBAPIError as error:
            self.relay.outbox.explain(error.orig or error, dialect, same.reason)
            raise

    def _connection(self, session: Session) -> Connection:
        if self.bind is None:
            return session.connection()
        return session.connection(bind_arguments={"bind": self.engine()})

    def after_commit(self, session: Session) -> None:
        """Pass on what was committed."""
        found = session.info.get(self)
        if found is not None and not session.in_nested_transaction():
            found[0].committed()

    def after_rollback(self, session: Session) -> None:
        """Discard the tasks."""
        found = session.info.get(self)
        if found is not None and not session.in_nested_transaction():
            found[0].rolled_back()

    def after_soft_rollback(self, session: Session, previous: SessionTransaction) -> None:
        """Discard the tasks of a savepoint."""
        found = session.info.get(self)
        if found is not None and (mark := found[1].pop(id(previous), None)) is not None:
            found[0].cut(mark)

    def after_transaction_end(self, session: Session, transaction: SessionTransaction) -> None:
        """End the enlistment; what the database has not decided on waits for the response."""
        if transaction.parent is not None:
            return
        enlistment, _ = session.info.pop(self, (None, None))
        if enlistment is None:
            return
        if enlistment.runs_code and is_in_greenlet():
            await_in_greenlet(run_in_thread(enlistment.close, own_thread=True))
        else:
            enlistment.close()


def _fetch(connection: Connection, query: Query) -> Any:
    sql = with_parameters(query.sql, connection.dialect.paramstyle)
    return connection.exec_driver_sql(sql, query.parameters).scalar_one()


def _ask(function: Callable[[], str]) -> str:
    """Return the result of *function*, which waits for the store; meanwhile, an event loop continues."""
    if is_in_greenlet():
        return await_in_greenlet(run_in_thread(function))
    return function()


def _resolve(sessions: Sessions) -> tuple[Any, Callable[[], Session] | None]:
    """Return what SQLAlchemy can listen to, and what makes a session."""
    if isinstance(sessions, scoped_session) or _is_async(sessions, "async_scoped_session"):
        sessions = sessions.session_factory
    if _is_async(sessions, "async_sessionmaker"):
        maker = sessions
        own = _make_own(maker.kw.get("sync_session_class", maker.class_.sync_session_class))
        maker.configure(sync_session_class=own)
        return own, lambda: maker().sync_session
    if isinstance(sessions, sessionmaker):
        return sessions, sessions
    if isinstance(sessions, type) and issubclass(sessions, Session):
        return sessions, None
    if _is_async_class(sessions):
        sessions.sync_session_class = _make_own(sessions.sync_session_class)
        return sessions.sync_session_class, None
    raise ConfigurationError(
        "enlist(gator, sessions) needs a sessionmaker, an async_sessionmaker, a scoped_session or a "
        f"class of sessions, not {sessions!r:.80}."
    )


def _make_own(base: type[Session]) -> type[Session]:
    """Return a subclass to listen to: the events of *base* may be those of all sessions."""
    return type(base.__name__, (base,), {})


def _is_async(sessions: Sessions, kind: str) -> bool:
    """Return whether *sessions* is of that kind of `sqlalchemy.ext.asyncio`.

    It is not imported here, because it needs greenlet.
    """
    module = sys.modules.get("sqlalchemy.ext.asyncio")
    return module is not None and isinstance(sessions, getattr(module, kind))


def _is_async_class(sessions: Sessions) -> bool:
    """Return whether *sessions* is a subclass of AsyncSession, other than itself."""
    module: Any = sys.modules.get("sqlalchemy.ext.asyncio")
    if module is None or not isinstance(sessions, type):
        return False
    return issubclass(sessions, module.AsyncSession) and sessions is not module.AsyncSession
