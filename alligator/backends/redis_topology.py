"""Know where the master is: at a fixed place, where its Sentinels say, or in a cluster.

redis-py's connections are used, and its clients of Sentinels and clusters are made for those who
want one; but these ask in their own time, and repeat what must not be repeated.
"""

from collections.abc import Sequence
from time import monotonic
from typing import Any, cast

from redis import Redis, RedisCluster
from redis import exceptions as errors
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import Connection, SSLConnection, parse_url
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import Sentinel

from .redis_dsn import Address, Dsn

ASK_SECONDS = 0.3
"""How long one who is asked for the master has to answer, before the next is asked."""

NO_TEXT = "surrogateescape"
"""How what is not UTF-8 is read, so that its task can be buried instead of stopping the worker."""

AWAY = (errors.ConnectionError, errors.TimeoutError)


def find_topology(dsn: Dsn) -> "Alone":
    """Choose by the kind of the DSN; nothing is connected yet."""
    return {"": Alone, "sentinel": Sentinels, "cluster": Cluster}[dsn.kind](dsn)


class Alone:
    """One server, always at the place that the DSN says."""

    moves = False
    """Whether another server may become the master."""
    may_split = False
    """Whether a master that was replaced may go on taking tasks for a while."""

    def __init__(self, dsn: Dsn) -> None:
        self._client = Redis.from_url(dsn.url, **_settings(dsn))

    @property
    def redis(self) -> Redis:
        """A redis-py client for the same data."""
        return self._client

    def connect(self, deadline: float) -> Any:
        """Open a connection to the master."""
        pool = self._client.connection_pool
        return _open(pool.connection_class, pool.connection_kwargs, deadline)

    def lose(self) -> None:
        """Note that the master cannot be reached, or is not the master any more."""

    def is_elsewhere(self, error: errors.ResponseError) -> bool:
        """Tell whether a command did not run for the only reason that the master has moved.

        After a moment it may be sent again, to where `connect` leads then.
        """
        return False

    def close(self) -> None:
        """Close the redis-py client."""
        self._client.close()


class _Several(Alone):
    """Servers that take each other's place, and others that know which it is."""

    moves = True

    def __init__(self, dsn: Dsn) -> None:
        self._known: Sequence[Address] = dsn.addresses
        """Who can be asked; the next to be asked goes first."""
        self._settings = {**parse_url(dsn.url), **_settings(dsn)}  # type: ignore[no-untyped-call]
        self._class = cast("type[Any]", self._settings.pop("connection_class", Connection))

    def _for_redis_py(self) -> dict[str, Any]:
        """The settings as redis-py's clients of several servers take them."""
        placeless = {k: v for k, v in self._settings.items() if k not in ("host", "port")}
        return {**placeless, "ssl": True} if self._class is SSLConnection else placeless

    def _open(self, address: Address, deadline: float, **login: str | None) -> Any:
        settings = {**self._settings, **login, "host": address[0], "port": address[1]}
        return _open(self._class, settings, deadline)

    def _ask(self, address: Address, question: Sequence[str], deadline: float, **login: Any) -> Any:
        deadline = min(deadline, monotonic() + ASK_SECONDS)
        connection = self._open(address, deadline, **login)
        try:
            connection._sock.settimeout(left(deadline))
            connection.send_command(*question, check_health=False)
            return connection.read_response()
        finally:
            connection.disconnect()


class Sentinels(_Several):
    """The master of a name, wherever its Sentinels say it is: asked for each new connection."""

    may_split = True

    def __init__(self, dsn: Dsn) -> None:
        super().__init__(dsn)
        self._name = dsn.master
        # The login of the DSN is for the master.
        self._login: dict[str, Any] = {"username": None, "password": None, **dsn.sentinel_login}
        settings = self._for_redis_py()
        theirs = {**settings, **self._login, "db": 0}
        manager = Sentinel(dsn.addresses, sentinel_kwargs=theirs, **settings)  # type: ignore[no-untyped-call]
        self._client = manager.master_for(self._name)  # type: ignore[no-untyped-call]

    def connect(self, deadline: float) -> Any:
        trouble: errors.RedisError | None = None
        tried: set[Address] = set()
        for sentinel in self._known:
            if trouble and monotonic() > deadline:
                break
            try:
                question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
                found = self._ask(sentinel, question, deadline, **self._login, db=0)
                if not found:
                    trouble = trouble or errors.ConnectionError(
                        f"the Sentinels know no master called {self._name}"
                    )
                    continue
                master = found[0], int(found[1])
                if master in tried:
                    continue
                tried.add(master)
                connection = self._open(master, deadline)
            except AWAY as error:
                trouble = error
                continue
            if sentinel != self._known[0]:
                others = (other for other in self._known if other != sentinel)
                self._known = (sentinel, *others)
            return connection
        raise trouble or errors.ConnectionError("there was no time to ask the Sentinels")

    def lose(self) -> None:
        # The one that was asked first may be the last to know.
        first, *others = self._known
        self._known = (*others, first)

    def is_elsewhere(self, error: errors.ResponseError) -> bool:
        if not _says(error, "READONLY", "UNBLOCKED"):
            return False
        self.lose()
        return True


