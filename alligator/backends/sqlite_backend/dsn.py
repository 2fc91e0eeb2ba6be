"""Read the DSN of SQLite: the path of a file, and its options."""

import re
from urllib.parse import parse_qsl

from ...exceptions import ConfigurationError
from ..base import redact

CREDENTIALS = re.compile(r"[^/]*[:@]|/+[^/]*:.*@")
"""How a path begins that is probably meant as a host, or as a user and a password."""


def read_dsn(conn_string: str) -> tuple[str, float]:
    """Return the path of a DSN, and its timeout in seconds."""
    path, _, query = conn_string.partition("://")[2].partition("?")
    if path.strip("/") != ":memory:" and CREDENTIALS.match(path):
        # The path becomes part of log lines and errors, and this one may contain a password.
        raise ConfigurationError(
            f"{redact(conn_string)}: sqlite:// has no host, user or password, only the path of a file. "
            "A relative path with : or @ begins with ./, as in sqlite://./a@b.db."
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    timeout = options.pop("timeout", "2")
    if options:
        raise ConfigurationError(f"{redact(conn_string)}: the only option of sqlite:// is timeout.")
    try:
        seconds = float(timeout)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 3600:
        raise ConfigurationError(
            f"{redact(conn_string)}: timeout must be a number of seconds, above 0 and below 3600."
        )
    if path.strip("/") == ":memory:":
        raise ConfigurationError(
            "SQLite's :memory: cannot be shared between connections: use locmem:// instead."
        )
    if "\0" in path:
        raise ConfigurationError(
            "The path of the DSN contains a NUL character, which no file name may contain."
        )
    if not path or path.endswith("/"):
        raise ConfigurationError(
            "The DSN names no file: sqlite:///var/lib/app/queue.db is an absolute path, "
            "sqlite://queue.db is relative to the current directory."
        )
    return path, seconds


def absolute_path_hint(path: str) -> str:
    """Return a hint for an absolute *path* that cannot be opened; empty for a relative one."""
    relative = path.lstrip("/")
    if path == relative:
        return ""
    return f"Three slashes mean an absolute path: sqlite://{relative} is a relative one."
