"""Transactions on a connection that the application names."""

from collections.abc import Callable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, Protocol, Self

from .._runtime.coroutines import complete
from ..backends.base import Commit
from ..backends.shared_database import Query
from ..commits import interception
from ..commits.committer import report_duplicates, to_messages
from ..commits.databases import execute, fetch, is_in_transaction, kind_of
from ..commits.deferred import Enlists, OutgoingTask
from ..commits.outbox import new_commit
from ..commits.relay import Relay
from ..commits.same_server import Ask, SameServer
from ..exceptions import ConfigurationError
from . import Transaction
from .scope import Owner

NO_RELAY = (
    "No relay pushes what transaction(on=connection) writes: name the application's database with "
    "gator.relay_from(connect), where connect() opens a connection, or enlist its sessions."
)
"""The error of a gator without a relay, unless the store is in the database of the connection."""


class Enlisted(Owner, Protocol):
    """What this transaction needs of its gator."""

    relays: list[Relay]
    enlisters: list[Enlists]

    @property
    def same_server(self) -> SameServer: ...


class ConnectionTransaction(Transaction):
    """Tasks that are written on a connection of the application at the end of their block.

    Ex::

        with connection.transaction(), gator.transaction(on=connection):
            connection.execute("INSERT INTO orders ...")
            gator.task(send_receipt, 42)

    They are queued by the commit of the connection's transaction, and discarded by its rollback. That
    transaction must begin before the block and end after it. If an exception leaves the block, its
    tasks are discarded. Tasks that run in this process run at the end of the block.

    They are written to the tables of the store, if it is in the same PostgreSQL database, and
    otherwise to the outbox.
    """

    names_connection = True

    def __init__(self, gator: Enlisted, options: Mapping[str, Any], connection: Any) -> None:
        super().__init__(gator, options)
        self._connection = connection
        self._kind = kind_of(connection)
        self._relay: Relay | None = _relay_of(gator.relays, connection)
        self._same = self._relay.same_server if self._relay else gator.same_server
        if self._relay is None and not self._same.is_possible(self._kind.dialect):
            raise ConfigurationError(NO_RELAY)
        self._enlisters = gator.enlisters

    def __enter__(self) -> Self:
        if self._kind.is_async:
            raise ConfigurationError(
                "The connection is asynchronous: write `async with gator.transaction(on=connection)`."
            )
        return super().__enter__()

    async def __aenter__(self) -> Self:
        return super().__enter__()

    def begin(self, around: Any) -> Self:
        """Begin it inside *around*, without joining it: its end is that of the connection."""
        super().begin(around)
        self._outer = None
        self.deferred.outer = None
        return self

    def send(self) -> None:
        """Write the tasks on the connection, without calling the callbacks."""
        if self.doomed:
            self.rollback()
            return
        tasks = self.deferred.close()
        try:
            written, others = self._split(tasks)
            if written:
                complete(self._write(written, _call))
        except BaseException as error:
            self._give_up(tasks, error)
            raise
        if others:
            complete(self._deliver(others, self.deferred, awaits=False))

    async def acommit(self) -> None:
        """Asynchronous version of `commit`."""
        if self.doomed:
            await super().acommit()
            return
        from .._runtime.threads import run_in_thread  # loads asyncio

        tasks = self.deferred.close()
        try:
            written, others = self._split(tasks)
            if written:
                await self._write(written, run_in_thread)
        except BaseException as error:
            failure = error
            await run_in_thread(lambda: self._give_up(tasks, failure))
            raise
        if others:
            await run_in_thread(
                lambda: complete(self._deliver(others, self.deferred, awaits=False)),
                own_thread=True,
            )
        self.finish()

    def _give_up(self, tasks: Sequence[OutgoingTask], cause: BaseException) -> None:
        """Discard tasks that could not be written; push those with ``always=True``."""
        complete(self._drop(tasks, "failed", cause, awaits=False))

    def _split(
        self, tasks: Sequence[OutgoingTask]
    ) -> tuple[list[OutgoingTask], list[OutgoingTask]]:
        """Return the tasks to write, and those that go another way."""
        always = [each for each in tasks if each.always]
        others = [each for each in tasks if not each.always]
        if others and any(each.take(self._connection, others) for each in self._enlisters):
            return [], always
        if interception.active is not None:
            return [], list(tasks)
        written = [each for each in tasks if each.run is None and not each.always]
        return written, [each for each in tasks if each.run is not None or each.always]

    async def _write(self, tasks: Sequence[OutgoingTask], ask: Ask) -> None:
        """Write *tasks* on the connection; *ask* calls what waits for the store."""
        if not is_in_transaction(self._connection, self._kind.driver):
            raise ConfigurationError(
                "No transaction is open on the connection, so nothing would commit the tasks: begin "
                "it before gator.transaction(on=connection), and commit it after that block."
            )
        commit = new_commit(to_messages(tasks))
        written = None
        if self._same.is_possible(self._kind.dialect):
            written = await self._same.awrite(commit.messages, self._fetch, ask)
        if written is None:
            await self._write_row(commit)
        for each in tasks:
            each.task.to_waiting()
        self.gator.delivery.count("committed", tasks)
        if written is not None:
            report_duplicates(written.duplicates or (), tasks)
            self._same.wake(written)

    def _fetch(self, query: Query) -> Any:
        return fetch(self._connection, self._kind, query.sql, query.parameters)

    async def _write_row(self, commit: Commit) -> None:
        """Write the commit to the outbox."""
        relay = self._relay
        if relay is None:
            raise ConfigurationError(f"{NO_RELAY} It is needed because {self._same.reason}.")
        if relay.problem is not None:
            raise relay.problem
        statement = relay.outbox.statement(
            str(commit.commit_id), commit.messages, self._kind.dialect
        )
        try:
            result = execute(self._connection, self._kind, statement.sql, statement.parameters)
            if isawaitable(result):
                await result
        except Exception as error:
            relay.outbox.explain(error, self._kind.dialect, self._same.reason)
            raise
        relay.expect(commit)


def _call(function: Callable[[], str]) -> str:
    return function()


def _relay_of(relays: Sequence[Relay], connection: Any) -> Relay | None:
    """Return the relay of the database of *connection*; None if the gator has none."""
    if not relays:
        return None
    for relay in relays:
        if relay.outbox.is_of(connection):
            return relay
    if len(relays) > 1:
        raise ConfigurationError(
            "The gator relays the outboxes of several databases, and none is known to be that of this "
            "connection: use a gator for each."
        )
    return relays[0]
