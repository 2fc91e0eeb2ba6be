"""The stores that the faults meet, and what is in them by their own account, not by Alligator's."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from tests.servers import Server, valkey_server

KINDS = ("sqlite", "redis", "redis-always", "redis-none")
"""SQLite, and Valkey whose append-only file goes to the disk each second, each time, or never."""


class Store(ABC):
    """A store with one queue, ``all``."""

    dsn: str

    @abstractmethod
    def census(self) -> dict[str, str]:
        """Tell of each task in the store its state."""

    @abstractmethod
    def damage(self) -> list[str]:
        """Say what in the store contradicts itself."""


class SQLite(Store):
    """A file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "queue.db"
        self.dsn = f"sqlite://{self.path}"

    def connect(self) -> sqlite3.Connection:
        """Open the file past Alligator."""
        return sqlite3.connect(self.path, timeout=10, isolation_level=None)

    def census(self) -> dict[str, str]:
        with closing(self.connect()) as connection:
            return dict(connection.execute("SELECT id, state FROM task").fetchall())

    def damage(self) -> list[str]:
        with closing(self.connect()) as connection:
            found = [text for (text,) in connection.execute("PRAGMA integrity_check").fetchall()]
        return [text for text in found if text != "ok"]


class Valkey(Store):
    """A server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.dsn = server.dsn

    def connect(self) -> Any:
        """Reach the server past Alligator; what redis-py's types are depends on too much to say."""
        return Redis.from_url(self.server.dsn, decode_responses=True)

    def census(self) -> dict[str, str]:
        with closing(self.connect()) as redis:
            seconds, micros = redis.time()
            now = seconds * 1_000_000 + micros
            found = {}
            for key, state in {"run": "leased", "dead": "dead"}.items():
                found.update(dict.fromkeys(redis.zrange(f"{{alligator}}:all:{key}", 0, -1), state))
            due = redis.zrange("{alligator}:all:due", 0, -1, withscores=True)
            found.update({name: "ready" if at <= now else "scheduled" for name, at in due})
            return found

    def damage(self) -> list[str]:
        with closing(self.connect()) as redis:
            sets = [
                redis.zrange(f"{{alligator}}:all:{key}", 0, -1) for key in ("due", "run", "dead")
            ]
            ids = [name for some in sets for name in some]
            payloads = redis.hkeys("{alligator}:all:job")
        found = [
            f"{name} is in two states" for name in {name for name in ids if ids.count(name) > 1}
        ]
        return found + [f"{name} has no payload or no state" for name in {*ids} ^ {*payloads}]


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Store]:
    """Run a new and empty store during the block."""
    if kind == "sqlite":
        yield SQLite(folder)
        return
    sync = {"redis": "everysec", "redis-always": "always"}.get(kind)
    config = {"appendonly": "yes", "appendfsync": sync} if sync else {"appendonly": "no"}
    with valkey_server(**config) as server:
        yield Valkey(server)