class Cluster(_Several):
    """The node of a cluster that has the slot of our namespace, and so all of our keys.

    While a slot is on its way from one node to another, its keys are here and there. One key could
    be asked for (ASK), but a queue is several: nothing runs then until all of it has arrived. The
    name of the queue, which scripts declare and which is no key, sees to that: a server that gives
    the slot away refuses them before they have written anything.
    """

    def __init__(self, dsn: Dsn) -> None:
        super().__init__(dsn)
        self._slot = key_slot(f"{{{dsn.namespace}}}".encode())
        self._settings["db"] = 0
        self._from_dsn = dsn.addresses
        self._master: Address | None = None
        self._cluster: RedisCluster | None = None

    @property
    def redis(self) -> Redis:
        if self._cluster is None:  # making one connects
            nodes = [ClusterNode(*place) for place in self._from_dsn]  # type: ignore[no-untyped-call]
            settings = self._for_redis_py()
            del settings["db"]
            del settings["retry"]
            self._cluster = RedisCluster(startup_nodes=nodes, **settings)
        return cast("Redis", self._cluster)  # it has the same commands

    def connect(self, deadline: float) -> Any:
        if self._master:
            try:
                return self._open(self._master, deadline)
            except AWAY:
                self.lose()
        master = self._find(deadline)
        connection = self._open(master, deadline)
        self._master = master
        return connection

    def _find(self, deadline: float) -> Address:
        trouble: errors.RedisError | None = None
        for node in self._known:
            if trouble and monotonic() > deadline:
                break
            try:
                shards = self._ask(node, ("CLUSTER", "SLOTS"), deadline)
            except AWAY as error:
                trouble = error
                continue
            # Each is: its first slot, its last, the master, replicas.
            nodes = [(host or node[0], port) for _, _, *group in shards for host, port, *_ in group]
            self._known = tuple(dict.fromkeys([node, *nodes, *self._from_dsn]))
            for first, last, (host, port, *_), *_ in shards:
                if first <= self._slot <= last:
                    return host or node[0], port
            trouble = errors.ClusterDownError(f"no node has slot {self._slot}")
        raise trouble or errors.ConnectionError("there was no time to ask the cluster")

    def lose(self) -> None:
        lost, self._master = self._master, None
        # The lost one is asked last; and the one that was asked first may be the last to know.
        first, *others = self._known
        self._known = tuple(sorted([*others, first], key=lambda node: node == lost))

    def is_elsewhere(self, error: errors.ResponseError) -> bool:
        if isinstance(error, errors.MovedError):
            here = self._master or self._known[0]
            self._master = error.host or here[0], error.port
            return True
        if isinstance(error, errors.AskError | errors.TryAgainError):
            return True
        if isinstance(error, errors.ClusterDownError) or _says(error, "UNBLOCKED", "READONLY"):
            self.lose()
            return True
        return False

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()


def left(deadline: float) -> float:
    """Tell how many seconds are left until *deadline*; never none, for that means forever."""
    return max(0.001, deadline - monotonic())


def _settings(dsn: Dsn) -> dict[str, Any]:
    return {
        "decode_responses": True,
        "encoding_errors": NO_TEXT,
        "protocol": 2,
        # redis-py would repeat a command whose reply is lost: ten times, for a minute.
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": dsn.answer,
        **dsn.options,
    }


def _open(kind: Any, settings: dict[str, Any], deadline: float) -> Any:
    connection = kind(**settings)
    connection.socket_timeout = left(deadline)
    connection.socket_connect_timeout = min(connection.socket_connect_timeout, left(deadline))
    connection.connect()
    return connection


def _says(error: errors.ResponseError, *words: str) -> bool:
    # Some servers put words of their own before what a command in a script said.
    said = f"{type(error).__name__} {error}".upper()
    return any(word in said for word in words)
