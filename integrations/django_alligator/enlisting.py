"""Enlist a database: tasks that are started in ``atomic()`` follow that transaction.

Django has no hook before a commit. So a task is written at once, on the connection of the
transaction: rollbacks, those of savepoints included, remove it without further work here.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from alligator import Gator, Task, Transaction
from alligator.backends.base import Commit, Duplicates
from alligator.backends.shared_database import Query, Written
from alligator.commits import interception
from alligator.commits.committer import report_duplicates, to_messages
from alligator.commits.databases import (
    check_dialect,
    is_in_transaction,
    kind_of,
    with_parameters,
)
from alligator.commits.deferred import OutgoingTask
from alligator.commits.outbox import new_commit
from alligator.exceptions import ConfigurationError
from alligator.transaction.enlistment import Enlistment

from .configuration import setting
from .outbox import DjangoRelay


def enlist(gator: Gator, using: str = "default") -> None:
    """Let tasks follow the transactions of the database with the alias *using*.

    Ex::

        enlist(gator, using="orders")

    A task that is started in ``atomic()`` of that database is queued by its commit, and discarded by
    its rollback, or that of its savepoint. Any other task waits for the response. The tasks are
    written to the tables of the store, if it is in the same PostgreSQL database, and otherwise to the
    table that ``manage.py migrate`` creates.

    ``django_alligator.gator`` is enlisted with the databases of ``ALLIGATOR["DATABASES"]``.
    """
    if using not in connections.settings:
        raise ConfigurationError(
            f"There is no database {using!r} to enlist: the setting DATABASES has "
            f"{', '.join(connections.settings)}."
        )
    if connections.settings[using]["ENGINE"] == "django.db.backends.dummy":
        return  # a project without a database
    try:
        check_dialect(connections[using].vendor)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"Tasks cannot follow the transactions of the database {using!r}. {error} Do not enlist it: "
            "ALLIGATOR = {'DATABASES': [], ...}"
        ) from None
    enlister = DatabaseEnlister(gator, using)
    gator.enlisters.append(enlister)
    gator.relays.append(enlister.relay)


def enlist_databases(gator: Gator) -> None:
    """Enlist the databases that the setting names."""
    for using in setting("DATABASES") or ():
        enlist(gator, using)


class DatabaseEnlister:
    """Passes tasks to the transaction of one database that is open in this thread."""

    def __init__(self, gator: Gator, using: str) -> None:
        self.gator = gator
        self.using = using
        self.relay = DjangoRelay(gator, using)
        self._in_store: WeakKeyDictionary[Commit, Written] = WeakKeyDictionary()
        """What transactions have written to the tables of the store."""

    # For the gator.

    def hold(self, outgoing: OutgoingTask, home: Transaction | None) -> bool:
        """Have the open transaction decide on a task; return False if none is open."""
        connection = connections[self.using]
        if connection.in_atomic_block:
            if connection.commit_on_exit:
                return not _is_of_test(connection) and self.follow(connection, [outgoing], home)
        elif connection.autocommit or connection.connection is None:
            return False
        return self._follow_by_hand(connection, outgoing)

    def take(self, connection: Any, tasks: Sequence[OutgoingTask]) -> bool:
        """Have the transaction of *connection*, one that was named, decide on *tasks* together."""
        if not (self.relay.outbox.is_of(connection) and connection.in_atomic_block):
            return False
        return connection.commit_on_exit and self.follow(connections[self.using], tasks, None)

    def cancel(self, task_id: str) -> Task | None:
        """Drop a task of the open transaction, and return it."""
        connection = connections[self.using]
        for entry in connection.run_on_commit:
            following = getattr(entry[1], "__self__", None)
            if isinstance(following, _Following) and following.enlister is self:
                task = following.cancel(connection, task_id)
                if task is not None:
                    return task
        return None

    def follow(
        self,
        connection: BaseDatabaseWrapper,
        tasks: Sequence[OutgoingTask],
        home: Transaction | None,
    ) -> bool:
        """Have a transaction, whose commit Django reports, decide on *tasks*."""
        following = _Following(self, tasks, home)
        # Otherwise it will be rolled back, and refuses statements until then.
        if not connection.needs_rollback:
            following.write(connection)
        # Tasks that were written will be pushed: only for others, a failure must fail the request.
        connection.on_commit(following.committed, robust=following.is_written)
        return True

    def _follow_by_hand(self, connection: BaseDatabaseWrapper, outgoing: OutgoingTask) -> bool:
        """Follow a transaction that the project commits itself, without a report of Django."""
        if outgoing.run is not None or interception.active is not None or not self.is_needed():
            return False
        if not is_in_transaction(connection.connection, kind_of(connection.connection).driver):
            return False
        commit = new_commit(to_messages([outgoing]))
        self.write(connection, commit)
        outgoing.task.to_waiting()
        self.gator.delivery.count("committed", [outgoing])
        report_duplicates(self.committed(commit) or (), [outgoing])
        return True

    # For `Enlistment`: this is its writer.

    def is_needed(self) -> bool:
        """Return whether tasks are written, as the outbox says."""
        return self.relay.outbox.is_needed()

    def committed(self, commit: Commit) -> Duplicates | None:
        """Wake workers, or have the relay of this process push the commit at once."""
        written = self._in_store.pop(commit, None)
        if written is not None:
            self.relay.same_server.wake(written)
            return written.duplicates
        # If its row is there: Django does not report the rollback of `transaction.savepoint()`.
        self.relay.expect(commit)
        return None

    def write(self, connection: BaseDatabaseWrapper, commit: Commit) -> None:
        """Write a commit to the tables of the store, if it is in this database, or to the outbox."""
        dialect, same = check_dialect(connection.vendor), self.relay.same_server
        if same.is_possible(dialect):
            written = same.write(commit.messages, partial(_fetch, connection))
            if written is not None:
                self._in_store[commit] = written
                return
        if self.relay.problem is not None:
            raise self.relay.problem
        statement = self.relay.outbox.statement(str(commit.commit_id), commit.messages, dialect)
        try:
            _execute(connection, statement.sql, statement.parameters)
        except DatabaseError as error:
            self.relay.outbox.explain(error, dialect, same.reason)
            raise

    def withdraw(self, connection: BaseDatabaseWrapper, commit: Commit) -> None:
        """Remove a commit that the transaction has written to the outbox."""
        sql = f"DELETE FROM {self.relay.outbox.table} WHERE commit_id = ?"  # noqa: S608
        _execute(connection, sql, [str(commit.commit_id)])

    def is_in_store(self, commit: Commit) -> bool:
        """Return whether the transaction has written a commit to the tables of the store."""
        return commit in self._in_store


class _Following:
    """Tasks that follow one transaction, written together.

    Django drops its reference to `committed` without a call when the transaction, or the savepoint, is
    rolled back, or its connection is closed.
    """

    def __init__(
        self,
        enlister: DatabaseEnlister,
        tasks: Sequence[OutgoingTask],
        home: Transaction | None,
    ) -> None:
        self.enlister = enlister
        self._tasks, self._home = tasks, home
        self._commit: Commit | None = None
        self._enlistment = Enlistment(enlister.gator, enlister)
        self._is_open = True
        for each in tasks:
            self._enlistment.hold(each, home)

    @property
    def is_written(self) -> bool:
        """Whether the database has the tasks."""
        return self._commit is not None

    def write(self, connection: BaseDatabaseWrapper) -> None:
        """Write the tasks, unless they run in this process, or are delivered after the commit."""
        self._commit = self._enlistment.prepare()
        if self._commit is not None:
            self.enlister.write(connection, self._commit)

    def committed(self) -> None:
        """Deliver the tasks, once."""
        if self._is_open:
            self._is_open = False
            self._enlistment.committed()
            self._enlistment.close()

    def cancel(self, connection: BaseDatabaseWrapper, task_id: str) -> Task | None:
        """Drop the task of that id, and return it; None if it is not one of these."""
        if self._commit is None:
            return self._enlistment.cancel(task_id)
        dropped = [each for each in self._tasks if each.task.task_id == task_id]
        if not (self._is_open and dropped) or self.enlister.is_in_store(self._commit):
            return None
        self._is_open = False
        self.enlister.withdraw(connection, self._commit)
        self.enlister.gator.delivery.discard(dropped)
        if rest := [each for each in self._tasks if each not in dropped]:
            self.enlister.follow(connection, rest, self._home)
        return dropped[0].task

    def __del__(self) -> None:
        if self._is_open:
            self._is_open = False
            self._enlistment.rolled_back()


def _execute(connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(with_parameters(sql, "format"), parameters)  # Django's cursors translate it


def _fetch(connection: BaseDatabaseWrapper, query: Query) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(with_parameters(query.sql, "format"), query.parameters)
        [value] = cursor.fetchone()
    return value


def _is_of_test(connection: BaseDatabaseWrapper) -> bool:
    """Return whether only a TestCase has begun the transaction, which the project does not see."""
    return all(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
