"""The DSN of a PostgreSQL database: libpq's, with two options of our own."""

import os
import re
from typing import Final, NamedTuple
from urllib.parse import unquote

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from ...constants import COMMIT_SECONDS
from ...exceptions import ConfigurationError
from ..base import redact

DEFAULT_SCHEMA: Final = "alligator"

KEEPALIVE: Final = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
"""A worker waits on an idle connection: keepalive lets a NAT keep it, or its loss be detected."""

_SCHEMA = re.compile(r"(?!pg_|information_schema$)[A-Za-z_][A-Za-z0-9_]{0,62}")
_PLACES: Final = ("host", "hostaddr", "port")
_NOWHERE: Final = "/nonexistent"
_OPTIONS: Final = ("schema", "timeout")
_SHAPE: Final = "postgresql://[user[:password]@][host[:port],…][/database][?option=value&…]"


class Dsn(NamedTuple):
    """The parts of a DSN."""

    store: str
    """The DSN without its secrets."""
    schema: str
    timeout: float
    """How many seconds a push may take."""
    conninfos: list[bytes]
    """For each host the parameters for libpq, to be tried in turn."""
    database: str
    """The name of the database; empty if the DSN does not tell it."""

    @property
    def scope(self) -> str:
        """The part of the server that holds the queues; see `Client.scope`."""
        return f"postgresql/{self.database}/{self.schema}"


def read_dsn(conn_string: str) -> Dsn:
    """Return the parts of a DSN; raise `ConfigurationError` if it cannot work."""
    store = redact(conn_string)
    address, _, query = conn_string.partition("?")
    own: dict[str, str] = {}
    fields: list[str] = []
    for field in query.split("&"):
        name, _, value = field.partition("=")
        if name in _OPTIONS:
            own[name] = unquote(value)
        elif field:
            fields.append(field)
    schema = own.get("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise ConfigurationError(
            f"{store}: schema must be the name of a schema, such as alligator: a letter or _, then "
            "letters, digits and _, at most 63; names that begin with pg_ belong to PostgreSQL."
        )
    url = "?".join([address, "&".join(fields)]) if fields else address
    parameters = _parse(url, store)
    return Dsn(
        store,
        schema,
        _seconds(own.get("timeout"), store),
        _conninfos(parameters, store),
        parameters.get("dbname", ""),
    )


def _seconds(text: str | None, store: str) -> float:
    if text is None:
        return COMMIT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 3600:
        raise ConfigurationError(
            f"{store}: timeout must be a number of seconds, above 0 and below 3600."
        )
    return seconds


def _parse(url: str, store: str) -> dict[str, str]:
    try:
        options = pq.Conninfo.parse(url.encode())
    except (psycopg.Error, UnicodeError):
        # The text of libpq's error may contain a part of the password.
        raise ConfigurationError(
            f"{store} is not a DSN that libpq can read. Its form is {_SHAPE}; special characters in "
            "names and passwords are percent-encoded, and the options are those of libpq, and "
            "schema and timeout."
        ) from None
    return {each.keyword.decode(): each.val.decode() for each in options if each.val is not None}


def _conninfos(parameters: dict[str, str], store: str) -> list[bytes]:
    """Return the parameters for libpq, for each host.

    libpq itself goes to the next host only if the last refuses the connection, not if it is silent.
    """
    defaults = {"fallback_application_name": "alligator"}
    has_service = "PGSERVICE" in os.environ or "service" in parameters
    if not has_service:  # it may set them
        defaults |= KEEPALIVE
    if not has_service and "PGTARGETSESSIONATTRS" not in os.environ:
        # A queue needs a server that accepts writes. After a failover this finds the new primary.
        defaults["target_session_attrs"] = "read-write"
    parameters = {**defaults, **parameters, "client_encoding": "UTF8"}
    parameters.pop("connect_timeout", None)  # `Wire.connect` has a deadline
    hosts, addresses, ports = (
        parameters.get(name, "").split(",") for name in ("host", "hostaddr", "port")
    )
    number = max(len(hosts), len(addresses))
    if not all(not port or (port.isdecimal() and int(port) < 65536) for port in ports):
        raise ConfigurationError(f"{store}: the port must be a number below 65536.")
    if len(ports) not in (1, number):
        raise ConfigurationError(f"{store}: give one port, or one for each host.")
    _check_values(parameters, store)
    if number == 1:
        return [make_conninfo("", **parameters).encode()]
    conninfos: list[bytes] = []
    for n in range(number):
        one = dict(parameters)
        for name, values in (("host", hosts), ("hostaddr", addresses), ("port", ports)):
            value = values[n if len(values) > 1 else 0]
            if value:
                one[name] = value
            else:
                one.pop(name, None)
        conninfos.append(make_conninfo("", **one).encode())
    return conninfos


def _check_values(parameters: dict[str, str], store: str) -> None:
    """Raise `ConfigurationError` if libpq would reject a value at each connection."""
    authority = parameters.get("sslrootcert", "system")
    if parameters.get("sslmode", "").startswith("verify-") and authority != "system":
        try:
            with open(authority, "rb"):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"{store}: sslrootcert: cannot read {authority}: {error.strerror}"
            ) from None
    # libpq checks the values before it connects, here to a socket that does not exist.
    others = {name: value for name, value in parameters.items() if name not in _PLACES}
    pgconn = pq.PGconn.connect_start(make_conninfo("", **others, host=_NOWHERE).encode())
    message = (pgconn.error_message or b"").decode(errors="replace").strip()
    pgconn.finish()
    if message.startswith("invalid "):
        raise ConfigurationError(f"{store}: {message}")
