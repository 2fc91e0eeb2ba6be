"""The stores of the fault tests, and their content, read without Alligator."""

import sqlite3
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import boto3  # type: ignore[import-untyped]
import psycopg
from redis import Redis, RedisError
from redis.crc import key_slot

from tests.harness.postgres_servers import PostgresServer, postgres_server
from tests.harness.redis_topologies import (
    Nodes,
    cluster,
    know_each_other,
    master_of,
    watched_by_sentinels,
)
from tests.harness.store_servers import Server, Watched, redis_6_server, sqs_server, valkey_server

APPEND_ONLY = {
    "redis": {"appendonly": "yes", "appendfsync": "everysec"},
    "redis-always": {"appendonly": "yes", "appendfsync": "always"},
    "redis-none": {"appendonly": "no"},
}
"""The values of ``appendfsync``, and no AOF."""

ALWAYS = APPEND_ONLY["redis-always"]

ERRORS = (sqlite3.Error, psycopg.Error, RedisError)
"""What a store raises that is down, if it is read without Alligator."""


class Store(ABC):
    """A store with one queue, ``all``."""

    dsn: str

    @property
    def master(self) -> Server | None:
        """The server that has the queue at the moment, if there are servers."""
        return None

    @abstractmethod
    def census(self) -> dict[str, str]:
        """Return the state of each task in the store."""

    def leased(self) -> list[str]:
        """Return the ids of the leased tasks."""
        return [name for name, state in self.census().items() if state == "leased"]

    @abstractmethod
    def damage(self) -> list[str]:
        """Return descriptions of inconsistencies in the store."""


class SQLite(Store):
    """A file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "queue.db"
        self.dsn = f"sqlite://{self.path}"

    def connect(self) -> sqlite3.Connection:
        """Open the file without Alligator."""
        return sqlite3.connect(self.path, timeout=10, isolation_level=None)

    def census(self) -> dict[str, str]:
        with closing(self.connect()) as connection:
            return dict(connection.execute("SELECT id, state FROM task").fetchall())

    def leased(self) -> list[str]:
        with closing(self.connect()) as connection:
            rows = connection.execute("SELECT id FROM task WHERE state = 'leased'").fetchall()
        return [name for (name,) in rows]

    def damage(self) -> list[str]:
        with closing(self.connect()) as connection:
            found = [text for (text,) in connection.execute("PRAGMA integrity_check").fetchall()]
        return [text for text in found if text != "ok"]


class Valkey(Store):
    """A server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.dsn = server.dsn

    @property
    def master(self) -> Server:
        return self.server

    def connect(self) -> Any:
        """Connect to the server without Alligator; the types of redis-py are too complex to name."""
        return Redis.from_url(self.master.dsn, decode_responses=True)

    def is_whole(self) -> bool:
        """Return whether all servers are up, and each replica follows its master."""
        return True

    def census(self) -> dict[str, str]:
        (seconds, micros), due, lined, leased, dead = self._read(
            "time", "due", "lined", "run", "dead"
        )
        now = seconds * 1_000_000 + micros
        found = {name: "ready" if at <= now else "scheduled" for name, at in (*due, *lined)}
        found.update({name: "leased" for name, _ in leased})
        found.update({name: "dead" for name, _ in dead})
        return found

    def leased(self) -> list[str]:
        (leased,) = self._read("run")
        return [name for name, _ in leased]

    def damage(self) -> list[str]:
        *states, payloads = self._read("due", "lined", "run", "dead", "job")
        ids = [name for some in states for name, _ in some]
        found = [f"{name} is in two states" for name, times in Counter(ids).items() if times > 1]
        return found + [f"{name} has no payload or no state" for name in {*ids} ^ {*payloads}]

    def _read(self, *names: str) -> list[Any]:
        """Return the server's clock, the queue's sorted sets and the ids of its payloads, atomically.

        Read one after the other, a task that moves meanwhile would be missed in both places.
        """
        with closing(self.connect()) as redis, redis.pipeline(transaction=True) as pipeline:
            for name in names:
                if name == "time":
                    pipeline.time()
                elif name == "job":
                    pipeline.hkeys("{alligator}:all:job")
                else:
                    pipeline.zrange(f"{{alligator}}:all:{name}", 0, -1, withscores=True)
            return cast("list[Any]", pipeline.execute())


