"""Read the DSN of SQS, and encode queue names in the characters that SQS allows."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from ...exceptions import ConfigurationError
from ..base import redact

POLL_SECONDS = 1
"""Seconds of a long poll. With 0, SQS looks for messages on some of its servers only."""

DEAD = "_dead"
NAME_LENGTH = 80
SWITCH = {"yes": True, "1": True, "true": True, "no": False, "0": False, "false": False}

# A byte that SQS does not allow in a name is written _xHH. So is an underscore that would look like
# such an escape, or like the end of the name of a dead letter queue.
ESCAPED = re.compile(r"[^A-Za-z0-9_-]|_(?=x[0-9a-f]{2})|_(?=dead\Z)")
ESCAPE = re.compile(rb"_x([0-9a-f]{2})")

OPTIONS = ("prefix", "region", "poll", "create")


class Settings(NamedTuple):
    """The settings of a DSN."""

    store: str
    region: str | None = None
    endpoint: str | None = None
    prefix: str = ""
    poll: int = POLL_SECONDS
    create: bool = True


def read_dsn(conn_string: str) -> Settings:
    """Return the settings of ``sqs://region/?option=value``, or of the address of a local server."""
    store = redact(conn_string)
    url, _, query = conn_string.partition("?")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if "@" in url:
        raise ConfigurationError(
            f"{store} contains credentials, which must not be in a DSN of SQS: set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
        )
    local = parts.scheme in ("sqs+http", "sqs+https")
    if (parts.scheme != "sqs" and not local) or parts.path.strip("/") or parts.fragment:
        raise ConfigurationError(
            f"{store} must be sqs://region/, or sqs+http://host:port/ for a local server"
        )
    if local and not parts.hostname:
        raise ConfigurationError(
            f"{store} names no host: write it as in sqs+http://localhost:9324/"
        )
    if not local and ":" in parts.netloc:
        raise ConfigurationError(f"{store}: a region must follow sqs://, as in sqs://eu-west-1/")
    endpoint = f"{parts.scheme.removeprefix('sqs+')}://{parts.netloc}" if local else None
    settings = Settings(store, None if local else parts.netloc or None, endpoint)
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            raise ConfigurationError(
                f"{store} has an unknown option; valid options: {', '.join(OPTIONS)}"
            )
        settings = settings._replace(**{name: READ[name](store, value)})
    return settings


def _read_prefix(store: str, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,60}", value):
        raise ConfigurationError(f"{store}: prefix must be up to 60 letters, digits, - and _")
    return value


def _read_poll(store: str, value: str) -> int:
    if not value.isdecimal() or int(value) > 20:
        raise ConfigurationError(f"{store}: poll must be a whole number of seconds from 0 to 20")
    return int(value)


def _read_create(store: str, value: str) -> bool:
    if value not in SWITCH:
        raise ConfigurationError(f"{store}: create must be yes or no")
    return SWITCH[value]


READ: dict[str, Callable[[str, str], Any]] = {
    "prefix": _read_prefix,
    "region": lambda store, value: value,
    "poll": _read_poll,
    "create": _read_create,
}


def encode(queue_name: str) -> str:
    """Return the name of a queue in the characters that SQS allows.

    >>> encode("mail"), encode("a b"), encode("mail_dead")
    ('mail', 'a_x20b', 'mail_x5fdead')
    """
    return ESCAPED.sub(
        lambda found: "".join(f"_x{byte:02x}" for byte in found[0].encode()), queue_name
    )


def decode(name: str) -> str:
    """Return the queue name of which `encode` returned *name*.

    >>> decode("a_x20b")
    'a b'
    """
    raw = ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode())
    return raw.decode(errors="replace")
