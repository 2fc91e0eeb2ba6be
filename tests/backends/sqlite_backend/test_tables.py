"""Files of older versions of the tables, after their migration."""

import sqlite3
from contextlib import closing
from pathlib import Path
from time import time as now

from alligator.backends.base import Message
from alligator.backends.sqlite_backend import Client, tables
from alligator.backends.sqlite_backend.database import APPLICATION_ID


def test_file_of_version_1_counts_failures_after_migration(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in tables.VERSION_1:
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


def test_file_of_version_2_keeps_its_tasks(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in (*tables.VERSION_1, *tables.VERSION_2):
            connection.execute(statement)
        connection.executemany(
            "INSERT INTO task (queue, id, state, at, due, token, lost, data) VALUES "
            "('all', ?, ?, ?, 1, ?, ?, ?)",
            [
                ("a", "ready", 1, 0, 0, "never leased"),
                ("b", "leased", 2, 7, 0, "its worker has died"),
                ("c", "dead", 3, 8, 5, "dead"),
                ("d", "ready", 4, 9, 1, "lost before"),
            ],
        )
        connection.execute(
            "INSERT INTO queue VALUES ('all', 2, 0, 1, 1, 4, 0, 0, 6, 0, 0, 0, 1)",
        )
        connection.execute("INSERT INTO pushed VALUES ('commit', 9e15, 0, 4)")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 2")
        connection.commit()

    with closing(Client(f"sqlite://{path}")) as client:
        assert client.push_many([Message("all", "a", "again")], commit_id="commit") is None
        assert client.push_many([Message("all", "c", "new"), Message("all", "a", "dup")]) == [1]
        found = [client.step(["all"], 9).leases for _ in range(4)]
        client.abort("commit", [])
        stats = client.stats("all")
        (letter,) = client.dead_letters("all")

    # A suspect is what was lost before, and what is lost now.
    assert [[(lease.task_id, lease.lost) for lease in some] for some in found] == [
        [("a", 0)],
        [("d", 1)],
        [("c", 0)],
        [("b", 0)],
    ]
    assert (stats.leased, stats.dead, stats.lost) == (4, 1, 7)
    assert (letter.task_id, letter.data) == ("c", "dead")


def test_sample_of_an_older_file_has_no_dropped_count(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in (*tables.VERSION_1, *tables.VERSION_2):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO sample VALUES ('all', 0, ?, 1, 0, 0, 0, 1, 0, 0)", (int(now() * 1e6),)
        )
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 2")
        connection.commit()

    with closing(Client(f"sqlite://{path}")) as client:
        (sample,) = client.history("all")

    assert (sample.ready, sample.pushed, sample.dropped) == (1, 1, None)
