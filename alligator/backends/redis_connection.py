"""Reach a Redis server: read its DSN, keep connections, bound every wait, put errors into words."""

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha1
from importlib.resources import files
from math import inf
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from ..exceptions import BackendError, BackendUnavailable, ConfigurationError
from .base import redact

CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 1.0

NO_TEXT = "surrogateescape"
"""How what is not UTF-8 is read, so that its task can be buried instead of stopping the worker."""

OPTIONS: dict[str, Callable[[str], Any]] = {
    "ns": str,
    "timeout": float,
    "connect_timeout": float,
    "db": int,
    "username": str,
    "password": str,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
}

# What to say of an error with one of these words in its name or, if the server sent it, in its
# text. The refusals are lasting, the troubles pass.
REFUSALS = {
    "MAXMEMORY": "is out of memory and took nothing: let workers drain it, or raise maxmemory",
    "AUTHENTICATION": "does not accept the user name and password of the DSN",
    "UNAUTHENTICATED": "wants a password: redis://:password@host",
    "NOPERM": "forbids its user a command or a key that Alligator needs (ACL)",
    "USER EXECUTING": "forbids its user a command or a key that Alligator needs (ACL)",
    "WRONGTYPE": "holds other data under our keys: choose a namespace of your own with ?ns=",
}
TROUBLES = {
    "LOADING": "is still loading its data",
    "TIMEOUT": "did not answer in time",
    "CONNECTION": "cannot be reached",
    "READONLY": "is a replica and takes no writes",
    "BUSY": "is busy with somebody's script",
    "MISCONF": "cannot write to its disk",
    "NOREPLICAS": "has too few replicas to take writes",
    "MASTERDOWN": "has lost its master",
    "CLUSTERDOWN": "has lost a part of its cluster",
    "TRYAGAIN": "is moving the queue to another node",
}


class Script:
    """A script, and the name by which the server knows it once it has seen it."""

    def __init__(self, name: str) -> None:
        folder = files("alligator.backends") / "redis_scripts"
        parts = (folder / f"{part}.lua" for part in ("common", name))
        self.source = "\n".join(part.read_text("utf-8") for part in parts)
        self.sha = sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class Call(NamedTuple):
    """A script with what it is to be run on."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | int] = ()


class Connections:
    """The connections of a process to one server, used by one thread at a time each.

    redis-py makes them and speaks the protocol. Its pool is not used: that costs as much as the
    call itself, and takes locks, which a signal handler must not wait for.
    """

    def __init__(self, conn_string: str) -> None:
        options = read_options(conn_string)
        self.store = redact(conn_string)
        self.namespace: str = options.pop("ns", "alligator")
        self.answer: float = options.pop("timeout", ANSWER_SECONDS)
        self.redis = make_redis(conn_string, options, self.answer)
        self._forget()

    def _forget(self) -> None:
        """Begin anew: what a parent process has open is not for its child."""
        self._pid = os.getpid()
        self._idle: list[Any] = []
        self._waiting: set[Any] = set()

    def close(self) -> None:
        """Close those that are idle."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()

    def take(self, deadline: float) -> Any:
        """Take an idle connection, or make one; `exchange` gives it back."""
        if self._pid != os.getpid():
            self._forget()
        while self._idle:
            with suppress(IndexError, RedisError):
                connection = self._idle.pop()
                # Nothing is left to read on it but its end, if the server has closed it.
                if not connection.can_read(0):
                    return connection
                connection.disconnect()
        pool = self.redis.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        connection.socket_timeout = left(deadline)
        connection.connect()
        return connection

    def exchange(self, connection: Any, command: Sequence[Any], timeout: float) -> Any:
        """Send *command* and wait for its reply; *connection* is idle afterwards, or closed."""
        try:
            packed = connection.pack_command(*command)
        except UnicodeEncodeError:  # what came as no text goes back as it was
            raw = (a.encode(errors=NO_TEXT) if isinstance(a, str) else a for a in command)
            packed = connection.pack_command(*raw)
        try:
            connection._sock.settimeout(timeout)
            connection.send_packed_command(packed, check_health=False)
            reply = connection.read_response()
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            connection.disconnect()
            raise
        self._idle.append(connection)
        return reply

    def run(self, connection: Any, call: Call, deadline: float) -> Any:
        """Run a script, teaching it to the server if need be."""
        script, keys, args = call
        rest = (len(keys), *keys, *args)
        try:
            return self.exchange(connection, ("EVALSHA", script.sha, *rest), left(deadline))
        except NoScriptError:
            connection = self.take(deadline)
            return self.exchange(connection, ("EVAL", script.source, *rest), left(deadline))

    def call(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[str | int] = (),
        patience: float = 0.0,
    ) -> Any:
        """Run a script on a connection of the list, its errors explained."""
        deadline = monotonic() + max(patience, self.answer)
        try:
            return self.run(self.take(deadline), Call(script, keys, args), deadline)
        except RedisError as error:
            raise self.explain(error) from error

    def command(self, *words: str) -> Any:
        """Run a plain command."""
        try:
            return self.exchange(self.take(monotonic() + self.answer), words, self.answer)
        except RedisError as error:
            raise self.explain(error) from error

    def wait(self, command: Sequence[Any], timeout: float, wanted: Callable[[], bool]) -> None:
        """Run a command that blocks for up to *timeout* seconds, if it still is *wanted*."""
        connection = self.take(monotonic() + self.answer)
        # In this order: `interrupt` either finds the connection, or has changed what is wanted.
        self._waiting.add(connection)
        try:
            if wanted():
                self.exchange(connection, command, timeout + self.answer)
            else:
                self._idle.append(connection)
        finally:
            self._waiting.discard(connection)

    def interrupt(self) -> None:
        """End each `wait` with an error. Takes no lock, so a signal handler may call it."""
        for connection in tuple(self._waiting):
            if connection.pid == os.getpid() and connection._sock:
                with suppress(OSError):
                    socket.socket.shutdown(connection._sock, socket.SHUT_RDWR)

    def explain(self, error: RedisError) -> BackendError:
        """Put *error* into words that say what to do, and never the password."""
        sent = error if isinstance(error, ResponseError) else ""
        words = f"{type(error).__name__} {sent}".upper()
        if "READONLY" in words:
            self.close()  # so that the next use looks for the new master
        for word, saying in REFUSALS.items():
            if word in words:
                return BackendError(f"{self.store} {saying} ({error})")
        for word, saying in TROUBLES.items():
            if word in words:
                return BackendUnavailable(f"{self.store} {saying} ({error})")
        return BackendError(f"{self.store}: {error}")


