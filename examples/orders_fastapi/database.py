"""Keep the stock and the orders, in one SQLite file."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

DATA = Path(os.environ.get("DATA", "data"))
"""Where the example keeps its files."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, pieces INTEGER CHECK (pieces >= 0));
CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, item TEXT, pieces INTEGER, email TEXT);
INSERT OR IGNORE INTO stock VALUES ('apples', 10), ('pears', 3);
"""


def open_database() -> sqlite3.Connection:
    """Open the database; a view may run in another thread than what opens it for the view."""
    DATA.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(DATA / "orders.db", check_same_thread=False)
    connection.executescript(SCHEMA)
    return connection


def database() -> Iterator[sqlite3.Connection]:
    """Give a view the database: what it changed is kept if it ends well."""
    connection = open_database()
    try:
        with connection:
            yield connection
    finally:
        connection.close()
