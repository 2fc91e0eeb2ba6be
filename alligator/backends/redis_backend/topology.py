"""Where the master is: at a fixed address, at the one that Sentinels name, or in a cluster.

The clients of redis-py are only for users who ask for one: they have no deadline, and they repeat
commands that must not be repeated.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from math import inf
from time import monotonic
from typing import Any, TypeAlias, TypeVar, cast

from redis import Redis, RedisCluster
from redis import exceptions as errors
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import parse_url
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import Sentinel

from .blocking import Connection
from .dsn import Address, Dsn
from .protocol import NO_TEXT
from .server import KEEPALIVE, Server

ASK_SECONDS = 0.3
"""The time limit for asking one server for the master, before the next is asked."""

SILENT_SECONDS = 10.0
"""For how long a Sentinel that did not answer is asked only if no other answers."""

CHECK_SECONDS = 1.0
"""How long a connection is used before the Sentinels are asked for the master again."""

DOUBT_SECONDS = 0.1
"""The same for the next `SILENT_SECONDS` after a connection was lost: a failover may be under way."""

UNREACHABLE = (errors.ConnectionError, errors.TimeoutError)

T = TypeVar("T")

Opening: TypeAlias = Callable[[Server, float], T]
"""What opens a connection to a server before a deadline."""


def choose_topology(dsn: Dsn) -> "Standalone":
    """Return the topology for a DSN; this opens no connection."""
    return {"": Standalone, "sentinel": Sentinels, "cluster": Cluster}[dsn.kind](dsn)


class Standalone:
    """One server, always at the address in the DSN."""

    is_fixed = True
    """Whether `is_master` is always true."""
    may_split = False
    """Whether a replaced master may accept tasks for some time."""

    def __init__(self, dsn: Dsn) -> None:
        self._dsn = dsn
        self._server = Server.from_dsn(dsn)
        self._client: Any = None

    @property
    def redis(self) -> Redis:
        """A redis-py client for the same data."""
        if self._client is None:
            self._client = self._redis_py()
        return cast("Redis", self._client)

    def _redis_py(self) -> Any:
        return Redis.from_url(self._dsn.url, **_settings(self._dsn))

    def connect(self, opening: Opening[T], deadline: float) -> T:
        """Open a connection to the master."""
        return opening(self._server, deadline)

    @property
    def check_seconds(self) -> float:
        """Return for how many seconds the result of `is_master` is valid."""
        return inf

    def is_master(self, address: Address, deadline: float) -> bool:
        """Return whether a connection to *address* leads to the last known master."""
        return True

    def forget_master(self) -> None:
        """Record that the master cannot be reached, or is no longer the master."""

    def has_moved(self, error: errors.ResponseError) -> bool:
        """Return whether a command was not run only because the queue or the master has moved.

        After a short pause it can be sent again, over a new connection.
        """
        return False

    def close(self) -> None:
        """Close the redis-py client."""
        if self._client is not None:
            self._client.close()


class _MultiServer(Standalone):
    """Servers that can replace each other, and servers that know which one is the master."""

    is_fixed = False

    def __init__(self, dsn: Dsn) -> None:
        super().__init__(dsn)
        self._known: Sequence[Address] = dsn.addresses
        """The servers to ask for the master, the next one first."""

    def _for_redis_py(self) -> dict[str, Any]:
        """Return the settings in the form that redis-py's clients for several servers require."""
        settings = {**parse_url(self._dsn.url), **_settings(self._dsn)}  # type: ignore[no-untyped-call]
        has_tls = settings.pop("connection_class", None) is not None
        placeless = {k: v for k, v in settings.items() if k not in ("host", "port")}
        return {**placeless, "ssl": True} if has_tls else placeless

    def _ask(self, server: Server, question: Sequence[str], deadline: float) -> Any:
        deadline = min(deadline, monotonic() + ASK_SECONDS)
        with closing(Connection.open(server, deadline, question)) as connection:
            if isinstance(connection.first_reply, Exception):
                raise connection.first_reply
            return connection.first_reply


