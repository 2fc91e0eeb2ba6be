"""Migration of a file to a newer version of the tables."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from alligator import Gator
from alligator.backends.base import Limit, Message, Outcome
from alligator.backends.sqlite_backend import Client, schema
from alligator.backends.sqlite_backend.clock import now
from alligator.backends.sqlite_backend.database import Database
from alligator.commits import spool
from alligator.exceptions import BackendError
from tests.harness.programs import ROOT
from tests.harness.sqlite_files import query, start

KNOWN = len(schema.VERSIONS)
"""The version that this Alligator knows; the tests make up later ones."""


TWO = (
    "CREATE TABLE measure (name TEXT PRIMARY KEY, number INTEGER NOT NULL)",
    "INSERT INTO measure SELECT state, count(*) FROM task GROUP BY state",
)


THREE = ("ALTER TABLE task ADD COLUMN colour TEXT NOT NULL DEFAULT 'green'",)


NEWER = f"""
import os, signal, sys
from alligator.backends.sqlite_backend import schema as sqlite_tables
from alligator.backends.sqlite_backend import Client

TWO = {TWO!r}
"""


@pytest.fixture
def populated(tmp_path: Path) -> Path:
    """Return the path of a file with a task in every state."""
    path = tmp_path / "queue.db"
    with closing(Client(f"sqlite://{path}")) as client:
        client.push_many([Message("all", name, name) for name in ("dead", "leased", "ready")])
        client.push_many([Message("all", "scheduled", "scheduled", 3600.0)], commit_id="commit")
        dead, _ = client.reserve("all", limit=2)
        client.dead_letter(dead, reason="it was to be")
    return path


def set_versions(patch: pytest.MonkeyPatch, *later: Iterable[str]) -> None:
    """Make this process an Alligator that knows further versions."""
    patch.setattr(schema, "VERSIONS", (*schema.VERSIONS[:KNOWN], *later))


def version(path: Path) -> object:
    return query(path, "PRAGMA user_version")[0][0]


def program(code: str, path: Path) -> "subprocess.Popen[str]":
    """Start a program of a newer Alligator."""
    command = [sys.executable, "-W", "error", "-c", NEWER + code, f"sqlite://{path}"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_migration_keeps_tasks_of_every_state(
    populated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Client(f"sqlite://{populated}")) as client:
        before = client.stats("all")
    set_versions(monkeypatch, TWO, THREE)

    with closing(Client(f"sqlite://{populated}")) as client:
        after = client.stats("all")
        client.push_many([Message("all", "scheduled", "again")], commit_id="commit")
        (lease,) = client.reserve("all", limit=9)
        client.ack(lease)
        (letter,) = client.dead_letters("all")

    assert version(populated) == KNOWN + 2
    assert after.ready == after.scheduled == after.leased == after.dead == 1
    assert after._replace(oldest=0) == before._replace(oldest=0)
    assert lease.task_id == "ready"
    assert letter.reason == "it was to be"
    assert query(populated, "SELECT DISTINCT colour FROM task") == [("green",)]
    assert query(populated, "SELECT sum(number) FROM measure") == [(4,)]


@pytest.fixture
def aged(tmp_path: Path) -> Path:
    """Return the path of a file of version 4, before pauses, expiry and schedules, with two tasks."""
    path = tmp_path / "queue.db"
    with (
        closing(Database(str(path), schema.VERSIONS[:4], timeout=1.0)) as database,
        database.write(durable=True) as connection,
    ):
        connection.execute(
            "INSERT INTO queue VALUES ('all', 1, 0, 0, 1, 7, 5, 2, 0, 0, 0, 3, 1)",
        )
        connection.execute(
            "INSERT INTO task (queue, id, state, at, due, data, reason) VALUES"
            " ('all', 'a', 'ready', 1, 1, 'data', ''), ('all', 'b', 'dead', ?, 1, 'data', 'no luck')",
            (now(),),
        )
    assert version(path) == 4
    return path


def test_file_of_version_4_gets_pauses_expiry_and_schedules(aged: Path) -> None:
    with closing(Client(f"sqlite://{aged}")) as client:
        stats = client.stats("all")
        assert (stats.ready, stats.dead, stats.pushed, stats.failed, stats.died) == (1, 1, 7, 3, 1)
        assert (stats.paused, stats.expired, [*client.schedules()]) == (0, 0, [])

        client.pause("all", 3600)
        assert client.push_tick("nightly", 60, Message("all", "nightly", "data"))
        assert not client.reserve("all", limit=9)
        client.pause("all", 0)
        first, second = client.reserve("all", limit=9)
        client.step((), 0, outcomes=[Outcome("expired", first, reason="expired")])
        client.ack(second)

        stats = client.stats("all")
        assert (first.task_id, second.task_id) == ("a", "nightly")
        assert (stats.dead, stats.died, stats.expired, stats.succeeded) == (2, 2, 1, 6)
        assert not client.push_tick("nightly", 60, Message("all", "nightly", "data"))
    assert version(aged) == KNOWN


def test_file_of_version_6_gets_priorities_and_is_drained(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with (
        closing(Database(str(path), schema.VERSIONS[:6], timeout=1.0)) as database,
        database.write(durable=True) as connection,
    ):
        connection.execute(schema.COUNT, ("all", 1, 1, 1, *[0] * (len(schema.COUNTS) - 3)))
        connection.executemany(
            "INSERT INTO task (queue, id, state, at, due, data) VALUES ('all', ?, ?, 1, 1, 'data')",
            [("ready", "ready"), ("due", "scheduled"), ("lost", "leased")],
        )

    with closing(Client(f"sqlite://{path}")) as client:
        client.push_many(
            [Message("all", "low", "{}", 0.0, -1), Message("all", "high", "{}", 0.0, 1)]
        )
        found = [lease.task_id for _ in range(3) for lease in client.reserve("all", limit=9)]
        stats = client.stats("all")

    assert found == ["high", "ready", "due", "lost", "low"]
    assert (stats.ready, stats.scheduled, stats.leased) == (0, 0, 5)
    assert version(path) == KNOWN


def test_file_of_version_10_gets_lines(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with (
        closing(Database(str(path), schema.VERSIONS[:10], timeout=1.0)) as database,
        database.write(durable=True) as connection,
    ):
        connection.execute(schema.COUNT, ("all", 2, 0, 1, *[0] * (len(schema.COUNTS) - 3)))
        connection.executemany(
            "INSERT INTO task (queue, id, state, at, due, data) VALUES ('all', ?, ?, 1, 1, 'data')",
            [("a", "ready"), ("b", "ready"), ("c", "leased")],
        )

    with closing(Client(f"sqlite://{path}")) as client:
        client.push_many([Message("all", f"t{n}", "data", limit_key="t") for n in range(2)])
        found = [lease.task_id for _ in range(3) for lease in client.reserve("all", limit=9)]
        stats = client.stats("all")

    assert found == ["a", "t0", "b", "t1", "c"]
    assert (stats.ready, stats.leased) == (0, 5)
    assert version(path) == KNOWN


@pytest.mark.parametrize("unreleased", [11, 12])
def test_file_of_an_unreleased_version_is_rejected(tmp_path: Path, unreleased: int) -> None:
    path = tmp_path / "queue.db"
    lines = ("ALTER TABLE task ADD COLUMN limit_key TEXT",)
    versions = *schema.VERSIONS[:10], *[()] * (unreleased - 11), lines
    with (
        closing(Database(str(path), versions, timeout=1.0)) as database,
        database.write(durable=True),
    ):
        pass

    with (
        closing(Client(f"sqlite://{path}")) as client,
        pytest.raises(BackendError, match="limit_key"),
    ):
        client.push("all", "a", "data")
    assert version(path) == unreleased


def test_file_of_version_8_gets_limits(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with (
        closing(Database(str(path), schema.VERSIONS[:8], timeout=1.0)) as database,
        database.write(durable=True) as connection,
    ):
        connection.execute(schema.COUNT, ("all", 2, 0, 1, *[0] * (len(schema.COUNTS) - 3)))
        connection.executemany(
            "INSERT INTO task (queue, id, state, at, due, data) VALUES ('all', ?, ?, ?, 1, 'data')",
            [("a", "ready", 1), ("b", "ready", 2), ("c", "leased", 2**60)],
        )

    with closing(Client(f"sqlite://{path}")) as client:
        assert client.stats("all").limit is None
        client.limit("all", Limit(at_once=2))
        assert [lease.task_id for lease in client.reserve("all", limit=9)] == ["a"]
        assert not client.reserve("all", limit=9)
        assert client.stats("all").limited == 1
    assert version(path) == KNOWN


def test_new_file_has_the_newest_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_versions(monkeypatch, TWO)
    with closing(Client(f"sqlite://{tmp_path}/new.db")) as client:
        client.push("all", "a", "a")

    assert version(tmp_path / "new.db") == KNOWN + 1


def test_migration_runs_once_when_many_open_the_file(populated: Path) -> None:
    code = """
