"""A file of an older Alligator: its tables are brought up to date, its tasks stay what they are."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from alligator import Gator, spool
from alligator.backends import sqlite_tables
from alligator.backends.base import Message
from alligator.backends.sqlite_backend import Client
from alligator.backends.sqlite_database import APPLICATION_ID, Database
from alligator.exceptions import BackendError
from tests.programs import ROOT

KNOWN = len(sqlite_tables.VERSIONS)
"""The version that this Alligator knows; the tests make up later ones."""

TWO = (
    "CREATE TABLE measure (name TEXT PRIMARY KEY, number INTEGER NOT NULL)",
    "INSERT INTO measure SELECT state, count(*) FROM task GROUP BY state",
)
THREE = ("ALTER TABLE task ADD COLUMN colour TEXT NOT NULL DEFAULT 'green'",)

NEWER = f"""
import os, signal, sys
from alligator.backends import sqlite_tables
from alligator.backends.sqlite_backend import Client

TWO = {TWO!r}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a file, with a task in every state."""
    path = tmp_path / "queue.db"
    with closing(Client(f"sqlite://{path}")) as client:
        client.push_many([Message("all", name, name) for name in ("dead", "leased", "ready")])
        client.push_many([Message("all", "scheduled", "scheduled", 3600.0)], commit_id="commit")
        dead, _ = client.reserve("all", limit=2)
        client.dead_letter(dead, reason="it was to be")
    return path


def know(patch: pytest.MonkeyPatch, *later: Iterable[str]) -> None:
    """Let this process be of an Alligator that knows further versions."""
    patch.setattr(sqlite_tables, "VERSIONS", (*sqlite_tables.VERSIONS[:KNOWN], *later))


def ask(path: Path, question: str) -> list[tuple[object, ...]]:
    """Look into the file past Alligator."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def version(path: Path) -> object:
    return ask(path, "PRAGMA user_version")[0][0]


def program(code: str, path: Path) -> "subprocess.Popen[str]":
    """Start a program of a newer Alligator."""
    command = [sys.executable, "-W", "error", "-c", NEWER + code, f"sqlite://{path}"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_tasks_of_every_state_live_through_an_upgrade(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Client(f"sqlite://{path}")) as client:
        before = client.stats("all")
    know(monkeypatch, TWO, THREE)

    with closing(Client(f"sqlite://{path}")) as client:
        after = client.stats("all")
        client.push_many([Message("all", "scheduled", "again")], commit_id="commit")
        (lease,) = client.reserve("all", limit=9)
        client.ack(lease)
        (letter,) = client.dead_letters("all")

    assert version(path) == KNOWN + 2
    assert after.ready == after.scheduled == after.leased == after.dead == 1
    assert after._replace(oldest=0) == before._replace(oldest=0)
    assert lease.task_id == "ready"
    assert letter.reason == "it was to be"
    assert ask(path, "SELECT DISTINCT colour FROM task") == [("green",)]
    assert ask(path, "SELECT sum(number) FROM measure") == [(4,)]


def test_a_new_file_is_of_the_newest_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, TWO)
    with closing(Client(f"sqlite://{tmp_path}/new.db")) as client:
        client.push("all", "a", "a")

    assert version(tmp_path / "new.db") == KNOWN + 1


def test_of_many_that_come_at_once_one_upgrades(path: Path) -> None:
    code = """
sqlite_tables.VERSIONS = (*sqlite_tables.VERSIONS, TWO)
clients = [Client(sys.argv[1]) for _ in range(3)]
print(flush=True)
sys.stdin.readline()
for client in clients:
    client.ping()
    assert client.stats("all").dead == 1
"""
    several = [program(code, path) for _ in range(4)]
    for one in several:
        assert one.stdout is not None
        one.stdout.readline()
    for one in several:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for one in several:
        one.communicate(timeout=60)

    assert [one.returncode for one in several] == [0] * 4
    assert version(path) == KNOWN + 1
    assert ask(path, "SELECT sum(number) FROM measure") == [(4,)]


def test_who_is_killed_in_an_upgrade_leaves_the_older_version(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
def statements():
    yield from TWO
    os.kill(os.getpid(), signal.SIGKILL)

sqlite_tables.VERSIONS = (*sqlite_tables.VERSIONS, statements())
Client(sys.argv[1]).ping()
"""
    killed = program(code, path)
    killed.communicate(timeout=60)

    assert killed.returncode == -signal.SIGKILL
    assert version(path) == KNOWN
    with closing(Client(f"sqlite://{path}")) as older:
        assert older.stats("all").ready == 1
    know(monkeypatch, TWO)
    with closing(Client(f"sqlite://{path}")) as newer:
        assert newer.stats("all").ready == 1
    assert version(path) == KNOWN + 1


def test_an_upgrade_that_fails_leaves_the_older_version(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        know(patch, (*TWO, "INSERT INTO nowhere VALUES (1)"))
        with (
            closing(Client(f"sqlite://{path}")) as newer,
            pytest.raises(BackendError, match="nowhere"),
        ):
            newer.ping()

    assert version(path) == KNOWN
    with closing(Client(f"sqlite://{path}")) as older:
        assert older.stats("all").ready == 1


def test_an_older_program_leaves_an_upgraded_file_alone(path: Path) -> None:
    with closing(Client(f"sqlite://{path}")) as had_it_open:
        had_it_open.push("all", "before", "before")
        with pytest.MonkeyPatch.context() as patch:
            know(patch, TWO)
            with closing(Client(f"sqlite://{path}")) as newer:
                newer.ping()
        had_it_open.push("all", "meanwhile", "meanwhile")
    before = path.read_bytes()

    with (
        closing(Client(f"sqlite://{path}")) as older,
        pytest.raises(
            BackendError, match=f"newer Alligator .* version {KNOWN + 1}, known here is {KNOWN}"
        ),
    ):
        older.push("all", "late", "late")

    assert path.read_bytes() == before
    assert ask(path, "SELECT count(*) FROM task") == [(6,)]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Make a spool of version 1 that keeps a commit."""
    path = tmp_path / "spool.db"
    database = Database(
        str(path), spool.VERSIONS, patience=1.0, application_id=spool.APPLICATION_ID
    )
    with closing(database), database.write(durable=True) as connection:
        connection.execute(spool.ADD, (0.0, "commit", "commit", 1, 2, "[]"))
    return path


def test_a_spool_is_upgraded_alike(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "VERSIONS", (*spool.VERSIONS, ("CREATE TABLE more (n)",)))

    keeper = Gator("locmem://", spool=str(kept)).spool

    assert keeper is not None
    assert keeper.content().commits == 1
    assert version(kept) == 2
    keeper._database.close()


def test_a_file_of_version_1_learns_to_count_what_failed(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in sqlite_tables.VERSION_1:
            connection.execute(statement)
        connection.execute("INSERT INTO queue VALUES (?, 0, 0, 0, 0, 9, 9, 0, 0, 0, 0)", ("all",))
        connection.execute("INSERT INTO worker VALUES ('old', 1, 9e18, 1.5, '[]', '[]')")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()

    with closing(Client(f"sqlite://{path}")) as client:
        client.push("all", "a", "a")
        (lease,) = client.reserve("all")
        client.dead_letter(lease, reason="it was to be")
        stats = client.stats("all")
        workers = client.workers()

    assert (stats.pushed, stats.succeeded, stats.failed, stats.died) == (10, 9, 1, 1)
    assert workers == []  # it is listed with the next beat of a newer one