def left(deadline: float) -> float:
    """Tell how many seconds are left until *deadline*; never none, for that means forever."""
    return max(0.001, deadline - monotonic())


def read_options(conn_string: str) -> dict[str, Any]:
    """Read the options of a DSN, each as what it is."""
    store = redact(conn_string)
    _, _, query = conn_string.partition("?")
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            raise ConfigurationError(f"{store} has an option that is none of: {', '.join(OPTIONS)}")
        try:
            options[name] = OPTIONS[name](value)
        except ValueError:
            raise ConfigurationError(f"{store}: {name} is not a number") from None
        if OPTIONS[name] is float and not 0 < options[name] < inf:
            raise ConfigurationError(f"{store}: {name} is not a time in seconds")
    if not options.get("ns", "x") or set("{}") & set(options.get("ns", "")):
        raise ConfigurationError(f"{store}: ns is empty or has braces in it")
    return options


def make_redis(conn_string: str, options: dict[str, Any], answer: float) -> Redis:
    """Make the redis-py client for a DSN. Sentinel and Cluster will be told apart here."""
    store = redact(conn_string)
    url, _, _ = conn_string.partition("?")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text has parts of the DSN in it, and so of a password
        parts = urlsplit("")
    if parts.scheme not in ("redis", "rediss", "unix") or parts.fragment:
        raise ConfigurationError(
            f"{store} is not redis://[user:password@]host[:port][/db], rediss:// or unix:///path; "
            "in a password, / ? # are written %2F %3F %23"
        )
    place = parts.path.strip("/")
    if parts.scheme == "unix" and not place:
        raise ConfigurationError(f"{store} names no socket: unix:///path/to/redis.sock")
    if parts.scheme != "unix" and place and not place.isdecimal():
        raise ConfigurationError(f"{store}: a database is a number, as in redis://localhost/0")
    if parts.scheme == "rediss":
        options["ssl_check_hostname"] = True
    return Redis.from_url(
        url,
        decode_responses=True,
        encoding_errors=NO_TEXT,
        protocol=2,
        # redis-py would repeat a command whose reply is lost: ten times, for a minute.
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=options.pop("connect_timeout", CONNECT_SECONDS),
        socket_timeout=answer,
        **options,
    )