class Sentinels(_MultiServer):
    """The master with a given name, at the address that its Sentinels name.

    They are asked for each new connection, and repeatedly while connections are used: a master that
    hung until its replica was promoted accepts writes again for some seconds, and all are lost.
    """

    may_split = True

    def __init__(self, dsn: Dsn) -> None:
        super().__init__(dsn)
        self._name = dsn.master
        # The login of the DSN is for the master.
        self._login: dict[str, Any] = {"username": None, "password": None, **dsn.sentinel_login}
        self._sentinel = self._server._replace(**self._login, db=0)
        self._master: Address | None = None
        """The master that the Sentinels last named."""
        self._next_check = 0.0
        self._doubt_until = 0.0
        self._silent: dict[Address, float] = {}
        """The Sentinels that did not answer, and when."""

    def _redis_py(self) -> Any:
        settings = self._for_redis_py()
        theirs = {**settings, **self._login, "db": 0}
        manager = Sentinel(self._dsn.addresses, sentinel_kwargs=theirs, **settings)  # type: ignore[no-untyped-call]
        return manager.master_for(self._name)  # type: ignore[no-untyped-call]

    def connect(self, opening: Opening[T], deadline: float) -> T:
        self._next_check = monotonic() + self.check_seconds
        self._master = master = self._find_master(deadline)
        return opening(self._server.at(master), deadline)

    def is_master(self, address: Address, deadline: float) -> bool:
        if monotonic() > self._next_check:
            # Set before asking, so that other threads do not ask at the same time.
            self._next_check = monotonic() + self.check_seconds
            try:
                self._master = self._find_master(deadline)
            except errors.RedisError:  # without Sentinels there is no other master
                self._next_check = monotonic() + SILENT_SECONDS
        return self._master in (None, address)

    def _find_master(self, deadline: float) -> Address:
        """Ask every Sentinel for the master, and return the one that the latest failover chose.

        A Sentinel that has just started names the master from before its start. For some seconds that
        server accepts writes, which are lost when it is demoted.
        """
        known = sorted(self._known, key=lambda sentinel: self._silent.get(sentinel, 0.0))
        found: list[tuple[int, Address]] = []
        last_error: errors.RedisError = errors.ConnectionError(
            "the time limit ended before a Sentinel was asked"
        )
        for sentinel in known:
            is_silent = monotonic() - self._silent.get(sentinel, -inf) < SILENT_SECONDS
            if (found and is_silent) or monotonic() > deadline:
                break  # the others are silent, too: each may cost ASK_SECONDS
            question = ("SENTINEL", "MASTER", self._name)
            try:
                words = self._ask(self._sentinel.at(sentinel), question, deadline)
                facts = dict(zip(words[::2], words[1::2], strict=True))
                master = facts["ip"], int(facts["port"])
                found.append((int(facts["config-epoch"]), master))
                self._silent.pop(sentinel, None)
            except UNREACHABLE as error:
                last_error = error
                self._silent[sentinel] = monotonic()
            except errors.ResponseError as error:
                if "no such master" not in str(error).lower():
                    raise
                last_error = errors.ConnectionError(
                    f"the Sentinels know no master named {self._name}"
                )
        if not found:
            raise last_error
        return max(found)[1]

    @property
    def check_seconds(self) -> float:
        return DOUBT_SECONDS if monotonic() < self._doubt_until else CHECK_SECONDS

    def forget_master(self) -> None:
        self._next_check = 0.0
        self._doubt_until = monotonic() + SILENT_SECONDS

    def has_moved(self, error: errors.ResponseError) -> bool:
        return _mentions(error, "READONLY", "UNBLOCKED")


class Cluster(_MultiServer):
    """The node of a cluster that has the slot of the namespace, and therefore all keys.

    While a slot moves from one node to another, its keys are divided between them. ASK redirects a
    command with one key, but a queue has several keys: no script runs until all have arrived. The
    scripts declare the name of the queue as a key, which never exists. So a node that is giving the
    slot away rejects a script before it has written anything.
    """

    def __init__(self, dsn: Dsn) -> None:
        super().__init__(dsn)
        self._slot = key_slot(f"{{{dsn.namespace}}}".encode())
        self._server = self._server._replace(db=0)
        self._from_dsn = dsn.addresses
        self._master: Address | None = None

    def _redis_py(self) -> Any:
        nodes = [ClusterNode(*place) for place in self._from_dsn]  # type: ignore[no-untyped-call]
        settings = self._for_redis_py()
        settings.pop("db", None)
        del settings["retry"]
        return RedisCluster(startup_nodes=nodes, **settings)  # it has the same commands

    def connect(self, opening: Opening[T], deadline: float) -> T:
        if self._master:
            try:
                return opening(self._server.at(self._master), deadline)
            except UNREACHABLE:
                self.forget_master()
        master = self._find_master(deadline)
        connection = opening(self._server.at(master), deadline)
        self._master = master
        return connection

    def _find_master(self, deadline: float) -> Address:
        last_error: errors.RedisError | None = None
        for node in self._known:
            if last_error and monotonic() > deadline:
                break
            try:
                shards = self._ask(self._server.at(node), ("CLUSTER", "SLOTS"), deadline)
            except UNREACHABLE as error:
                last_error = error
                continue
            # Each has: its first slot, its last slot, the master, the replicas.
            nodes = [(host or node[0], port) for _, _, *group in shards for host, port, *_ in group]
            self._known = tuple(dict.fromkeys([node, *nodes, *self._from_dsn]))
            for first, last, (host, port, *_), *_ in shards:
                if first <= self._slot <= last:
                    return host or node[0], port
            last_error = errors.ClusterDownError(f"no node has slot {self._slot}")
        raise last_error or errors.ConnectionError("the time limit ended before a node was asked")

    def forget_master(self) -> None:
        lost, self._master = self._master, None
        # Ask another node first than last time, and the lost one last: one may learn of a failover late.
        first, *others = self._known
        self._known = tuple(sorted([*others, first], key=lambda node: node == lost))

    def has_moved(self, error: errors.ResponseError) -> bool:
        if isinstance(error, errors.MovedError):
            current = self._master or self._known[0]
            self._master = error.host or current[0], error.port
            return True
        if isinstance(error, errors.AskError | errors.TryAgainError):
            return True
        if isinstance(error, errors.ClusterDownError) or _mentions(error, "UNBLOCKED", "READONLY"):
            self.forget_master()
            return True
        return False


def _settings(dsn: Dsn) -> dict[str, Any]:
    network = {"socket_keepalive": True, "socket_keepalive_options": KEEPALIVE}
    return {
        **({} if dsn.url.startswith("unix:") else network),
        "decode_responses": True,
        "encoding_errors": NO_TEXT,
        "protocol": 2,
        # By default redis-py repeats a command whose reply is lost, ten times.
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": dsn.timeout,
        **dsn.options,
    }


def _mentions(error: errors.ResponseError, *words: str) -> bool:
    # Some servers put other words before the error of a command in a script.
    text = f"{type(error).__name__} {error}".upper()
    return any(word in text for word in words)
