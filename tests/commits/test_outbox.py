"""The outbox keeps commits until a relay has pushed them."""

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest

from alligator.backends.base import Message
from alligator.backends.sqlite_backend import forks
from alligator.backends.unique import Unique
from alligator.commits.outbox import Content, Outbox, new_commit
from alligator.exceptions import ConfigurationError

MESSAGES = [Message("all", "a", '{"x": "\\u0000 é"}', 0.0), Message("mail", "b", "{}", 60.0)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the application's database."""
    return tmp_path / "shop.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    """Return an outbox whose table exists."""
    outbox = Outbox(lambda: sqlite3.connect(path))
    outbox.create()
    yield outbox
    outbox.close()


def write(path: Path, outbox: Outbox, *, age: float = 0.0) -> str:
    """Commit a row as the application does; return the id of the commit."""
    commit = new_commit(MESSAGES)
    sql, parameters = outbox.statement(str(commit.commit_id), commit.messages, "sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql, parameters)
        connection.execute("UPDATE alligator_outbox SET at = at - ?", (age,))
    return str(commit.commit_id)


def test_claimed_commit_is_what_was_written(path: Path, outbox: Outbox) -> None:
    commit_id = write(path, outbox)

    with outbox.claimed(10, 0.0) as [row]:
        assert row.commit.commit_id == commit_id
        assert [message[:3] for message in row.commit.messages] == [each[:3] for each in MESSAGES]


def test_commit_keeps_unique_keys_and_is_otherwise_as_before(path: Path, outbox: Outbox) -> None:
    keyed = Message("all", "c", "{}", 0.0, 1, Unique("k", until_start=False, seconds=7.0))
    last = Message("all", "f", "{}", 0.0, 0, None, True)
    limited = Message("all", "l", "{}", limit_key="t")
    _, [commit_id, data] = outbox.statement("c1", [*MESSAGES, keyed, last, limited], "sqlite")
    assert [len(row) for row in json.loads(data)] == [4, 4, 6, 7, 8]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO alligator_outbox (commit_id, at, data) VALUES (?, 0, ?)", (commit_id, data)
        )

    with outbox.claimed(10, 0.0) as [row]:
        plain = (0, None, False, None)
        found = [message[4:] for message in row.commit.messages]
        assert found == [plain, plain, keyed[4:], last[4:], limited[4:]]


def test_commit_of_the_outbox_is_never_undone(path: Path, outbox: Outbox) -> None:
    write(path, outbox)

    with outbox.claimed(10, 0.0) as [row]:
        assert row.commit.undo is False


def test_delay_counts_from_the_commit(path: Path, outbox: Outbox) -> None:
    write(path, outbox, age=45.0)

    with outbox.claimed(10, 0.0) as [row]:
        assert row.commit.messages[0].delay == 0.0
        assert 0.0 < row.commit.messages[1].delay <= 15.0


def test_row_keeps_priorities_and_is_as_before_without(path: Path, outbox: Outbox) -> None:
    commit = new_commit([Message("all", "a", "{}", 0.0, 1), *MESSAGES])
    sql, parameters = outbox.statement(str(commit.commit_id), commit.messages, "sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql, parameters)

    with outbox.claimed(10, 0.0) as [row]:
        assert [message.priority for message in row.commit.messages] == [1, 0, 0]
    assert [len(fields) for fields in json.loads(parameters[1])] == [5, 4, 4]


def test_young_commit_is_left_to_the_process_that_wrote_it(path: Path, outbox: Outbox) -> None:
    write(path, outbox)

    with outbox.claimed(10, 5.0) as rows:
        assert rows == []


def test_claimed_rows_are_not_given_to_another_relay(path: Path, outbox: Outbox) -> None:
    write(path, outbox)
    other = Outbox(lambda: sqlite3.connect(path))

    with outbox.claimed(10, 0.0) as mine, other.claimed(10, 0.0) as others:
        assert (len(mine), len(others)) == (1, 0)
    other.close()


def test_claim_of_a_killed_relay_ends(
    path: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.commits.outbox.CLAIM_SECONDS", -10.0)
    write(path, outbox)
    killed = Outbox(lambda: sqlite3.connect(path))
    with killed.claimed(10, 0.0) as rows:
        assert len(rows) == 1

    with outbox.claimed(10, 0.0) as rows:
        assert len(rows) == 1
    killed.close()


def test_removed_rows_are_gone(path: Path, outbox: Outbox) -> None:
    first, second = write(path, outbox), write(path, outbox)
    outbox.remove_commits([first])
    with outbox.claimed(10, 0.0) as [row]:
        assert row.commit.commit_id == second
        outbox.remove([row.id])

    assert outbox.content() == Content()


def test_commit_that_was_set_aside_is_shown_and_comes_later(path: Path, outbox: Outbox) -> None:
    commit_id = write(path, outbox, age=7.0)
    with outbox.claimed(10, 0.0) as [row]:
        outbox.set_aside(row, 60.0, "BackendError: too large")

    content = outbox.content()
    with outbox.claimed(10, 0.0) as rows:
        assert rows == []
    assert (content.commits, content.refused, content.error) == (1, 1, "BackendError: too large")
    assert 7.0 <= content.age < 60.0
    assert outbox.refused(10) == [(commit_id, 1, "BackendError: too large")]


def test_row_that_cannot_be_read_has_no_messages(path: Path, outbox: Outbox) -> None:
    for data in ("", "7", "[[1]]", json.dumps([["all", "a", "{}", "soon"]])):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "INSERT INTO alligator_outbox (commit_id, at, data) VALUES (?, 0, ?)",
                (new_commit([]).commit_id, data),
            )

    with outbox.claimed(10, 0.0) as rows:
        assert [list(row.commit.messages) for row in rows] == [[], [], [], []]


def test_error_in_the_block_leaves_the_rows(path: Path, outbox: Outbox) -> None:
    write(path, outbox)
    with pytest.raises(ZeroDivisionError), outbox.claimed(10, 0.0) as [row]:
        outbox.remove([row.id])
        raise ZeroDivisionError

    assert outbox.content().commits == 1


def test_committed_rows_are_visible(path: Path, outbox: Outbox) -> None:
    commit_id = write(path, outbox)

    assert outbox.visible([commit_id, "another"]) == {commit_id}


def test_missing_table_is_reported_with_the_way_out(path: Path) -> None:
    outbox = Outbox(lambda: sqlite3.connect(path))

    with pytest.raises(ConfigurationError, match="latergator outbox sql --dialect sqlite"):
        outbox.check()
    outbox.create()
    outbox.check()
    outbox.close()


def test_table_of_another_shape_is_reported(path: Path) -> None:
    outbox = Outbox(lambda: sqlite3.connect(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alligator_outbox (id integer, data text)")

    with pytest.raises(ConfigurationError, match="no usable table"):
        outbox.check()
    outbox.close()


def test_other_errors_of_the_database_are_not_about_the_table(tmp_path: Path) -> None:
    outbox = Outbox(lambda: sqlite3.connect(tmp_path / "missing" / "shop.db"))

    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        outbox.check()


def test_fork_does_not_wait_for_a_relay_that_opens_its_file_again(outbox: Outbox) -> None:
    outbox.content()
    outbox.close()
    relay = Thread(target=outbox.content)

    with forks._registry_lock:  # as a fork has it that waits for the outbox
        relay.start()
        relay.join(10)
        assert not relay.is_alive()


def test_fork_beside_a_relay_leaves_the_child_a_usable_file(path: Path, outbox: Outbox) -> None:
    """A child that inherits a lock inside of SQLite waits for ever, or finds its file locked."""
    outbox.close()
    is_over = Event()

    def relay() -> None:
        while not is_over.is_set():
            with outbox.claimed(10, 0.0) as rows:
                outbox.remove([row.id for row in rows])
            outbox.content()
            outbox.close()

    thread = Thread(target=relay)
    thread.start()
    try:
        for _ in range(100):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                try:
                    write(path, outbox)
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        is_over.set()
        thread.join()
