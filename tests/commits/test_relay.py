"""The relay pushes what the outbox holds, and drops nothing."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from alligator.backends import locmem_backend
from alligator.backends.base import Commit, Duplicates, Message
from alligator.commits import relay as relay_module
from alligator.commits.outbox import Outbox, new_commit
from alligator.commits.relay import Relay
from alligator.exceptions import BackendError, BackendUnavailable, ConfigurationError
from tests.harness.programs import ROOT, environment, eventually


class Store(locmem_backend.Client):
    """A store that is away, or refuses a task, when a test says so."""

    away = False
    refuses = ""
    breaks = ""

    def __init__(self) -> None:
        super().__init__(f"locmem://{os.urandom(4).hex()}")
        self.attempts: list[str | None] = []

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        self.attempts.append(commit_id)
        assert undo is False
        if self.away:
            raise BackendUnavailable("the store does not answer")
        if any(message.task_id == self.breaks for message in messages):
            raise ValueError("no such task")
        if any(message.task_id == self.refuses for message in messages):
            raise BackendError("the task is refused")
        return super().push_many(messages, commit_id=commit_id, undo=undo)

    def ping(self) -> None:
        if self.away:
            raise BackendUnavailable("the store does not answer")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the application's database."""
    return tmp_path / "shop.db"


