"""Share one SQLite file between threads and processes."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Final
from weakref import finalize

from ..._runtime.locks import LazyDict
from ...exceptions import BackendError
from . import forks
from .errors import ForkPending, explained, is_locked, locked, retry_while_locked
from .files import create_file, inode_of, location_warnings, size_of
from .migration import migrate

APPLICATION_ID: Final = 0x616C6C69
"""Marks a file as a queue of Alligator, in the header of the file: "alli"."""

LOG_BYTES: Final = 32 * 1024 * 1024
"""Size of the write-ahead log at which it is truncated; SQLite itself tries at 4 MB."""
LOG_CHECK: Final = 50
"""After how many writes of a process the size of the log is checked again."""
LOG_SECONDS: Final = 0.5
"""How long truncating the log may wait for readers. Other writers wait meanwhile."""
EXIT_SECONDS: Final = 0.5
"""How long Python's exit waits for a thread that uses a connection, before it is left open."""

Connections = dict[str, tuple[sqlite3.Connection, int]]
"""Open connections by role: ``read``, ``durable`` or ``quick``; each with the inode of its file."""


class Database:
    """A file for short reads, and for short writes one after the other.

    A process has one connection for reads and two for writes, whatever the number of its threads. So
    a thread that ends leaves nothing open. More writers would gain nothing, as SQLite lets only one
    write at a time.

    The two writers differ in what a power failure can undo: nothing of a *durable* write, the latest
    of the quick ones. That never leaves a gap, because the log is one sequence: a durable write also
    flushes everything before it to the disk. A killed process loses nothing in either case.

    *versions* are the versions of the tables: each is the statements that lead to it from the version
    before, the first from an empty file. Opening a file migrates it to the last version. Programs
    that know fewer versions may have the file open at that time, so a new version may add to the
    tables but must not remove anything.

    *timeout* is how many seconds a call waits for the file. *hint* is added to the error when the file
    cannot be opened.
    """

    def __init__(
        self,
        path: str,
        versions: Sequence[Iterable[str]],
        *,
        timeout: float,
        hint: str = "",
        application_id: int = APPLICATION_ID,
    ) -> None:
        self.path = path
        self._hint = hint
        self.timeout = timeout
        self._versions = versions
        self._application_id = application_id
        self._open: Connections = {}
        self._locks: LazyDict[str, threading.Lock] = LazyDict(lambda: threading.Lock())
        self._locked_for_fork: list[threading.Lock] = []
        self._uses: set[tuple[str, int]] = set()
        """What each thread uses or waits for: a purpose and a thread id."""
        self._writes = 0
        finalize(self, _close_unused, self._locks, self._open)
        forks.register(self)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for reads. Each statement sees the state at its own time."""
        until = monotonic() + self.timeout
        while True:
            try:
                with self._lend("read", "reading", until) as connection:
                    yield connection
                return
            except ForkPending:
                forks.state.wait(until - monotonic())

    @contextmanager
    def write(
        self, *, durable: bool, deadline: float | None = None
    ) -> Iterator[sqlite3.Connection]:
        """Lend a connection for one write transaction.

        Waits for other writers until *deadline*, on the monotonic clock; without one, for the timeout.
        """
        role = "durable" if durable else "quick"
        until = monotonic() + self.timeout if deadline is None else deadline
        while True:
            try:
                with (
                    self._lend(role, "writing", until) as connection,
                    self._transaction(connection, until),
                ):
                    yield connection
                return
            except ForkPending:
                forks.state.wait(until - monotonic())

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection, until: float) -> Iterator[None]:
        """Commit the block as one write transaction, or roll it back if it raises."""
        try:
            # IMMEDIATE, because a read that becomes a write fails when another connection has
            # written since.
            begin = partial(connection.execute, "BEGIN IMMEDIATE")
            retry_while_locked(begin, until, stop_before_fork=True)
            yield
            retry_while_locked(partial(connection.execute, "COMMIT"), until)
            self._bound_log(connection)
        except BaseException:
            # After "disk full" SQLite has rolled back already. A second ROLLBACK would fail and hide
            # the reason.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _bound_log(self, connection: sqlite3.Connection) -> None:
        """Truncate the write-ahead log if overlapping readers have let it grow.

        SQLite starts the log again from its beginning only when no reader needs it. This call waits
        for the current readers, and blocks other writers meanwhile.
        """
        self._writes += 1
        if self._writes % LOG_CHECK or size_of(f"{self.path}-wal") < LOG_BYTES:
            return
        connection.execute(f"PRAGMA busy_timeout = {int(LOG_SECONDS * 1000)}")
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.execute("PRAGMA busy_timeout = 0")

    def version(self) -> int:
        """Return a number that changes with every write of any process; cheaper than a query."""
        with self.read() as connection:
            (number,) = connection.execute("PRAGMA data_version").fetchone()
        return int(number)

    def warnings(self) -> list[str]:
        """Return warnings about the file system and the journal of the file."""
        with self.read() as connection:
            (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        found = location_warnings(self.path)
        if journal != "wal":
            found.append(
                f"{self.path} has no write-ahead log (journal_mode is {journal}): readers and "
                "writers wait for each other."
            )
        return found

    def close(self) -> None:
        with self._locks["reading"], self._locks["writing"]:
            _close_all(self._open)

    @contextmanager
    def _lend(self, role: str, purpose: str, end: float) -> Iterator[sqlite3.Connection]:
        """Lend a connection; wait for it until *end*, on the monotonic clock."""
        lock = self._locks[purpose]
        with self._used_by_this_thread(purpose):
            if not lock.acquire(timeout=max(0.0, end - monotonic())):
                raise locked(self.path, self.timeout)
            try:
                yield self._connection(role, end)
            except sqlite3.Error as error:
                if is_locked(error):
                    raise locked(self.path, self.timeout) from error
                # A connection that was opened read-only, for example, would stay read-only.
                self._drop(role)
                raise explained(error, self.path, self._hint) from error
            finally:
                try:
                    # KeyboardInterrupt can come at any step. An open transaction would lock others
                    # out of the file.
                    if role in self._open and self._open[role][0].in_transaction:
                        self._drop(role)
                finally:
                    lock.release()

    @contextmanager
    def _used_by_this_thread(self, purpose: str) -> Iterator[None]:
        """Reject a second use by the same thread, which would be a deadlock."""
        use = purpose, threading.get_ident()
        if use in self._uses:
            raise BackendError(
                f"{self.path} is in use by the same thread: a signal handler has interrupted a call. "
                "Set a flag in the handler, and start tasks outside of it."
            )
        self._uses.add(use)  # before the lock is acquired, as a signal may come at any moment
        try:
            yield
        finally:
            self._uses.discard(use)

    def _connection(self, role: str, end: float) -> sqlite3.Connection:
        connection, inode = self._open.get(role, (None, -1))
        # Tasks that are written to a deleted file would be accepted and lost.
        if connection is None or inode != inode_of(self.path):
            self._drop(role)
            connection = retry_while_locked(
                partial(self._connect, role), end, stop_before_fork=True
            )
            self._open[role] = connection, inode_of(self.path)
        return connection

    def _connect(self, role: str) -> sqlite3.Connection:
        create_file(self.path)
        connection = sqlite3.connect(  # it waits for locks in `retry_while_locked`
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        if role == "read":  # a record that is not UTF-8 is shown with escapes
            connection.text_factory = partial(str, encoding="utf-8", errors="backslashreplace")
        try:
            migrate(connection, self.path, self._versions, self._application_id)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if role == 'durable' else 'NORMAL'}")
            if role == "read":  # readers rarely wait, and then in SQLite
                connection.execute(f"PRAGMA busy_timeout = {int(self.timeout * 1000)}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self, role: str) -> None:
        if role in self._open:
            self._open.pop(role)[0].close()

    # Forks. No connection may be open during a fork: see `forks`.

    def before_fork(self) -> None:
        # A thread that waits for another process releases its lock: see `retry_while_locked`.
        locks = self._locks["reading"], self._locks["writing"]
        self._locked_for_fork = [lock for lock in locks if lock.acquire(timeout=self.timeout)]
        if len(self._locked_for_fork) == 2:
            _close_all(self._open)

    def after_fork_in_parent(self) -> None:
        while self._locked_for_fork:
            self._locked_for_fork.pop().release()

    def after_fork_in_child(self) -> None:
        # Empty, unless a thread has used a connection for longer than the timeout.
        forks.inherited.extend(self._open.values())
        self._open.clear()
        self._locks.clear()
        self._locked_for_fork = []
        self._uses.clear()


def _close_unused(locks: LazyDict[str, threading.Lock], connections: Connections) -> None:
    """Close the connections that no thread uses, when their database is collected or Python exits.

    A daemon thread may be inside SQLite at exit. Its connection is left to the operating system,
    because closing a connection in use crashes the process with a segmentation fault.
    """
    for purpose, roles in (("reading", {"read"}), ("writing", {"durable", "quick"})):
        lock = locks[purpose]
        if not lock.acquire(timeout=EXIT_SECONDS):
            continue
        try:
            for role in roles & connections.keys():
                connections.pop(role)[0].close()
        finally:
            lock.release()


def _close_all(connections: Connections) -> None:
    while connections:
        connections.popitem()[1][0].close()
