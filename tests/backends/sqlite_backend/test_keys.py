"""The unique keys in a SQLite file."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from alligator.backends.base import Message
from alligator.backends.sqlite_backend import Client, clock, schema
from alligator.backends.sqlite_backend.database import APPLICATION_ID
from alligator.backends.sqlite_backend.migration import migrate
from alligator.backends.unique import Unique
from tests.harness.sqlite_files import query

HOUR = 3600.0


def keyed(task_id: str, key: str = "k", seconds: float = 0.0) -> Message:
    return Message("all", task_id, "{}", 0.0, 0, Unique(key, seconds=seconds))


def test_file_of_the_version_before_gets_keys(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, str(path), schema.VERSIONS[:7], APPLICATION_ID)
        connection.execute(
            "INSERT INTO task (queue, id, state, at, due, data) "
            "VALUES ('all', 'old', 'ready', 1, 1, '{}')"
        )
        connection.execute(
            "INSERT INTO pushed (id, at, after, last, duplicates) VALUES ('c1', ?, 0, 1, '1 2')",
            (clock.now(),),
        )

    with closing(Client(f"sqlite://{path}")) as client:
        assert client.push_many([keyed("a"), keyed("old", "old")]) == [1]
        assert client.push_many([keyed("b")]) == [0]
        assert client.push_many([keyed("any")], commit_id="c1") == [1, 2]
        leases = client.step(["all"], 5).leases
        for lease in leases:
            client.ack(lease)
        assert [lease.task_id for lease in leases] == ["old", "a"]


def test_keys_that_are_free_leave_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "queue.db"
    with closing(Client(f"sqlite://{path}")) as client:
        client.push_many([keyed(str(number), str(number), HOUR) for number in range(8)])
        for lease in client.step(["all"], 8).leases:
            client.ack(lease)
        assert query(path, "SELECT count(*) FROM held_key") == [(8,)]

        later = clock.now() + 2 * int(HOUR * clock.SECOND)
        monkeypatch.setattr("alligator.backends.sqlite_backend.writes.now", lambda: later)
        client.push_many([keyed("next", "next", HOUR)])

        assert query(path, "SELECT count(*) FROM held_key") == [(0,)]


def test_time_of_a_key_moves_with_a_clock_that_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, moment = tmp_path / "queue.db", clock.now()
    with closing(Client(f"sqlite://{path}")) as client:
        monkeypatch.setattr("alligator.backends.sqlite_backend.writes.now", lambda: moment)
        client.push_many([keyed("a", "a", HOUR), keyed("b", "b", HOUR)])
        [first, _] = client.step(["all"], 2).leases
        client.ack(first)

        earlier = moment - int(24 * HOUR * clock.SECOND)
        monkeypatch.setattr("alligator.backends.sqlite_backend.writes.now", lambda: earlier)
        assert client.push_many([keyed("c", "a"), keyed("d", "b")]) == [0, 1]
        later = earlier + int(1.5 * HOUR * clock.SECOND)
        monkeypatch.setattr("alligator.backends.sqlite_backend.writes.now", lambda: later)
        assert client.push_many([keyed("c", "a"), keyed("d", "b")]) is None
