"""The DSN of a Redis server, of a master with Sentinels, or of a cluster."""

import ssl
from collections.abc import Callable, Mapping
from os.path import abspath
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from ...exceptions import ConfigurationError
from ..base import redact

CONNECT_SECONDS = 0.5
TIMEOUT_SECONDS = 1.0

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
    "ssl_ca_certs": abspath,  # the program may change its directory later
    "ssl_certfile": abspath,
    "ssl_keyfile": abspath,
}

SHAPES = {
    "redis": "redis://[user:password@]host[:port][/db], rediss:// or unix:///path",
    "sentinel": "redis+sentinel://[user:password@]host[:port],host[:port]/master[/db]",
    "cluster": "redis+cluster://[user:password@]host[:port],host[:port]",
}
PORTS = {"sentinel": 26379, "cluster": 6379}


class Dsn(NamedTuple):
    """The parts of a DSN."""

    store: str
    """The DSN without its secrets."""
    kind: str
    """What the server belongs to: "sentinel", "cluster" or an empty string."""
    url: str
    """The DSN for redis-py, with one of the servers."""
    addresses: list[Address]
    """The addresses of the Sentinels, or of some nodes of the cluster."""
    master: str
    """The name of the master in the configuration of the Sentinels."""
    namespace: str
    timeout: float
    """For how many seconds a client waits for a reply."""
    sentinel_login: dict[str, str]
    options: dict[str, Any]
    """The other options, under the names of redis-py."""

    @property
    def scope(self) -> str:
        """The part of the server that holds the queues; see `Client.scope`."""
        parts = urlsplit(self.url)
        path = "" if parts.scheme == "unix" else parts.path.strip("/")
        return f"redis/{int(path or self.options.get('db', 0))}/{self.namespace}"


def read_dsn(conn_string: str) -> Dsn:
    """Return the parts of a DSN; raise `ConfigurationError` if it cannot work."""
    store = redact(conn_string)
    options = _read_options(conn_string)
    url, _, _ = conn_string.partition("?")
    if url.startswith("valkey"):  # Valkey has the protocol of Redis
        url = f"redis{url.removeprefix('valkey')}"
    kind = url.partition("://")[0].partition("+")[2]
    addresses: list[Address] = []
    master = ""
    if kind:
        if kind not in PORTS:
            raise _misshapen(store, "redis")
        url, addresses, master = _read_addresses(url, kind, store)
    _check(url, kind, store)
    _check_certificates(url, options, store)
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
        raise ConfigurationError(f"{store} has a login for Sentinels, but no Sentinels")
    options["socket_connect_timeout"] = options.pop("connect_timeout", CONNECT_SECONDS)
    namespace = options.pop("ns", "alligator")
    timeout = options.pop("timeout", TIMEOUT_SECONDS)
    return Dsn(store, kind, url, addresses, master, namespace, timeout, login, options)


def _misshapen(store: str, kind: str) -> ConfigurationError:
    return ConfigurationError(
        f"{store} does not have the form {SHAPES[kind]}; in a password, write / ? # as %2F %3F %23"
    )


def _read_addresses(url: str, kind: str, store: str) -> tuple[str, list[Address], str]:
    """Return the URL with the first of several servers, all their addresses, and the master's name."""
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
    """Reject a URL that redis-py would misread, or would quote in an error with its password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text may contain a part of the password
        parts = urlsplit("")
    if parts.scheme not in ("redis", "rediss", "unix")[: 2 if kind else 3] or parts.fragment:
        raise _misshapen(store, kind or "redis")
    path = parts.path.strip("/")
    if parts.scheme == "unix" and not path:
        raise ConfigurationError(f"{store} has no socket path: unix:///path/to/redis.sock")
    if parts.scheme != "unix" and path and not path.isdecimal():
        raise ConfigurationError(f"{store}: the database must be a number: redis://localhost/0")


def _check_certificates(url: str, options: Mapping[str, Any], store: str) -> None:
    """Reject certificates that would not be used, or that cannot be read."""
    files = {name: path for name, path in options.items() if name.startswith("ssl_")}
    if files and not url.startswith("rediss:"):
        raise ConfigurationError(
            f"{store}: {min(files)} requires TLS: write rediss in place of redis"
        )
    if "ssl_keyfile" in files and "ssl_certfile" not in files:
        raise ConfigurationError(
            f"{store}: ssl_keyfile is the key of a certificate: add ssl_certfile"
        )
    for name, path in files.items():
        try:
            with open(path, "rb"):
                pass
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"{store}: {name}: cannot read {path}: {reason}") from None
        if name != "ssl_keyfile":
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
            except ssl.SSLError as error:
                raise ConfigurationError(
                    f"{store}: {name}: {path} is no certificate in PEM format: {error.reason}"
                ) from None


def _read_options(conn_string: str) -> dict[str, Any]:
    """Return the options of a DSN, each with its type."""
    store = redact(conn_string)
    _, _, query = conn_string.partition("?")
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            raise ConfigurationError(
                f"{store}: unknown option; valid options: {', '.join(OPTIONS)}"
            )
        try:
            options[name] = OPTIONS[name](value)
        except ValueError:
            raise ConfigurationError(f"{store}: {name} must be a number") from None
        if OPTIONS[name] is float and not 0 < options[name] < 3600:
            raise ConfigurationError(
                f"{store}: {name} must be a positive number of seconds, below 3600"
            )
    if not options.get("ns", "x") or set("{}") & set(options.get("ns", "")):
        raise ConfigurationError(f"{store}: ns must not be empty or contain braces")
    return options
