"""Forks of a process that uses a SQLite file."""

import os
import threading
import time
import warnings
from pathlib import Path

import pytest

from alligator.backends.base import Message
from alligator.backends.sqlite_backend import Client, files, forks
from alligator.backends.sqlite_backend import database as sqlite_database
from tests.harness.programs import SLACK, eventually
from tests.harness.sqlite_files import locked, start


def message(number: int) -> Message:
    return Message("all", str(number), "{}")


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork and threads, on purpose
        return os.fork()


def test_fork_does_not_wait_for_a_thread_that_waits_for_the_file(
    path: Path, client: Client
) -> None:
    client.ping()
    thread = threading.Thread(target=lambda: client.push_many([message(1)]))
    with locked(path):
        thread.start()
        eventually(client._database._locks["writing"].locked)
        began = time.monotonic()
        child = fork()
        if not child:
            os._exit(0)
        took = time.monotonic() - began
        os.waitpid(child, 0)
    thread.join(SLACK)

    assert took < client._database.timeout / 2
    assert client.len("all") == 1, "the push went on after the fork"


@pytest.mark.parametrize("purpose", ["writing", "reading"])
def test_fork_does_not_wait_for_a_thread_that_opens_a_locked_file(
    path: Path, client: Client, purpose: str
) -> None:
    path.touch()
    use = (lambda: client.push_many([message(1)])) if purpose == "writing" else client.warnings
    thread = threading.Thread(target=use)
    with locked(path):  # as while another process creates the tables
        thread.start()
        eventually(client._database._locks[purpose].locked)
        began = time.monotonic()
        child = fork()
        if not child:
            os._exit(0)
        took = time.monotonic() - began
        os.waitpid(child, 0)
    thread.join(SLACK)

    assert took < client._database.timeout / 2
    assert client.len("all") == (purpose == "writing"), "the push went on after the fork"


def test_fork_does_not_wait_for_the_creation_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(f"sqlite://{tmp_path / 'new.db'}?timeout=30")
    database = client._database
    is_about_to, fork_has_begun = threading.Event(), threading.Event()
    create, before_fork = files.create_file, sqlite_database.Database.before_fork

    def create_late(path: str) -> None:
        is_about_to.set()
        assert fork_has_begun.wait(SLACK)
        create(path)

    def begin_fork(forked: sqlite_database.Database) -> None:  # under the registry lock
        if forked is database:
            fork_has_begun.set()
        before_fork(forked)

    monkeypatch.setattr(sqlite_database, "create_file", create_late)
    monkeypatch.setattr(sqlite_database.Database, "before_fork", begin_fork)
    thread = threading.Thread(target=lambda: client.push_many([message(1)]))
    thread.start()
    assert is_about_to.wait(SLACK)

    began = time.monotonic()
    child = fork()
    if not child:
        os._exit(0)
    took = time.monotonic() - began
    os.waitpid(child, 0)
    thread.join(SLACK)

    assert took < database.timeout / 2
    client.close()


def test_forked_child_inherits_no_connection(client: Client) -> None:
    client.push("mail", "a", "1")
    client.reserve("mail")

    child = os.fork()
    if not child:
        os._exit(len(client._database._open) + len(forks.inherited))
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    client.push("mail", "b", "2")
    assert client.len("mail") == 1


PATCHED_CHILD = """
import os
import sqlite3

client.push("mail", "before", "{}")
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

from gevent import joinall, monkey, sleep, spawn
monkey.patch_all()
other = sqlite3.connect(client._database.path, isolation_level=None)
other.execute("BEGIN IMMEDIATE")
pushes = [spawn(client.push, "mail", name, "{}") for name in ("a", "b")]
sleep(0.05)  # one of them naps until the file is free, the other waits for the first
other.execute("COMMIT")
joinall(pushes, raise_error=True)
"""


def test_greenlets_wait_for_each_other_in_a_patched_child(client: Client, path: Path) -> None:
    pytest.importorskip("gevent", reason="it is not installed: pip install gevent")

    with start(PATCHED_CHILD, f"sqlite://{path}") as process:
        process.communicate(timeout=20)

    assert process.returncode == 0
    assert client.len("mail") == 3
