"""Reject a status or headers that no server can send by PEP 3333, before tasks are queued."""

import re
from logging import Logger, getLogger
from typing import Any

log: Logger = getLogger("alligator")

# A server may check more: a reason after the number, no hop-by-hop headers.
STATUS = re.compile(r"[1-9][0-9]{2}( [\t\x20-\x7e\x80-\xff]*)?")
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def check_head(status: Any, headers: Any) -> int:
    """Return the number of *status*; raise `ValueError` if no server can send it or the *headers*."""
    if not _matches(STATUS, status):
        _reject(f"status {status!a:.80}", "a status is a number of three digits and a reason")
    for header in headers:
        if not (isinstance(header, tuple) and len(header) == 2):
            _reject(f"header {header!a:.80}", "a header is a tuple of a name and a value")
        name, value = header
        if not _matches(NAME, name):
            _reject(f"header {name!a:.80}", "a name is a str of letters, digits and hyphens")
        if not _matches(VALUE, value):
            _reject(
                f"header {name} with {value!a:.80}",
                "a value is a str of Latin-1 without line breaks or other control characters; "
                "for file names see RFC 6266",
            )
    return int(status[:3])


def _matches(pattern: re.Pattern[str], text: Any) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def _reject(what: str, rule: str) -> None:
    message = f"no server can send the {what}: {rule}"
    log.error("%s; the tasks of the request are not queued", message)
    raise ValueError(message)
