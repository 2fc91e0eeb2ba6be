"""Share one SQLite file between threads and processes, and say in words what goes wrong with it."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from random import uniform
from threading import Lock, RLock
from time import monotonic
from typing import Final, TypeVar
from weakref import WeakSet, finalize

from ..exceptions import BackendError, BackendUnavailable

T = TypeVar("T")

APPLICATION_ID: Final = 0x616C6C69
"""The mark in the header of a file that is a queue of ours: "alli"."""

BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}

WAYS_OUT: Final = {
    sqlite3.SQLITE_FULL: "no room is left for {path}: free some space. What was accepted is safe",
    sqlite3.SQLITE_READONLY: "{path} cannot be written: this user needs the right to write to the "
    "file and to its directory",
    sqlite3.SQLITE_CANTOPEN: "{path} cannot be opened: its directory must exist, and this user "
    "needs the right to write to both",
    sqlite3.SQLITE_CORRUPT: "{path} is damaged: move it away together with its -wal and -shm "
    "files, and save what can be read with `sqlite3 FILE .recover`",
    sqlite3.SQLITE_NOTADB: "{path} is not a SQLite database and was left as it is: name another "
    "file for the queue",
    sqlite3.SQLITE_IOERR: "{path} could not be read or written: check its disk",
}
"""What to do about an error of SQLite."""

NETWORK: Final = {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "nfs", "nfs4", "smb3"}
"""File systems whose locks between machines are not to be trusted."""

MEMORY: Final = {"ramfs", "tmpfs"}


class Database:
    """A file for short reads, and for short writes one after the other.

    A process has one connection that reads and two that write, whatever the number of its
    threads, so that a thread that ends leaves nothing open; SQLite would not let two write at a
    time anyway. The two writers differ in what a power cut may take back: nothing of a *durable*
    write, the last of the others. That never tears a hole, for the log is one sequence: a durable
    write brings everything before it to the disk too. A killed process loses nothing either way.

    Each of *versions* is the statements that lead to that version of the tables from the one before,
    the first from an empty file. Opening a file brings it to the last of them. Programs that know
    fewer may have it open meanwhile, so a new version adds to the tables and takes nothing away.
    """

    def __init__(
        self,
        path: str,
        versions: Sequence[Iterable[str]],
        *,
        patience: float,
        hint: str = "",
        application_id: int = APPLICATION_ID,
    ) -> None:
        self.path = path
        self._hint = hint
        self.patience = patience
        self._versions = versions
        self._application_id = application_id
        self._open: dict[str, tuple[sqlite3.Connection, int]] = {}
        self._reading, self._writing = Lock(), Lock()
        self._held: list[Lock] = []
        finalize(self, _close_all, self._open)
        with _databases_lock:
            _databases.add(self)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection that reads; each statement sees a state of its own."""
        with self._lent("read", self._reading) as (connection, _):
            yield connection

    @contextmanager
    def write(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Lend a connection that writes, for one transaction."""
        with self._lent("durable" if durable else "quick", self._writing) as (connection, end):
            # IMMEDIATE, for a read that turns into a write fails at once when another has written.
            _patiently(partial(connection.execute, "BEGIN IMMEDIATE"), end)
            try:
                yield connection
                _patiently(partial(connection.execute, "COMMIT"), end)
            except BaseException:
                # A full disk has ended it already, and another end would hide the reason.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def warnings(self) -> list[str]:
        """Say what of the file's place could lose what is in it."""
        with self.read() as connection:
            (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        kind = _file_system(self.path)
        found = {
            f"{self.path} is on a network file system ({kind}): two machines that share it can "
            "damage it. Keep it on a local disk.": kind in NETWORK,
            f"{self.path} is in memory ({kind}): a restart of the machine empties the queue. "
            "Keep it on a disk.": kind in MEMORY,
            f"{self.path} has no write-ahead log (journal_mode is {journal}): readers and writers "
            "wait for each other.": journal != "wal",
        }
        return [sentence for sentence, is_so in found.items() if is_so]

    def close(self) -> None:
        with self._reading, self._writing:
            _close_all(self._open)

    @contextmanager
    def _lent(self, role: str, lock: Lock) -> Iterator[tuple[sqlite3.Connection, float]]:
        end = monotonic() + self.patience
        if not lock.acquire(timeout=self.patience):
            raise self._locked()
        try:
            yield self._connection(role, end), end
        except sqlite3.Error as error:
            code = _code(error)
            if code in BUSY:
                raise self._locked() from error
            # A connection that could only be opened for reading, say, would stay like that.
            self._drop(role)
            advice = WAYS_OUT.get(code, "{path} did not do what it was asked")
            hint = self._hint if code == sqlite3.SQLITE_CANTOPEN else ""
            said = f"{advice.format(path=self.path)} (SQLite: {error}). {hint}"
            raise BackendError(said.rstrip()) from error
        finally:
            lock.release()

    def _locked(self) -> BackendUnavailable:
        return BackendUnavailable(
            f"{self.path} is locked: someone else has been writing to it for more than "
            f"{self.patience:g} s. Close what holds it, or wait longer with ?timeout=SECONDS."
        )

    def _connection(self, role: str, end: float) -> sqlite3.Connection:
        connection, inode = self._open.get(role, (None, -1))
        # Who writes on to a file that was deleted accepts tasks that nobody will ever see.
        if connection is None or inode != _inode(self.path):
            self._drop(role)
            connection = _patiently(partial(self._connect, role), end)
            self._open[role] = connection, _inode(self.path)
        return connection

    def _connect(self, role: str) -> sqlite3.Connection:
        _create(self.path)
        # Readers hardly ever wait. Writers do it in `_patiently`, not here: see there.
        connection = sqlite3.connect(
            self.path,
            timeout=self.patience if role == "read" else 0,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._prepare(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if role == 'durable' else 'NORMAL'}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Bring the tables to the newest version, from whichever; leave alone what is not ours."""
        newest = len(self._versions)
        if _header(connection) == (self._application_id, newest):
            return
        # All in one transaction: whoever is killed in it leaves the file as it was.
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Again, for another process may have been quicker.
            owner, version = _header(connection)
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if owner != self._application_id and (owner or tables):
                raise BackendError(
                    f"{self.path} is a database of something else and was left as it is: name "
                    "another file for the queue."
                )
            if owner != self._application_id:
                version = 0
            if version > newest:
                raise BackendError(
                    f"{self.path} was made by a newer Alligator (its tables are of version "
                    f"{version}, known here is {newest}): upgrade this one."
                )
            for statement in chain.from_iterable(self._versions[version:]):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {self._application_id}")
            connection.execute(f"PRAGMA user_version = {newest}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _drop(self, role: str) -> None:
        if role in self._open:
            self._open.pop(role)[0].close()

    # SQLite's own books on which file is locked by whom go wrong in a forked child, even for
    # connections that the child opens, as long as one of the parent is open: so at that moment
    # none is.

    def before_fork(self) -> None:
        self._held = [
            lock for lock in (self._reading, self._writing) if lock.acquire(timeout=self.patience)
        ]
        if len(self._held) == 2:
            _close_all(self._open)

    def after_fork_in_parent(self) -> None:
        while self._held:
            self._held.pop().release()

    def after_fork_in_child(self) -> None:
        # Closing one that is open after all would release the locks of the parent.
        _inherited.extend(self._open.values())
        self._open.clear()
        self._reading, self._writing, self._held = Lock(), Lock(), []


def _patiently(action: Callable[[], T], end: float) -> T:
    """Repeat *action* until it finds the file free, or *end* has come.

    SQLite's own waiting sleeps for longer the longer it has waited, so that late comers overtake.
    Short naps of random length are fair, and with four processes a tenth of the longest wait.
    """
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if _code(error) not in BUSY or monotonic() >= end:
                raise
        # Through its module, for gevent may have patched it since.
        time.sleep(uniform(0.0001, 0.0006))  # noqa: S311 - nobody gains by guessing it


def _header(connection: sqlite3.Connection) -> tuple[int, int]:
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return owner, version


def _code(error: sqlite3.Error) -> int:
    """Reduce *error* to one of SQLite's thirty primary codes."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _create(path: str) -> None:
    """Make an empty file that only its owner can read, unless there is one."""
    # One at a time, for closing a file releases every lock that this process has on it.
    with _databases_lock, suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return -1


def _file_system(path: str) -> str:
    """Name the kind of file system that *path* is on, where that can be told."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
            mounts = [line.split(" ")[1:3] for line in file]
    except OSError:
        return ""
    here = [(len(at), kind) for at, kind in mounts if f"{path}/".startswith(f"{at.rstrip('/')}/")]
    return max(here, default=(0, ""), key=lambda mount: mount[0])[1]


def _close_all(connections: dict[str, tuple[sqlite3.Connection, int]]) -> None:
    while connections:
        connections.popitem()[1][0].close()


_databases: WeakSet[Database] = WeakSet()
_databases_lock = RLock()
_inherited: list[tuple[sqlite3.Connection, int]] = []


def _before_fork() -> None:
    _databases_lock.acquire()
    for database in _databases:
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database in _databases:
        database.after_fork_in_parent()
    _databases_lock.release()


def _after_fork_in_child() -> None:
    for database in _databases:
        database.after_fork_in_child()
    _databases_lock.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
