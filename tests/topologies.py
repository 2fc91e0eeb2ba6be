"""Redis as several servers that know each other: a master with Sentinels, or nodes of a cluster."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from tests.programs import eventually
from tests.servers import Run, Server, Watched, clustered, replicated

SLOTS = 16384


def ask(server: Server, *words: object) -> object:
    """Send one command to one server."""
    with Redis(port=server.port, decode_responses=True, socket_timeout=5) as redis:
        return redis.execute_command(*words)


def migrate(here: Server, there: Server, *keys: str) -> None:
    """Move keys from one server to another."""
    ask(here, "MIGRATE", "127.0.0.1", there.port, "", 0, 5000, "KEYS", *keys)


def facts_of(server: Server, *question: str) -> str:
    """Ask for facts, as ``name:value``."""
    return str(ask(server, *question)).replace("'", "").replace(" ", "")


# Sentinels.


@contextmanager
def watched_by_sentinels(run: Run) -> Iterator[Watched]:
    """Run a master with a replica, and three Sentinels that know of it and of each other."""
    with replicated(run) as watched:
        eventually(lambda: know_each_other(watched), 20)
        yield watched


def know_each_other(watched: Watched) -> bool:
    for one in watched.sentinels:
        with Redis(port=one.port, decode_responses=True) as redis:
            facts = cast("dict[str, dict[str, int]]", redis.sentinel_masters())["main"]
        if (facts["num-slaves"], facts["num-other-sentinels"]) != (1, 2):
            return False
    return "state:online" in facts_of(watched.master, "INFO", "replication")


# Clusters.


@dataclass
class Nodes:
    """A cluster, and who has which slot."""

    servers: list[Server]
    masters: int = 3
    ids: list[str] = field(default_factory=list)

    def join(self) -> None:
        """Make one cluster of the nodes; those beyond the masters are replicas of the first."""
        first, *others = self.servers
        for other in others:
            ask(first, "CLUSTER", "MEET", "127.0.0.1", other.port)
        for n, server in enumerate(self.servers[: self.masters]):
            start, end = SLOTS * n // self.masters, SLOTS * (n + 1) // self.masters - 1
            ask(server, "CLUSTER", "ADDSLOTSRANGE", start, end)
        self.ids = [str(ask(server, "CLUSTER", "MYID")) for server in self.servers]
        eventually(lambda: all(map(self._is_well, self.servers)), 20)
        for replica in self.servers[self.masters :]:
            ask(replica, "CLUSTER", "REPLICATE", self.ids[0])
        for replica in self.servers[self.masters :]:
            eventually(partial(self._is_synced, replica), 20)

    def _is_well(self, server: Server) -> bool:
        facts = facts_of(server, "CLUSTER", "INFO")
        return "state:ok" in facts and f"known_nodes:{len(self.servers)}" in facts

    def _is_synced(self, replica: Server) -> bool:
        return "link_status:up" in facts_of(replica, "INFO", "replication")

    @property
    def dsn(self) -> str:
        places = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis+cluster://{places}"

    def owner(self, slot: int) -> int:
        """Find who has *slot*."""
        shards = ask(self.servers[0], "CLUSTER", "SLOTS")
        assert isinstance(shards, list)
        (port,) = (master[1] for start, end, master, *_ in shards if start <= slot <= end)
        return [server.port for server in self.servers].index(port)

    @contextmanager
    def moving(self, slot: int) -> Iterator[tuple[Server, Server]]:
        """Let *slot* be on its way to the next master; at the end it is there, with what was moved."""
        source = self.owner(slot)
        target = (source + 1) % self.masters
        here, there = self.servers[source], self.servers[target]
        ask(there, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[source])
        ask(here, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[target])
        yield here, there
        for server in (there, here, *self.servers):
            with suppress(RedisError):  # a replica does not take it
                ask(server, "CLUSTER", "SETSLOT", slot, "NODE", self.ids[target])

    def move(self, slot: int, pause: float) -> None:
        """Move *slot* to the next master, key by key, with *pause* seconds between."""
        with self.moving(slot) as (here, there):
            time.sleep(pause)
            while keys := ask(here, "CLUSTER", "GETKEYSINSLOT", slot, 1):
                assert isinstance(keys, list)
                migrate(here, there, *keys)
                time.sleep(pause)

    def move_in_one_piece(self, slot: int) -> None:
        """Move *slot* to the next master as Valkey 9 can."""
        source = self.owner(slot)
        target = (source + 1) % self.masters
        there = ("SLOTSRANGE", slot, slot, "NODE", self.ids[target])
        ask(self.servers[source], "CLUSTER", "MIGRATESLOTS", *there)
        eventually(lambda: self.owner(slot) == target)


@contextmanager
def cluster(run: Run, replicas: int = 0) -> Iterator[Nodes]:
    """Run a cluster of three masters; the replicas are of the first."""
    with clustered(run, 3 + replicas) as servers:
        nodes = Nodes(servers)
        nodes.join()
        yield nodes
