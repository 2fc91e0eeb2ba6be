"""Redis as several servers that know each other: a master with Sentinels, or nodes of a cluster."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.harness.programs import eventually
from tests.harness.store_servers import Run, Server, Watched, clustered, replicated

SLOTS = 16384


def ask(server: Server, *words: object) -> object:
    """Send one command to one server."""
    once = Retry(NoBackoff(), 0)
    with Redis(port=server.port, decode_responses=True, socket_timeout=5, retry=once) as redis:
        return redis.execute_command(*words)


def migrate(here: Server, there: Server, *keys: str) -> None:
    """Move keys from one server to another."""
    ask(here, "MIGRATE", "127.0.0.1", there.port, "", 0, 5000, "KEYS", *keys)


def facts_of(server: Server, *question: str) -> str:
    """Return the facts of an INFO command, as ``name:value``."""
    return str(ask(server, *question)).replace("'", "").replace(" ", "")


# Sentinels.


@contextmanager
def watched_by_sentinels(run: Run) -> Iterator[Watched]:
    """Run a master with a replica, and three Sentinels that know it and each other."""
    with replicated(run) as watched:
        eventually(lambda: know_each_other(watched), 20)
        yield watched


def know_each_other(watched: Watched) -> bool:
    """Return whether all Sentinels know each other, and the replica follows the master."""
    master = master_of(watched)
    for one in watched.sentinels:
        with Redis(port=one.port, decode_responses=True) as redis:
            facts = cast("dict[str, dict[str, int]]", redis.sentinel_masters())["main"]
        known = facts["port"], facts["num-slaves"], facts["num-other-sentinels"]
        if known != (master.port, 1, 2):
            return False
    return "state:online" in facts_of(master, "INFO", "replication")


def master_of(watched: Watched) -> Server:
    """Return the server that the first Sentinel calls the master."""
    question = "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"
    _, port = cast("list[str]", ask(watched.sentinels[0], *question))
    return next(one for one in (watched.master, watched.replica) if one.port == int(port))


# Clusters.


@dataclass
class Nodes:
    """A cluster, and the owners of its slots."""

    servers: list[Server]
    masters: int = 3
    ids: list[str] = field(default_factory=list)

    def join(self) -> None:
        """Join the nodes to a cluster; the nodes after the masters are replicas of one each."""
        first, *others = self.servers
        for other in others:
            ask(first, "CLUSTER", "MEET", "127.0.0.1", other.port)
        for n, server in enumerate(self.servers[: self.masters]):
            start, end = SLOTS * n // self.masters, SLOTS * (n + 1) // self.masters - 1
            ask(server, "CLUSTER", "ADDSLOTSRANGE", start, end)
        self.ids = [str(ask(server, "CLUSTER", "MYID")) for server in self.servers]
        eventually(lambda: all(map(self._is_well, self.servers)), 20)
        for n, replica in enumerate(self.servers[self.masters :]):
            ask(replica, "CLUSTER", "REPLICATE", self.ids[n % self.masters])
        for replica in self.servers[self.masters :]:
            eventually(partial(self.is_synced, replica), 20)

    def _is_well(self, server: Server) -> bool:
        facts = facts_of(server, "CLUSTER", "INFO")
        return "state:ok" in facts and f"known_nodes:{len(self.servers)}" in facts

    def is_synced(self, replica: Server) -> bool:
        """Return whether that node is a replica and follows its master."""
        return "link_status:up" in facts_of(replica, "INFO", "replication")

    @property
    def dsn(self) -> str:
        places = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis+cluster://{places}"

    def owner(self, slot: int) -> int:
        """Return the owner of *slot*."""
        (owner,) = (number for start, end, number in self._shards() if start <= slot <= end)
        return owner

    def is_whole(self) -> bool:
        """Return whether all nodes are up and agree on the owners of the slots."""
        views = [self._shards([server]) for server in self.servers]
        return all(map(self._is_well, self.servers)) and views.count(views[0]) == len(views)

    def _shards(self, servers: Sequence[Server] = ()) -> list[tuple[int, int, int]]:
        """Return all slot ranges and their owners, from the first node that replies."""
        trouble = None
        for server in servers or self.servers:
            try:
                shards = ask(server, "CLUSTER", "SLOTS")
            except RedisError as error:
                trouble = error
                continue
            assert isinstance(shards, list)
            return sorted(
                (start, end, self.ids.index(master[2])) for start, end, master, *_ in shards
            )
        raise AssertionError("no node answers") from trouble

    def _next(self, source: int) -> int:
        """Return the next master."""
        masters = sorted({number for _, _, number in self._shards()})
        return masters[(masters.index(source) + 1) % len(masters)]

    @contextmanager
    def moving(self, slot: int) -> Iterator[tuple[Server, Server]]:
        """Migrate *slot* to the next master during the block, and complete the migration at its end."""
        source = self.owner(slot)
        target = self._next(source)
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
        """Move *slot* to the next master at once, with the command of Valkey 9."""
        source = self.owner(slot)
        target = self._next(source)
        there = ("SLOTSRANGE", slot, slot, "NODE", self.ids[target])
        ask(self.servers[source], "CLUSTER", "MIGRATESLOTS", *there)
        eventually(lambda: self.owner(slot) == target)


@contextmanager
def cluster(run: Run, replicas: int = 0) -> Iterator[Nodes]:
    """Run a cluster of three masters, and this number of replicas."""
    with clustered(run, 3 + replicas) as servers:
        nodes = Nodes(servers)
        nodes.join()
        yield nodes
