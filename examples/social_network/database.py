"""Store people, followers and posts in a SQLite file."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DATA = Path(os.environ.get("DATA", "data"))
"""The folder of the example's files."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS people (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, email TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS follows (
    follower INTEGER NOT NULL REFERENCES people, followed INTEGER NOT NULL REFERENCES people,
    PRIMARY KEY (follower, followed));
CREATE TABLE IF NOT EXISTS posts (
    id INTEGER PRIMARY KEY, author INTEGER NOT NULL REFERENCES people, message TEXT NOT NULL,
    form_key TEXT NOT NULL UNIQUE);
"""


@contextmanager
def connect() -> Iterator[sqlite3.Connection]:
    """Open the database; changes are committed if the block succeeds."""
    DATA.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(DATA / "social_network.db")
    connection.row_factory = sqlite3.Row
    try:
        connection.executescript(SCHEMA)
        with connection:
            yield connection
    finally:
        connection.close()


def find_person(db: sqlite3.Connection, name: str) -> int | None:
    """Return the id of the person of that name."""
    row = db.execute("SELECT id FROM people WHERE name = ?", [name]).fetchone()
    return row["id"] if row else None


def add_post(db: sqlite3.Connection, author: int, message: str, form_key: str) -> int:
    """Add a post and return its id; the same form sent twice is one post."""
    db.execute(
        "INSERT OR IGNORE INTO posts (author, message, form_key) VALUES (?, ?, ?)",
        [author, message, form_key],
    )
    row = db.execute("SELECT id FROM posts WHERE form_key = ?", [form_key]).fetchone()
    return int(row["id"])


def followers(db: sqlite3.Connection, person: int) -> list[int]:
    """Return the ids of the followers of *person*."""
    rows = db.execute("SELECT follower FROM follows WHERE followed = ?", [person])
    return [row["follower"] for row in rows]
