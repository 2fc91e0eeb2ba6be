"""The outbox: a table of the application's database in which its commits put their tasks.

A transaction of the application inserts one row, with all its tasks. So the tasks exist if, and only
if, the transaction was committed. A `Relay` pushes each row under the row's own commit id, over all
attempts, and deletes it afterwards: a store recognises a repeated push.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import RLock
from time import time
from typing import Any, NamedTuple

from .._runtime.failures import describe
from ..backends.base import Commit, Message
from ..backends.records import read_more
from ..backends.shared_database import Query
from ..exceptions import ConfigurationError
from .databases import NOW, SQLITE, TABLE, ddl, insert, kind_of, with_parameters

CLAIM_SECONDS = 10.0
"""For how long the rows that a relay reads are reserved for it in SQLite, which cannot lock rows."""

FORK_SECONDS = 1.0
"""For how long a fork waits at most until the outbox in a SQLite file is not in use."""

MAX_COUNTED = 10_000
"""How many rows are counted at most: counting a million takes long."""


class Row(NamedTuple):
    """A commit in the outbox."""

    id: int
    commit: Commit
    failures: int


class Content(NamedTuple):
    """The content of an outbox."""

    commits: int = 0
    """At most `MAX_COUNTED`."""
    age: float = 0.0
    """The age of its oldest commit, in seconds."""
    refused: int = 0
    """How many of its commits the store refused, or could not be read; at most `MAX_COUNTED`."""
    error: str = ""
    """The error of the refused commit that was tried last."""


def new_commit(messages: Sequence[Message]) -> Commit:
    """Return a commit of *messages* with an id of its own, for one row."""
    return chosen(messages, os.urandom(12).hex())


def chosen(messages: Sequence[Message], commit_id: str) -> Commit:
    """Return the commit of a row, which is settled by repeating it and never undone."""
    return Commit(messages, commit_id, undo=False)


class Outbox:
    """The table `alligator_outbox` of one database, over a connection of its own.

    *connect* opens a connection of the DB-API. *run* calls a function that uses it, for a driver
    that needs an event loop. One thread at a time may use an outbox.

    In SQLite it has no connection while the process forks: see `sqlite_backend.forks`.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        table: str = TABLE,
        run: Callable[[Callable[[], Any]], Any] | None = None,
    ) -> None:
        self.table = table
        self._connect = connect
        self._dialect = self._paramstyle = ""
        self._run = run
        self._connection: Any = None
        self._in_use = RLock()
        """Held while a thread is in the driver, but not during a push."""
        self._is_locked = False
        """Whether the thread that forks has this lock."""
        self._changes: list[tuple[str, Sequence[Any]]] = []

    def statement(self, commit_id: str, messages: Sequence[Message], dialect: str) -> "Statement":
        """Return what writes a commit, for a connection of the application."""
        data = json.dumps(
            [(*message[:4], *message.more) for message in messages], separators=(",", ":")
        )
        return Statement(insert(dialect, self.table), (commit_id, data))

    @property
    def is_open(self) -> bool:
        """Whether it has a connection."""
        return self._connection is not None

    def is_of(self, connection: Any) -> bool:
        """Return whether *connection* is known to lead to the same database."""
        return False

    def explain(self, error: BaseException, dialect: str, why: str = "") -> None:
        """Raise `ConfigurationError` if *error* was raised because there is no such table.

        *why* tells why the table is needed though the store is in PostgreSQL, too.
        """
        if _is_about_table(error, self.table):
            message = self.missing(error, dialect)
            message += f" It is needed because {why}." if why else ""
            raise ConfigurationError(message) from error

    def check(self) -> None:
        """Raise `ConfigurationError` if the table does not exist, or is not as expected."""
        sql = f"SELECT id, commit_id, at, data, failures, not_before, error FROM {self.table} "  # noqa: S608
        try:
            self._in_transaction(lambda: self._fetch(f"{sql} WHERE 1 = 0"))
        except Exception as error:
            self.explain(error, self._dialect)
            raise

    def missing(self, error: BaseException, dialect: str) -> str:
        """Return a message that says how to create the table."""
        return (
            f"The application's database has no usable table {self.table} ({describe(error)}). "
            f"Create it: `latergator outbox sql --dialect {dialect}` prints the statement, and "
            "sqlalchemy_alligator.outbox_table(metadata) adds it to the migrations of Alembic."
        )

    @property
    def dialect(self) -> str:
        """The dialect of its database; empty until it is known."""
        return self._dialect

    def query(self, query: Query) -> str:
        """Return the text that *query* returns, in a transaction of its own."""
        [[text]] = self._in_transaction(lambda: self._fetch(query.sql, query.parameters))
        return str(text)

    def create(self) -> None:
        """Create the table, if it does not exist."""
        try:
            self.check()
        except ConfigurationError:
            self._in_transaction(lambda: self._execute(ddl(self._dialect, self.table)))

    @contextmanager
    def claimed(self, limit: int, grace: float) -> Iterator[list[Row]]:
        """Yield up to *limit* commits that are at least *grace* seconds old; no other relay has them.

        The oldest come first. In the block `remove`, `set_aside` and `release` end the work on them. If
        it raises, all are free again; those of a relay that is killed are free after `CLAIM_SECONDS`.
        """
        rows: list[Row] = []
        try:
            with self._in_use:
                rows = self.call(lambda: self._claim(limit, grace))
            yield rows
            self._end_claim()
        except BaseException:
            with suppress(Exception):
                self._changes.clear()
                if self._dialect == SQLITE:
                    self.release(rows)
                    self._end_claim()
                else:
                    self.call(lambda: self._connection.rollback())
            self.close()
            raise

    def release(self, rows: Sequence[Row]) -> None:
        """Free claimed rows for the next attempt, of any relay."""
        if rows and self._dialect == SQLITE:  # others free them at the end of the transaction
            ids = _listed([row.id for row in rows])
            self._change(f"UPDATE {self.table} SET not_before = 0 WHERE id IN ({ids})")  # noqa: S608

    def remove(self, ids: Sequence[int]) -> None:
        """Delete claimed rows."""
        if ids:
            self._change(f"DELETE FROM {self.table} WHERE id IN ({_listed(ids)})")  # noqa: S608

    def remove_commits(self, commit_ids: Sequence[str]) -> None:
        """Delete the rows of these commits, in a transaction of its own."""
        marks = ", ".join("?" * len(commit_ids))
        sql = f"DELETE FROM {self.table} WHERE commit_id IN ({marks})"  # noqa: S608
        self._in_transaction(lambda: self._execute(sql, commit_ids))

    def visible(self, commit_ids: Sequence[str]) -> set[str]:
        """Return those of the commits that have been committed."""
        marks = ", ".join("?" * len(commit_ids))
        sql = f"SELECT commit_id FROM {self.table} WHERE commit_id IN ({marks})"  # noqa: S608
        return {str(row[0]) for row in self._in_transaction(lambda: self._fetch(sql, commit_ids))}

    def set_aside(self, row: Row, delay: float, error: str) -> None:
        """Postpone a claimed commit that the store refused."""
        now = NOW[self._dialect]
        sql = (
            f"UPDATE {self.table} SET failures = failures + 1, "  # noqa: S608
            f"not_before = {now} + {delay:.3f}, error = ? WHERE id = {row.id:d}"
        )
        self._change(sql, (error[:500],))

    def content(self) -> Content:
        """Return what it holds."""
        return self._in_transaction(self._content)  # type: ignore[no-any-return]

    def refused(self, limit: int) -> list[tuple[str, int, str]]:
        """Return the commits that the store refused: their ids, failures and last errors."""
        sql = (
            f"SELECT commit_id, failures, error FROM {self.table} WHERE failures > 0 "  # noqa: S608
            f"ORDER BY id LIMIT {limit:d}"
        )
        return [tuple(row) for row in self._in_transaction(lambda: self._fetch(sql))]

    def close(self) -> None:
        """Close the connection; a later use opens another one."""
        with self._in_use:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(Exception):  # it is of no use any more
                    self.call(connection.close)

    def forget(self) -> None:
        """Drop the connection without closing it: it belongs to the parent of a forked process."""
        _of_parent.append(self._connection)
        self._connection = None
        self._in_use = RLock()

    # Registered as `Forkable`, if it is in SQLite.

    def before_fork(self) -> None:
        """Wait until no thread is in SQLite, whose locks a child would inherit; then close the file."""
        self._is_locked = self._in_use.acquire(timeout=FORK_SECONDS)
        if self._is_locked:
            self.close()

    def after_fork_in_parent(self) -> None:
        """Let the relay continue; it opens the file again."""
        if self._is_locked:
            self._in_use.release()

    def after_fork_in_child(self) -> None:
        """Drop what belongs to the parent."""
        self.forget()

    # Inside a transaction of the relay.

    def call(self, function: Callable[[], Any]) -> Any:
        """Call *function*, which uses the connection, as the driver needs it."""
        return function() if self._run is None else self._run(function)

    def _in_transaction(self, function: Callable[[], Any]) -> Any:
        def run() -> Any:
            self._begin()
            result = function()
            self._commit()
            return result

        with self._in_use:
            try:
                return self.call(run)
            except BaseException:
                self.close()
                raise

    def _change(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Change claimed rows, at the latest when the claim ends."""
        if self._dialect == SQLITE:  # the push must not happen inside a transaction
            self._changes.append((sql, parameters))
        else:
            self.call(lambda: self._execute(sql, parameters))

    def _end_claim(self) -> None:
        if self._dialect == SQLITE:
            changes, self._changes = self._changes, []
            if changes:
                self._in_transaction(lambda: [self._execute(*change) for change in changes])
        else:
            self.call(self._commit)

    def _begin(self) -> None:
        if self._connection is None:
            self._connection = self._connect()
            if not self._dialect:
                self._dialect, self._paramstyle = kind_of(self._connection)[1:3]
                if self._dialect == SQLITE:
                    from ..backends.sqlite_backend import forks  # only then

                    forks.register(self)  # once: a fork that waits for this outbox has that lock
        if self._dialect != SQLITE:
            # Under REPEATABLE READ, MySQL's locks on rows would block the inserts of the application.
            self._execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")

    def _commit(self) -> None:
        self._connection.commit()

    def _claim(self, limit: int, grace: float) -> list[Row]:
        self._begin()
        now = NOW[self._dialect]
        due = f"not_before <= {now} AND at <= {now} - {grace:.3f} ORDER BY id LIMIT {limit:d}"
        columns = f"SELECT id, commit_id, data, {now} - at, failures FROM {self.table}"  # noqa: S608
        if self._dialect == SQLITE:
            # The push must not happen under the only lock of the file. So the rows are claimed: until
            # a moment that no other relay chooses, by which they are found.
            until = repr(time() + CLAIM_SECONDS + int.from_bytes(os.urandom(4), "big") / 2**32)
            if found := self._fetch(f"{columns} WHERE {due}"):
                self._execute(
                    f"UPDATE {self.table} SET not_before = {until} "  # noqa: S608
                    f"WHERE id IN (SELECT id FROM {self.table} WHERE {due})"
                )
                found = self._fetch(f"{columns} WHERE not_before = {until} ORDER BY id")
            self._commit()
        else:
            found = self._fetch(f"{columns} WHERE {due} FOR UPDATE SKIP LOCKED")
        return [_read(row) for row in found]

    def _content(self) -> Content:
        table, now = self.table, NOW[self._dialect]
        [[commits]] = self._fetch(
            f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT {MAX_COUNTED}) AS found"  # noqa: S608
        )
        if not commits:
            return Content()
        oldest = self._fetch(f"SELECT {now} - at FROM {table} ORDER BY id LIMIT 1")  # noqa: S608
        refused = self._fetch(
            f"SELECT error FROM {table} WHERE failures > 0 ORDER BY not_before DESC "  # noqa: S608
            f"LIMIT {MAX_COUNTED}"
        )
        age = max(0.0, float(oldest[0][0])) if oldest else 0.0
        return Content(int(commits), age, len(refused), str(refused[0][0] or "") if refused else "")

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        cursor = self._connection.cursor()
        if parameters:
            cursor.execute(with_parameters(sql, self._paramstyle), tuple(parameters))
        else:
            cursor.execute(sql)
        return cursor

    def _fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        cursor = self._execute(sql, parameters)
        rows = list(cursor.fetchall())
        cursor.close()
        return rows


_of_parent: list[Any] = []
"""Connections of the parent of a forked process. If they were collected, they would be closed."""


class Statement(NamedTuple):
    """A statement with ``?`` for its parameters."""

    sql: str
    parameters: tuple[str, ...]


def _read(row: Sequence[Any]) -> Row:
    row_id, commit_id, data, age, failures = row
    # A delay counts from the commit of the application.
    passed = max(0.0, float(age))
    try:
        messages = [
            Message(
                *(str(queue), str(task_id), str(payload), max(0.0, float(delay) - passed)),
                *read_more(*more),
            )
            for queue, task_id, payload, delay, *more in json.loads(data)
        ]
    except (ValueError, TypeError):
        messages = []  # set aside by the relay: it must not block the others
    return Row(int(row_id), chosen(messages, str(commit_id)), int(failures))


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(f"{number:d}" for number in ids)


def _is_about_table(error: BaseException, table: str) -> bool:
    """Return whether the database rejected a statement because of that table."""
    name = table.rpartition(".")[2].strip('"`')
    words = str(error)
    missing = any(
        part in words for part in ("no such", "does not exist", "doesn't exist", "Unknown column")
    )
    return missing and (name in words or "column" in words)