class Sentinels(Valkey):
    """A master, its replica, and three Sentinels."""

    def __init__(self, watched: Watched) -> None:
        super().__init__(watched.master)
        self.dsn = watched.dsn
        self._watched = watched

    @property
    def master(self) -> Server:
        return master_of(self._watched)

    def is_whole(self) -> bool:
        return know_each_other(self._watched)


class Cluster(Valkey):
    """A cluster of three masters, with or without replicas; one has the slot of all keys."""

    slot = key_slot(b"{alligator}")

    def __init__(self, nodes: Nodes) -> None:
        super().__init__(nodes.servers[0])
        self.dsn = nodes.dsn
        self.nodes = nodes

    @property
    def master(self) -> Server:
        return self.nodes.servers[self.nodes.owner(self.slot)]

    def is_whole(self) -> bool:
        replicas = len(self.nodes.servers) - self.nodes.masters
        return self.nodes.is_whole() and replicas == sum(
            map(self.nodes.is_synced, self.nodes.servers)
        )


class SQS(Store):
    """SQS (moto), which reports the number of its tasks but not their ids."""

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


class Postgres(Store):
    """A PostgreSQL that syncs to its disk."""

    STATES = {"l": "leased", "d": "dead"}

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.dsn = server.dsn

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Execute SQL without Alligator."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def census(self) -> dict[str, str]:
        rows = self.query("SELECT id, state::text, due <= clock_timestamp() FROM alligator.task")
        return {
            task_id: self.STATES.get(state) or ("ready" if is_due else "scheduled")
            for task_id, state, is_due in rows
        }

    def leased(self) -> list[str]:
        return [name for (name,) in self.query("SELECT id FROM alligator.task WHERE state = 'l'")]

    def damage(self) -> list[str]:
        # One statement, so that both are of one moment.
        found = self.query(
            """
            SELECT (SELECT sum(waiting) FROM alligator.tally), (SELECT sum(leased) FROM alligator.tally),
                (SELECT sum(dead) FROM alligator.tally),
                count(*) FILTER (WHERE state = 'w'), count(*) FILTER (WHERE state = 'l'),
                count(*) FILTER (WHERE state = 'd') FROM alligator.task
            """
        )[0]
        counted, there = [int(number or 0) for number in found[:3]], list(found[3:])
        return [] if counted == there else [f"the tally says {counted}, the tables hold {there}"]


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
}


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Store]:
    """Run a new, empty store during the block."""
    if kind == "sqlite":
        yield SQLite(folder)
    elif kind == "sqs":
        with patch.dict("os.environ", CREDENTIALS), sqs_server() as dsn:
            yield SQS(dsn)
    elif kind == "postgres":
        with postgres_server(fsync="on", full_page_writes="on") as server:
            yield Postgres(server)
    elif kind == "redis-sentinel":
        # Replicas keep what there is; a disk that is slow for a second is no reason for a failover.
        with watched_by_sentinels(valkey_server) as watched:
            yield Sentinels(watched)
    elif kind == "redis-cluster":
        with cluster(partial(valkey_server, **ALWAYS)) as nodes:
            yield Cluster(nodes)
    elif kind == "redis-replicas":
        with cluster(valkey_server, replicas=3) as nodes:
            yield Cluster(nodes)
    elif kind == "redis-6":
        with redis_6_server(**ALWAYS) as server:
            yield Valkey(server)
    else:
        with valkey_server(**APPEND_ONLY[kind]) as server:
            yield Valkey(server)
