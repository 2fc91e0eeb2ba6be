"""latergator outbox creates, shows and relays the outbox in the application's database."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from alligator import Gator
from tests.harness.programs import run

APP = """
import sqlite3
from alligator import Gator

gator = Gator("sqlite://queue.db")
gator.relay_from(lambda: sqlite3.connect("shop.db"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a program whose database has an outbox."""
    (tmp_path / "shop_queue.py").write_text(APP)
    printed = run("outbox", "sql", "--dialect", "sqlite").stdout
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.executescript(printed)
    return tmp_path


def write(folder: Path, commit_id: str, data: object) -> None:
    with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
        connection.execute(
            "INSERT INTO alligator_outbox (commit_id, at, data) VALUES (?, 0, ?)",
            (commit_id, json.dumps(data)),
        )


def test_sql_prints_the_table_of_each_dialect() -> None:
    for dialect in ("postgresql", "mysql", "mariadb", "sqlite"):
        printed = run("outbox", "sql", "--dialect", dialect, "--table", "shared.outbox")

        assert printed.stdout.startswith("CREATE TABLE shared.outbox ("), printed.stderr
        assert printed.returncode == 0


def test_status_shows_what_waits(folder: Path) -> None:
    write(folder, "c1", [["all", "t1", "{}", 0]])

    shown = run("outbox", "status", "--app", "shop_queue:gator", cwd=folder)
    as_json = run("outbox", "status", "--app", "shop_queue:gator", "--json", cwd=folder)

    assert shown.stdout.startswith("alligator_outbox: 1 commits, the oldest "), shown.stderr
    [found] = json.loads(as_json.stdout)
    assert (found["commits"], found["refused"], found["refused_commits"]) == (1, 0, [])


def test_relay_pushes_and_sets_aside(folder: Path) -> None:
    write(folder, "c1", [["all", "t1", "{}", 0], ["all", "t2", "{}", 0]])
    write(folder, "c2", "no tasks")

    relayed = run("outbox", "relay", "--app", "shop_queue:gator", cwd=folder)
    shown = run("outbox", "status", "--app", "shop_queue:gator", cwd=folder)

    assert relayed.stdout == "2 commits relayed\n", relayed.stderr
    assert "; 1 refused\n  c2: refused 1 times: " in shown.stdout
    with Gator(f"sqlite://{folder / 'queue.db'}") as gator:
        assert gator.len() == 2


def test_gator_without_an_outbox_is_a_wrong_command(folder: Path) -> None:
    done = run("outbox", "status", "sqlite://queue.db", cwd=folder)

    assert (done.returncode, done.stdout) == (2, "")
    assert "This Gator has no outbox" in done.stderr


def test_missing_table_is_one_line_that_says_how_to_create_it(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.execute("DROP TABLE alligator_outbox")

    done = run("outbox", "status", "--app", "shop_queue:gator", cwd=folder)

    assert done.returncode == 2
    assert "latergator outbox sql --dialect sqlite" in done.stderr
    assert done.stderr.count("\n") == 1


def test_worker_does_not_start_without_the_table(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.execute("DROP TABLE alligator_outbox")

    done = run("--app", "shop_queue:gator", "--burst", cwd=folder)

    assert done.returncode == 2
    assert "latergator outbox sql --dialect sqlite" in done.stderr


def test_worker_relays_what_a_killed_process_has_left(folder: Path) -> None:
    write(folder, "c1", [["all", "t1", "{}", 0]])

    done = run("--app", "shop_queue:gator", "--max-tasks", "1", cwd=folder)

    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        assert connection.execute("SELECT count(*) FROM alligator_outbox").fetchone() == (0,)
