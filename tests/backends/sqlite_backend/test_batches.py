"""The batches in a SQLite file."""

import sqlite3
from contextlib import closing
from pathlib import Path

from alligator.backends.base import Message
from alligator.backends.sqlite_backend import Client, clock, schema
from alligator.backends.sqlite_backend.database import APPLICATION_ID
from alligator.backends.sqlite_backend.migration import migrate
from alligator.backends.sqlite_backend.tables import VERSION_10
from tests.harness.sqlite_files import query

BATCH = [Message("all", "a", "{}"), Message("all", "f", "{}", 0.0, 0, None, True)]


def test_file_of_the_version_before_gets_batches(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        before = schema.VERSIONS[: schema.VERSIONS.index(VERSION_10)]
        migrate(connection, str(path), before, APPLICATION_ID)
        connection.execute(
            "INSERT INTO task (queue, id, state, at, due, data) "
            "VALUES ('all', 'old', 'ready', 1, 1, '{}')"
        )
        connection.execute(
            "INSERT INTO pushed (id, at, after, last) VALUES ('c1', ?, 0, 1)", (clock.now(),)
        )

    with closing(Client(f"sqlite://{path}")) as client:
        client.push_many(BATCH)
        for lease in client.step(["all"], 5).leases:
            client.ack(lease)
        [follow_up] = client.step(["all"], 5).leases
        assert follow_up.data == "batch:1,0 {}"
        assert client.push_many(BATCH, commit_id="c1") is None
        client.abort("c1", BATCH)
        assert not client.step(["all"], 5).leases


def test_batches_leave_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with closing(Client(f"sqlite://{path}")) as client:
        client.push_many(BATCH, commit_id="c1")
        client.abort("c1", BATCH)
        client.push_many(BATCH)
        client.ack(client.step(["all"], 1).leases[0])
        client.push_many(BATCH)
        client.cancel("all", "a")

    assert query(path, "SELECT (SELECT count(*) FROM batch), (SELECT count(*) FROM follow_up)") == [
        (0, 0)
    ]
