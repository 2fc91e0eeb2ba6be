"""One Redis server: its address, and how a connection to it begins: socket, TLS, login."""

import os
import socket
import ssl
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple

from redis import exceptions as errors
from redis.connection import parse_url

from .dsn import Address, Dsn

KEEPALIVE = {
    getattr(socket, name): seconds
    for name, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
"""A worker waits on an idle connection. Keepalive makes a NAT keep it, and detects its loss."""


class Server(NamedTuple):
    """What a connection to a server needs."""

    host: str
    port: int
    path: str
    """The path of a Unix socket; an empty string for TCP."""
    db: int
    username: str | None
    password: str | None
    connect_timeout: float
    has_tls: bool
    ca_certs: str | None
    """A file with certificates to trust, besides those of the system."""
    certfile: str | None
    keyfile: str | None

    @classmethod
    def from_dsn(cls, dsn: Dsn) -> "Server":
        """Return the server of a DSN, or the first of several."""
        settings: dict[str, Any] = {**parse_url(dsn.url), **dsn.options}  # type: ignore[no-untyped-call]
        return cls(
            host=settings.get("host", "localhost"),
            port=settings.get("port", 6379),
            path=settings.get("path", ""),
            db=settings.get("db", 0),
            username=settings.get("username"),
            password=settings.get("password"),
            connect_timeout=settings["socket_connect_timeout"],
            has_tls=dsn.url.startswith("rediss:"),
            ca_certs=settings.get("ssl_ca_certs"),
            certfile=settings.get("ssl_certfile"),
            keyfile=settings.get("ssl_keyfile"),
        )

    def at(self, address: Address) -> "Server":
        """Return the server at another address."""
        return self._replace(host=address[0], port=address[1])

    @property
    def address(self) -> Address:
        """Its host and port."""
        return self.host, self.port

    @property
    def place(self) -> str:
        """Its address, for messages."""
        return self.path or f"{self.host}:{self.port}"

    def dial(self, deadline: float) -> socket.socket:
        """Return a socket that is connected to the server, without TLS and login."""
        timeout = min(self.connect_timeout, seconds_left(deadline))
        try:
            if self.path:
                return _connect_to_path(self.path, timeout)
            sock = socket.create_connection((self.host, self.port), timeout)
        except OSError as error:
            raise as_redis_error(error, f"could not connect to {self.place}") from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in KEEPALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
        return sock

    def tls_context(self) -> ssl.SSLContext:
        """Return a context that verifies the certificate and the host name."""
        files = self.ca_certs, self.certfile, self.keyfile
        return _tls_context(
            *files, renewed=tuple(os.stat(file).st_mtime_ns for file in files if file)
        )

    @property
    def login(self) -> list[tuple[str | int, ...]]:
        """The commands that begin a connection."""
        commands: list[tuple[str | int, ...]] = []
        if self.username:
            commands.append(("AUTH", self.username, self.password or ""))
        elif self.password:
            commands.append(("AUTH", self.password))
        if self.db:
            commands.append(("SELECT", self.db))
        return commands


@lru_cache(maxsize=16)
def _tls_context(
    ca_certs: str | None, certfile: str | None, keyfile: str | None, *, renewed: tuple[int, ...]
) -> ssl.SSLContext:
    """Return a context; to make one takes longer than a connection, above all under gevent.

    *renewed* is when the files were changed last.
    """
    context = ssl.create_default_context()
    if certfile:
        context.load_cert_chain(certfile, keyfile)
    if ca_certs:
        context.load_verify_locations(ca_certs)
    return context


def _connect_to_path(path: str, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def as_redis_error(error: OSError, what: str) -> errors.RedisError:
    """Return the exception of redis-py for *error*; *what* happened."""
    if isinstance(error, TimeoutError):
        return errors.TimeoutError(f"{what} in time")
    return errors.ConnectionError(f"{what}: {error}")


def seconds_left(deadline: float) -> float:
    """Return the seconds until *deadline*; at least 1 ms, because 0 means no limit."""
    return max(0.001, deadline - monotonic())
