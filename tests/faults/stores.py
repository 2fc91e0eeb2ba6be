"""The stores that the faults meet, and what is in them by their own account, not by Alligator's."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import boto3  # type: ignore[import-untyped]
from redis import Redis
from redis.crc import key_slot

from tests.servers import Server, Watched, sqs_server, valkey_server
from tests.topologies import Nodes, ask, cluster, watched_by_sentinels

APPEND_ONLY = {
    "redis": {"appendonly": "yes", "appendfsync": "everysec"},
    "redis-always": {"appendonly": "yes", "appendfsync": "always"},
    "redis-none": {"appendonly": "no"},
}
"""Valkey whose append-only file goes to the disk each second, each time, or never."""


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


class Sentinels(Valkey):
    """A master, the replica that is to take its place, and three Sentinels that see to that."""

    def __init__(self, watched: Watched) -> None:
        super().__init__(watched.master)
        self.dsn = watched.dsn
        self._sentinel = watched.sentinels[0]

    def connect(self) -> Any:
        question = "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"
        _, port = cast("list[str]", ask(self._sentinel, *question))
        return Redis(port=int(port), decode_responses=True)


class Cluster(Valkey):
    """A cluster of three masters; one of them has the slot of all of our keys."""

    slot = key_slot(b"{alligator}")

    def __init__(self, nodes: Nodes) -> None:
        super().__init__(nodes.servers[0])
        self.dsn = nodes.dsn
        self.nodes = nodes

    def connect(self) -> Any:
        owner = self.nodes.servers[self.nodes.owner(self.slot)]
        return Redis(port=owner.port, decode_responses=True)


class SQS(Store):
    """A stand-in for SQS, which tells how many tasks it has and not which."""

    STATES = {
        "ApproximateNumberOfMessages": "ready",
        "ApproximateNumberOfMessagesDelayed": "scheduled",
        "ApproximateNumberOfMessagesNotVisible": "leased",
    }

    def __init__(self, dsn: str) -> None:
        self.server = dsn
        self.dsn = f"{dsn}?poll=0"
        self._sqs = boto3.client("sqs", endpoint_url=dsn.removeprefix("sqs+").rstrip("/"))

    def census(self) -> dict[str, str]:
        found = {}
        for url in self._sqs.list_queues().get("QueueUrls", ()):
            reply = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            for name, state in self.STATES.items():
                for number in range(int(reply["Attributes"][name])):
                    found[f"{url} {state} {number}"] = state
        return found

    def damage(self) -> list[str]:
        return []


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
}


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Store]:
    """Run a new and empty store during the block."""
    if kind == "sqlite":
        yield SQLite(folder)
    elif kind == "sqs":
        with patch.dict("os.environ", CREDENTIALS), sqs_server() as dsn:
            yield SQS(dsn)
    elif kind == "redis-sentinel":
        with watched_by_sentinels(valkey_server) as watched:
            yield Sentinels(watched)
    elif kind == "redis-cluster":
        with cluster(valkey_server) as nodes:
            yield Cluster(nodes)
    else:
        with valkey_server(**APPEND_ONLY[kind]) as server:
            yield Valkey(server)