sqlite_tables.VERSIONS = (*sqlite_tables.VERSIONS, TWO)
clients = [Client(sys.argv[1]) for _ in range(3)]
print(flush=True)
sys.stdin.readline()
for client in clients:
    client.ping()
    assert client.stats("all").dead == 1
"""
    several = [program(code, populated) for _ in range(4)]
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
    assert version(populated) == KNOWN + 1
    assert query(populated, "SELECT sum(number) FROM measure") == [(4,)]


def test_migration_that_is_killed_leaves_the_older_version(
    populated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
def statements():
    yield from TWO
    os.kill(os.getpid(), signal.SIGKILL)

sqlite_tables.VERSIONS = (*sqlite_tables.VERSIONS, statements())
Client(sys.argv[1]).ping()
"""
    killed = program(code, populated)
    killed.communicate(timeout=60)

    assert killed.returncode == -signal.SIGKILL
    assert version(populated) == KNOWN
    with closing(Client(f"sqlite://{populated}")) as older:
        assert older.stats("all").ready == 1
    set_versions(monkeypatch, TWO)
    with closing(Client(f"sqlite://{populated}")) as newer:
        assert newer.stats("all").ready == 1
    assert version(populated) == KNOWN + 1


def test_migration_that_fails_leaves_the_older_version(populated: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        set_versions(patch, (*TWO, "INSERT INTO nowhere VALUES (1)"))
        with (
            closing(Client(f"sqlite://{populated}")) as newer,
            pytest.raises(BackendError, match="nowhere"),
        ):
            newer.ping()

    assert version(populated) == KNOWN
    with closing(Client(f"sqlite://{populated}")) as older:
        assert older.stats("all").ready == 1


def test_older_program_leaves_a_migrated_file_unchanged(populated: Path) -> None:
    with closing(Client(f"sqlite://{populated}")) as had_it_open:
        had_it_open.push("all", "before", "before")
        with pytest.MonkeyPatch.context() as patch:
            set_versions(patch, TWO)
            with closing(Client(f"sqlite://{populated}")) as newer:
                newer.ping()
        had_it_open.push("all", "meanwhile", "meanwhile")
    before = populated.read_bytes()

    with (
        closing(Client(f"sqlite://{populated}")) as older,
        pytest.raises(
            BackendError, match=f"newer Alligator .* version {KNOWN + 1}, .* up to {KNOWN}"
        ),
    ):
        older.push("all", "late", "late")

    assert populated.read_bytes() == before
    assert query(populated, "SELECT count(*) FROM task") == [(6,)]


def test_database_of_another_program_is_left_unchanged(client: Client, path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE task (id)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(BackendError, match="a database of another program"):
        client.push("mail", "a", "1")

    assert path.read_bytes() == before


def test_file_of_a_newer_alligator_is_left_unchanged(client: Client, path: Path) -> None:
    client.push("mail", "a", "1")
    client.close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()

    with pytest.raises(BackendError, match="newer Alligator"):
        client.push("mail", "b", "2")


def test_several_processes_can_create_the_file_at_once(client: Client, path: Path) -> None:
    code = """
print("here", flush=True)
name = sys.stdin.readline()
client.push_many([Message("mail", name, "1")])
client.close()
"""
    processes = [start(code, f"sqlite://{path}") for _ in range(6)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()

    for n, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(f"t{n}\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=20)

    assert [process.returncode for process in processes] == [0] * 6
    assert client.len("mail") == 6


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Return the path of a spool of version 1 that holds a commit."""
    path = tmp_path / "spool.db"
    database = Database(str(path), spool.VERSIONS, timeout=1.0, application_id=spool.APPLICATION_ID)
    with closing(database), database.write(durable=True) as connection:
        connection.execute(spool.ADD, (0.0, "commit", "commit", 1, 2, "[]", True))
    return path


def test_migration_upgrades_a_spool(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "VERSIONS", (*spool.VERSIONS, ("CREATE TABLE more (n)",)))

    keeper = Gator("locmem://", spool=str(kept)).spool

    assert keeper is not None
    assert keeper.content().commits == 1
    assert version(kept) == len(spool.VERSIONS)
    keeper._database.close()
