"""Errors of SQLite, what to do about them, and repeating a call while the file is locked."""

import sqlite3
import time
from collections.abc import Callable
from random import uniform
from time import monotonic
from typing import Final, TypeVar

from ...exceptions import BackendError, BackendUnavailable
from . import forks

T = TypeVar("T")

LOCKED: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
"""Codes that mean: another thread or process has locked the file."""

ADVICE: Final = {
    sqlite3.SQLITE_FULL: "no space is left for {path}: free some disk space. Accepted tasks are safe",
    sqlite3.SQLITE_READONLY: "{path} cannot be written: this user needs write permission for the "
    "file and for its directory",
    sqlite3.SQLITE_CANTOPEN: "{path} cannot be opened: its directory must exist, and this user "
    "needs write permission for both",
    sqlite3.SQLITE_CORRUPT: "{path} is damaged: move it away together with its -wal and -shm "
    "files, and recover its content with `sqlite3 FILE .recover`",
    sqlite3.SQLITE_NOTADB: "{path} is not a SQLite database and was left unchanged: name another "
    "file for the queue",
    sqlite3.SQLITE_IOERR: "{path} could not be read or written: check its disk",
}
"""What to do about an error, by its primary code."""


class ForkPending(Exception):
    """This process is about to fork, so the caller must release its lock and try again later."""


def primary_code(error: sqlite3.Error) -> int:
    """Return the primary code of *error*, one of about thirty."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def is_locked(error: sqlite3.Error) -> bool:
    """Return whether *error* means that another thread or process has locked the file."""
    return primary_code(error) in LOCKED


def locked(path: str, timeout: float) -> BackendUnavailable:
    """Return the error of a call that waited *timeout* seconds for the file."""
    return BackendUnavailable(
        f"{path} is locked: another thread or process has been writing to it for more than "
        f"{timeout:g} s. Stop what holds it, or wait longer with ?timeout=SECONDS."
    )


def explained(error: sqlite3.Error, path: str, hint: str) -> BackendError:
    """Return *error* with advice; *hint* is added when the file cannot be opened."""
    code = primary_code(error)
    advice = ADVICE.get(code, "SQLite failed with {path}")
    hint = hint if code == sqlite3.SQLITE_CANTOPEN else ""
    return BackendError(f"{advice.format(path=path)} (SQLite: {error}). {hint}".rstrip())


LONG_WAIT = 0.2
"""Seconds after which a thread that waits for a lock of the file pauses for longer."""


def retry_while_locked(action: Callable[[], T], end: float, *, stop_before_fork: bool = False) -> T:
    """Repeat *action* until the file is not locked, or until *end* by the monotonic clock.

    With *stop_before_fork* it raises `ForkPending` when this process is about to fork.

    SQLite's own busy handler sleeps longer the longer it has waited, so that later callers overtake
    earlier ones. Short pauses of random length are fair: with four processes the longest wait is a
    tenth of SQLite's. After `LONG_WAIT` the pauses are four times as long, to save CPU time.
    """
    longer_from = monotonic() + LONG_WAIT
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not is_locked(error) or monotonic() >= end:
                raise
        if stop_before_fork and forks.state.is_pending:
            raise ForkPending
        # Looked up in its module, because gevent may have patched it after this import.
        factor = 1 if monotonic() < longer_from else 4
        time.sleep(factor * uniform(0.0001, 0.0006))  # noqa: S311 - not used for security
