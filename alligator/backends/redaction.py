"""Remove the secrets from a DSN, even from a mistyped one."""

import re
from typing import Final

HIDDEN = "***"

_WORD = re.compile(r"[\w./~-]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_USER = re.compile(r"[\w.-]*")
_ALPHANUMERIC = re.compile(r"[^\W_]")
_HOST = r"(?:\[[0-9A-Fa-f:.%]*\]|[^\[\]:@&=#;\s]*)(?::\d+)?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_PATH = re.compile(r"[^:@&=#;?]*")
_FILE = re.compile(r"[^:@]*")
_OPTION = re.compile(r"[a-z_]{1,24}")

_SECONDS = r"[\d.]{1,12}"
_WORDS = r"[\w.-]{1,64}"

SHOWN: Final[dict[str, dict[str, str]]] = {
    "sqlite": {"timeout": _SECONDS},
    "redis": {
        "ns": _WORDS,
        "timeout": _SECONDS,
        "connect_timeout": _SECONDS,
        "db": r"\d{1,6}",
        "username": _WORDS,
        "sentinel_username": _WORDS,
    },
    "postgresql": {
        "schema": _WORDS,
        "timeout": _SECONDS,
        "host": r"[\w./,%-]{1,256}",
        "port": r"[\d,]{1,64}",
        "dbname": _WORDS,
        "user": _WORDS,
        "service": _WORDS,
        "sslmode": r"[a-z-]{1,16}",
        "target_session_attrs": r"[a-z-]{1,16}",
        "application_name": _WORDS,
    },
    "sqs": {
        "prefix": _WORDS,
        "region": r"[a-z0-9-]{1,32}",
        "poll": r"\d{1,2}",
        "create": "yes|no|true|false|1|0",
    },
}
"""The options of each store whose values are not secret, and the pattern of such a value."""

_FAMILIES = {
    **dict.fromkeys(("rediss", "unix", "valkey", "valkeys"), "redis"),
    "postgres": "postgresql",
}


def redact(conn_string: str) -> str:
    """Return a DSN without its secrets, for logs and error messages.

    Text that does not fit the pattern of a DSN may be part of a password, so it is hidden, too. So is
    the value of an option that the store does not have, or that does not fit the option.

    >>> redact("redis://app:s3cret@db.example:6379/0?password=s3cret&ns=shop")
    'redis://app:***@db.example:6379/0?password=***&ns=shop'
    >>> redact("redis://s3cret@db.example/0"), redact("redis:/app:s3cret@db.example")
    ('redis://***@db.example/0', '***')
    """
    scheme, mark, rest = conn_string.partition("://")
    if not mark:
        return conn_string if _WORD.fullmatch(conn_string) else HIDDEN
    if not _SCHEME.fullmatch(scheme):
        return HIDDEN
    address, question, query = rest.partition("?")
    if "@" in query:  # the question mark may belong to the password
        return f"{scheme}://{HIDDEN}"
    # The last @ ends the credentials: a password may hold one itself, and a slash too.
    credentials, at, location = address.rpartition("@")
    hosts, _, path = location.partition("/")
    path_pattern = _FILE if scheme == "sqlite" else _PATH
    if not _HOSTS.fullmatch(hosts) or not path_pattern.fullmatch(path):
        location = HIDDEN
    shown_query = HIDDEN if location.endswith(HIDDEN) else _options(scheme, query)
    return f"{scheme}://{_login(credentials)}{at}{location}{question}{shown_query if query else ''}"


def _login(credentials: str) -> str:
    """Return credentials without the password; with the user name, if they have one."""
    user, _, password = credentials.partition(":")
    if not credentials:
        return ""
    # Without a letter or digit behind it, what stands before the colon may be the password itself.
    is_login = _ALPHANUMERIC.search(password) and _USER.fullmatch(user)
    return f"{user}:{HIDDEN}" if is_login else HIDDEN


def _options(scheme: str, query: str) -> str:
    """Return the options with their secret values hidden; also a field that has no value."""
    family = scheme.partition("+")[0]
    known = SHOWN.get(_FAMILIES.get(family, family), {})
    shown = []
    for field in query.split("&"):
        name, equals, value = field.partition("=")
        if equals and name in known and re.fullmatch(known[name], value, re.ASCII):
            shown.append(field)
        elif field:
            shown.append(f"{name}={HIDDEN}" if equals and _OPTION.fullmatch(name) else HIDDEN)
    return "&".join(shown)
