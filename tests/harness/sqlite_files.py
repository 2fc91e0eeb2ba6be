"""Look into a SQLite file without Alligator, lock it, and start programs that use it."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.harness.programs import ROOT

PRELUDE = """
import sys
from alligator.backends.base import Message
from alligator.backends.sqlite_backend import Client
from tests.harness.programs import SLACK

client = Client(sys.argv[1])
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep the file locked, like another process with a long write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    """Return the rows of *statement*."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def is_sound(path: Path) -> bool:
    """Return whether SQLite finds the file undamaged."""
    return query(path, "PRAGMA integrity_check") == [("ok",)]


def start(code: str, dsn: str) -> "subprocess.Popen[str]":
    """Start a program that has a `client` of *dsn*."""
    command = [sys.executable, "-W", "error", "-c", PRELUDE + code, dsn]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