@pytest.fixture
def store() -> Store:
    """Return an empty store."""
    return Store()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "SCAN_SECONDS", 0.05)
    monkeypatch.setattr(relay_module, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(relay_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(relay_module, "LONGEST_PAUSE", 0.02)


@pytest.fixture
def relay(path: Path, store: Store) -> Iterator[Relay]:
    """Return a relay of an empty outbox; its thread does not run yet."""
    outbox = Outbox(lambda: sqlite3.connect(path))
    outbox.create()
    outbox.close()
    relay = Relay(store, outbox)
    yield relay
    relay.close()


def write(path: Path, *ids: str) -> Commit:
    """Commit a row as the application does."""
    commit = new_commit([Message("all", each, "{}") for each in ids])
    statement = Outbox(lambda: None).statement(str(commit.commit_id), commit.messages, "sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(*statement)
    return commit


def left(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM alligator_outbox").fetchone()[0])


def test_commit_of_this_process_is_pushed_under_its_own_id(
    path: Path, store: Store, relay: Relay
) -> None:
    commit = write(path, "a", "b")
    relay.add(commit)
    eventually(lambda: not left(path))

    assert store.len("all") == 2
    assert store.attempts == [commit.commit_id]


def test_commits_of_other_processes_are_found(path: Path, store: Store, relay: Relay) -> None:
    for name in "abc":
        write(path, name)
    relay.start()
    eventually(lambda: not left(path))

    assert store.len("all") == 3


def test_store_that_is_away_is_tried_until_it_is_back(
    path: Path, store: Store, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    store.away = True
    commits = [write(path, name) for name in "abc"]
    for commit in commits:
        relay.add(commit)
    eventually(lambda: len(store.attempts) > 12)
    kept = left(path), store.len("all")
    store.away = False
    eventually(lambda: not left(path))

    assert kept == (3, 0)
    assert store.len("all") == 3
    assert {*store.attempts} == {each.commit_id for each in commits}
    errors = [each for each in caplog.records if each.levelname == "ERROR"]
    assert len(errors) == 1


def test_refused_commit_is_set_aside_and_does_not_block_the_others(
    path: Path, store: Store, relay: Relay
) -> None:
    store.refuses = "b"
    for name in "abc":
        write(path, name)
    relay.start()
    eventually(lambda: left(path) == 1)
    eventually(lambda: relay.content.refused)

    assert store.len("all") == 2
    assert relay.content.error == "BackendError: the task is refused"


def test_row_that_cannot_be_read_does_not_block_the_others(
    path: Path, store: Store, relay: Relay
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO alligator_outbox (commit_id, at, data) VALUES ('x', 0, '?')"
        )
    write(path, "a")
    relay.start()
    eventually(lambda: left(path) == 1)

    assert store.len("all") == 1


def test_commit_that_was_pushed_but_not_deleted_is_not_queued_twice(
    path: Path, store: Store, relay: Relay
) -> None:
    commit = write(path, "a")
    store.push_many(commit.messages, commit_id=commit.commit_id, undo=False)
    store.ack(store.reserve("all")[0])  # it has run
    relay.start()
    eventually(lambda: not left(path))

    assert store.len("all") == 0


def test_expected_commit_is_pushed_once_it_is_committed(
    path: Path, store: Store, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "GRACE_SECONDS", 60.0)
    commit = new_commit([Message("all", "a", "{}")])
    statement = relay.outbox.statement(str(commit.commit_id), commit.messages, "sqlite")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(*statement)
        relay.expect(commit)
        eventually(lambda: relay.outbox.is_open)
        during = store.len("all")
        connection.commit()
        eventually(lambda: not left(path))

    assert (during, store.len("all")) == (0, 1)


def test_missing_table_is_known_before_the_first_commit(path: Path, store: Store) -> None:
    relay = Relay(store, Outbox(lambda: sqlite3.connect(path)))
    relay.start()
    eventually(lambda: relay.problem)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE alligator_outbox (id integer PRIMARY KEY, commit_id text, at double, "
            "data text, failures integer DEFAULT 0, not_before double DEFAULT 0, error text)"
        )
    eventually(lambda: relay.problem is None)
    relay.close()


def test_worker_does_not_start_without_the_table(path: Path, store: Store) -> None:
    relay = Relay(store, Outbox(lambda: sqlite3.connect(path)))

    with pytest.raises(ConfigurationError, match="latergator outbox sql"):
        relay.watch()


def test_worker_in_the_process_of_the_commits_relays(
    path: Path, store: Store, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    relay.start()
    eventually(lambda: relay.outbox.is_open)

    relay.watch()
    write(path, "a")
    eventually(lambda: not left(path))

    assert store.len("all") == 1
    assert caplog.messages == []


def test_worker_in_the_process_of_the_commits_needs_the_table(path: Path, store: Store) -> None:
    relay = Relay(store, Outbox(lambda: sqlite3.connect(path)))
    relay.start()
    eventually(lambda: relay.problem)

    with pytest.raises(ConfigurationError, match="latergator outbox sql"):
        relay.watch()
    relay.close()


def test_batch_can_be_relayed_without_a_thread(path: Path, store: Store, relay: Relay) -> None:
    for name in "abc":
        write(path, name)

    assert (relay.run_once(), relay.run_once()) == (3, 0)
    store.away = True
    write(path, "d")
    with pytest.raises(BackendUnavailable):
        relay.run_once()
    assert left(path) == 1
    relay.outbox.close()


def test_commit_that_breaks_the_client_does_not_block_the_others(
    path: Path, store: Store, relay: Relay
) -> None:
    store.breaks = "b"
    for name in "abc":
        write(path, name)
    relay.start()
    eventually(lambda: left(path) == 1)
    eventually(lambda: relay.content.refused)

    assert store.len("all") == 2
    assert relay.content.error == "BackendError: ValueError: no such task"


def test_end_of_a_relay_pushes_the_commits_of_its_process(
    path: Path, store: Store, relay: Relay
) -> None:
    commits = [write(path, str(number)) for number in range(150)]
    for commit in commits:
        relay.add(commit)
    relay.close()

    assert (left(path), store.len("all")) == (0, 150)


PROGRAM = """
import sqlite3, sys
from alligator import Gator
from alligator.commits import relay
relay.GRACE_SECONDS = 0.0
relay.SCAN_SECONDS = 0.01
gator = Gator(sys.argv[1])
gator.relay_from(lambda: sqlite3.connect(sys.argv[2], timeout=30))
gator.relays[0].start()
print("relays", flush=True)
sys.stdin.read()
"""


def test_relays_that_are_killed_lose_and_double_nothing(tmp_path: Path, path: Path) -> None:
    from alligator import Gator

    gator = Gator(f"sqlite://{tmp_path / 'queue.db'}")
    gator.client.ping()
    outbox = Outbox(lambda: sqlite3.connect(path))
    outbox.create()
    outbox.close()
    names = [f"t{number}" for number in range(600)]
    for place in range(0, len(names), 2):
        write(path, *names[place : place + 2])

    def start() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", PROGRAM, gator.conn_string, str(path)]
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, env=environment(), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"relays\n"
        return process

    processes = [start(), start()]
    try:
        for number in range(6):
            victim = processes[number % 2]
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            processes[number % 2] = start()
        eventually(lambda: not left(path), 60)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    taken: list[Any] = []
    while leases := gator.client.reserve("all", limit=100):
        taken += [lease.task_id for lease in leases]
    gator.close()

    assert sorted(taken) == sorted(names)


SCRIPT = """
import sqlite3, sys
from alligator import Gator
from tests.harness.sample_tasks import add
gator = Gator(sys.argv[1])
gator.relay_from(lambda: sqlite3.connect(sys.argv[2]))
with sqlite3.connect(sys.argv[2]) as connection:
    connection.execute("CREATE TABLE orders (name TEXT)")
    connection.execute("INSERT INTO orders VALUES ('a')")
    with gator.transaction(on=connection):
        gator.task(add, 1, 2)
from alligator.commits.outbox import Outbox, new_commit
from alligator.backends.base import Message
commit = new_commit([Message("all", "b", "{}")])
with connection:
    connection.execute(*gator.relays[0].outbox.statement(commit.commit_id, commit.messages, "sqlite"))
gator.relays[0].add(commit)
"""


def test_program_that_ends_pushes_its_last_commits(tmp_path: Path, path: Path) -> None:
    from alligator import Gator

    with Gator(f"sqlite://{tmp_path / 'queue.db'}") as gator:
        gator.client.ping()
        outbox = Outbox(lambda: sqlite3.connect(path))
        outbox.create()
        outbox.close()

        subprocess.run(
            [sys.executable, "-c", SCRIPT, gator.conn_string, str(path)],
            env=environment(),
            cwd=ROOT,
            check=True,
        )

        assert gator.client.cancel("all", "b") == ("{}", False)
