"""Idempotency keys: a request that is repeated under its key queues its tasks once."""

import json
import re
from collections.abc import Callable
from hashlib import blake2b
from logging import Logger, getLogger
from typing import Any, NamedTuple
from uuid import UUID

from .._runtime.predicates import is_coroutine_function
from ..constants import LONG_COMMIT_ID
from ..exceptions import ConfigurationError

log: Logger = getLogger("alligator")

Client = str | int | UUID
"""What identifies a client."""

ClientOf = Callable[[Any], Client | None]
"""Returns what identifies the client of a request; None if nothing does."""

DEFAULT_HEADER = "Idempotency-Key"
"""The header of the IETF's draft-ietf-httpapi-idempotency-key-header."""

HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")


class RequestLine(NamedTuple):
    """What a key is read from, besides what a function of the project reads."""

    method: str
    path: str
    header: Callable[[str], str]
    """Returns the value of a header, whose name is in lower case; empty if it is missing."""


class IdempotencyKeys:
    """Turns the key of a request into the id of its commit.

    The id depends on the method, the path, the client and the key. So a client cannot reuse the key
    of another. *client_of* returns what identifies the client. Without it, the credentials do: the
    headers ``Authorization`` and ``Cookie``. The key of a request whose client is unknown is ignored,
    because another client may have used the same.
    """

    def __init__(self, header: bool | str, client_of: ClientOf | None) -> None:
        name = DEFAULT_HEADER if header is True else header
        if not isinstance(name, str) or not HEADER_NAME.fullmatch(name):
            raise ConfigurationError(
                "idempotency_key must be True, for the header Idempotency-Key, or the name of another "
                f"header, not {header!r:.80}."
            )
        if client_of is not None and not callable(client_of):
            raise ConfigurationError(
                "idempotency_client must be a function of the request that returns what identifies "
                f"its client, not {client_of!r:.80}."
            )
        if is_coroutine_function(client_of):
            raise ConfigurationError(
                "idempotency_client must be a plain function, not a coroutine function."
            )
        self.header: str = name.lower()
        self._client_of = client_of
        self._has_warned = False

    def commit_id(self, line: RequestLine, to_request: Callable[[], Any]) -> str | None:
        """Return the id under which the request commits; None if it has no key, or no known client."""
        key = line.header(self.header).strip()
        if not key:
            return None
        client = self._client(line, to_request)
        if client is None:
            if not self._has_warned:
                self._has_warned = True
                log.warning(
                    "ignored the idempotency key of %s %a: the request has neither credentials nor "
                    "cookies, so nothing identifies its client; pass idempotency_client",
                    *(line.method, line.path[:200]),
                )
            return None
        # JSON keeps the parts apart, whatever they contain.
        parts = json.dumps([line.method, line.path, client, key])
        return LONG_COMMIT_ID + blake2b(parts.encode(), digest_size=20).hexdigest()

    def _client(self, line: RequestLine, to_request: Callable[[], Any]) -> list[str] | None:
        if self._client_of is None:
            credentials = [line.header("authorization"), line.header("cookie")]
            return credentials if any(credentials) else None
        client = self._client_of(to_request())
        if client is None:
            return None
        if isinstance(client, bool) or not isinstance(client, Client):
            raise ConfigurationError(
                "idempotency_client must return what identifies the client, a str, an int or a UUID, or "
                f"None if nothing does; it returned a {type(client).__name__}."
            )
        return [type(client).__name__, str(client)]


def make_keys(header: bool | str | None, client_of: ClientOf | None) -> IdempotencyKeys | None:
    """Return the keys of a middleware with these arguments; None if keys are switched off."""
    if header is None or header is False:
        if client_of is not None:
            raise ConfigurationError("idempotency_client has no effect without idempotency_key.")
        return None
    return IdempotencyKeys(header, client_of)
