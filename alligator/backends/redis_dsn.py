"""Read the DSN of a Redis server, of a master that Sentinels watch, or of a cluster."""

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from ..exceptions import ConfigurationError
from .base import redact

CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 1.0

Address = tuple[str, int]

OPTIONS: dict[str, Callable[[str], Any]] = {
    "ns": str,
    "timeout": float,
    "connect_timeout": float,
    "db": int,
    "username": str,
    "password": str,
    "sentinel_username": str,
    "sentinel_password": str,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
}

SHAPES = {
    "redis": "redis://[user:password@]host[:port][/db], rediss:// or unix:///path",
    "sentinel": "redis+sentinel://[user:password@]host[:port],host[:port]/master[/db]",
    "cluster": "redis+cluster://[user:password@]host[:port],host[:port]",
}
PORTS = {"sentinel": 26379, "cluster": 6379}


class Dsn(NamedTuple):
    """What a DSN says."""

    store: str
    """The DSN for people to see: without what is secret."""
    kind: str
    """What the server is a part of: "sentinel", "cluster", or nothing."""
    url: str
    """The same for redis-py, with one of the servers."""
    addresses: list[Address]
    """Of the Sentinels, or of some nodes of the cluster."""
    master: str
    """The name by which the Sentinels know the master."""
    namespace: str
    answer: float
    """How many seconds the server has to answer."""
    sentinel_login: dict[str, str]
    options: dict[str, Any]
    """The rest, as redis-py names it."""


def read_dsn(conn_string: str) -> Dsn:
    """Take a DSN to pieces; raise `ConfigurationError` when it cannot work."""
    store = redact(conn_string)
    options = _read_options(conn_string)
    url, _, _ = conn_string.partition("?")
    kind = url.partition("://")[0].partition("+")[2]
    addresses: list[Address] = []
    master = ""
    if kind:
        if kind not in PORTS:
            raise _misshapen(store, "redis")
        url, addresses, master = _read_several(url, kind, store)
    _check(url, kind, store)
    if url.startswith("rediss:"):
        options["ssl_check_hostname"] = True
    if kind == "cluster" and options.get("db"):
        raise ConfigurationError(f"{store}: a cluster has database 0 only")
    login = {
        name: options.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in options
    }
    if login and kind != "sentinel":
        raise ConfigurationError(f"{store} has a login for Sentinels, and no Sentinels")
    options["socket_connect_timeout"] = options.pop("connect_timeout", CONNECT_SECONDS)
    namespace = options.pop("ns", "alligator")
    answer = options.pop("timeout", ANSWER_SECONDS)
    return Dsn(store, kind, url, addresses, master, namespace, answer, login, options)


def _misshapen(store: str, kind: str) -> ConfigurationError:
    return ConfigurationError(
        f"{store} is not {SHAPES[kind]}; in a password, / ? # are written %2F %3F %23"
    )


def _read_several(url: str, kind: str, store: str) -> tuple[str, list[Address], str]:
    """Read a DSN with several servers in it; rewrite it as one with the first of them."""
    scheme, _, rest = url.partition("://")
    servers, _, path = rest.partition("/")
    login, at, hosts = servers.rpartition("@")
    addresses = []
    for host in hosts.split(","):
        try:
            parts = urlsplit(f"//{host}")
            addresses.append((parts.hostname or "", parts.port or PORTS[kind]))
        except ValueError:
            raise _misshapen(store, kind) from None
    master, _, db = path.partition("/") if kind == "sentinel" else ("", "", path)
    if not all(host for host, _ in addresses) or (kind == "sentinel" and not master):
        raise _misshapen(store, kind)
    if kind == "cluster" and db.strip("/0"):
        raise ConfigurationError(f"{store}: a cluster has database 0 only")
    first = hosts.partition(",")[0]
    return f"{scheme.partition('+')[0]}://{login}{at}{first}/{db}", addresses, master


def _check(url: str, kind: str, store: str) -> None:
    """Refuse what redis-py would misunderstand, or would quote with the password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text has parts of the DSN in it, and so of a password
        parts = urlsplit("")
    if parts.scheme not in ("redis", "rediss", "unix")[: 2 if kind else 3] or parts.fragment:
        raise _misshapen(store, kind or "redis")
    place = parts.path.strip("/")
    if parts.scheme == "unix" and not place:
        raise ConfigurationError(f"{store} names no socket: unix:///path/to/redis.sock")
    if parts.scheme != "unix" and place and not place.isdecimal():
        raise ConfigurationError(f"{store}: a database is a number, as in redis://localhost/0")


def _read_options(conn_string: str) -> dict[str, Any]:
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
