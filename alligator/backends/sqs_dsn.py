"""Read the DSN of SQS, and write names as SQS allows them."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from ..exceptions import ConfigurationError
from .base import redact

POLL_SECONDS = 1
"""How long SQS is asked to look for messages; with 0 it looks at some of its servers only."""

DEAD = "_dead"
NAME_LENGTH = 80
SWITCH = {"yes": True, "1": True, "true": True, "no": False, "0": False, "false": False}

# A byte that SQS does not allow in a name is written _xHH; so is what would look like that, or like
# the name of a dead letter queue.
ESCAPED = re.compile(r"[^A-Za-z0-9_-]|_(?=x[0-9a-f]{2})|_(?=dead\Z)")
ESCAPE = re.compile(rb"_x([0-9a-f]{2})")

OPTIONS = ("prefix", "region", "poll", "create")


class Settings(NamedTuple):
    """What a DSN says."""

    store: str
    region: str | None = None
    endpoint: str | None = None
    prefix: str = ""
    poll: int = POLL_SECONDS
    create: bool = True


def read_dsn(conn_string: str) -> Settings:
    """Read ``sqs://region/?option=value``, or the address of a local server."""
    store = redact(conn_string)
    url, _, query = conn_string.partition("?")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if "@" in url:
        raise ConfigurationError(
            f"{store} has credentials in it, which SQS takes from elsewhere: set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
        )
    local = parts.scheme in ("sqs+http", "sqs+https")
    if (parts.scheme != "sqs" and not local) or parts.path.strip("/") or parts.fragment:
        raise ConfigurationError(
            f"{store} is not sqs://region/, nor sqs+http://host:port/ of a local server"
        )
    if local and not parts.hostname:
        raise ConfigurationError(f"{store} names no host: sqs+http://localhost:9324/")
    if not local and ":" in parts.netloc:
        raise ConfigurationError(
            f"{store}: what follows sqs:// is a region, as in sqs://eu-west-1/"
        )
    endpoint = f"{parts.scheme.removeprefix('sqs+')}://{parts.netloc}" if local else None
    settings = Settings(store, None if local else parts.netloc or None, endpoint)
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            raise ConfigurationError(f"{store} has an option that is none of: {', '.join(OPTIONS)}")
        settings = settings._replace(**{name: READ[name](store, value)})
    return settings


def _read_prefix(store: str, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,60}", value):
        raise ConfigurationError(f"{store}: prefix is not of letters, digits, - and _, up to 60")
    return value


def _read_poll(store: str, value: str) -> int:
    if not value.isdecimal() or int(value) > 20:
        raise ConfigurationError(f"{store}: poll is not a whole number of seconds from 0 to 20")
    return int(value)


def _read_create(store: str, value: str) -> bool:
    if value not in SWITCH:
        raise ConfigurationError(f"{store}: create is not yes or no")
    return SWITCH[value]


READ: dict[str, Callable[[str, str], Any]] = {
    "prefix": _read_prefix,
    "region": lambda store, value: value,
    "poll": _read_poll,
    "create": _read_create,
}


def encode(queue_name: str) -> str:
    """Write the name of a queue in the characters that SQS allows.

    >>> encode("mail"), encode("a b"), encode("mail_dead")
    ('mail', 'a_x20b', 'mail_x5fdead')
    """
    return ESCAPED.sub(
        lambda found: "".join(f"_x{byte:02x}" for byte in found[0].encode()), queue_name
    )


def decode(name: str) -> str:
    """Read the name of a queue that `encode` wrote.

    >>> decode("a_x20b")
    'a b'
    """
    raw = ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode())
    return raw.decode(errors="replace")
