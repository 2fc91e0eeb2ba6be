"""Decide what /alligator/… answers, free of any protocol: WSGI and ASGI only carry it.

Health is for everybody, its details and all else for those who are allowed. Nothing in an answer is
taken from the request, and no answer holds a DSN, a traceback or what a task was given.
"""

import hmac
import os
from collections.abc import Callable, Sequence
from json import dumps
from logging import getLogger
from typing import Any, NamedTuple

from .constants import FAIL, PASS
from .exceptions import ConfigurationError
from .gator import Gator
from .health import BACKLOG_SECONDS, Health
from .stats import measure

log = getLogger("alligator")

MIN_TOKEN = 16
"""A token with fewer characters can be guessed; it is taken, with a warning in the log."""

HEALTH_JSON = "application/health+json"
PROBLEM_JSON = "application/problem+json"
JSON = "application/json"

CLOSED = (
    "This page is closed to you. Its owner opens it by setting ALLIGATOR_TOKEN and sending "
    "'Authorization: Bearer' with that token, or by giving the endpoint authorize=."
)


class Response(NamedTuple):
    """An answer, for a protocol to send as it is."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Endpoint:
    """The answers for one gator or several.

    *token* opens what is not for everybody; when it is None it is read from ``ALLIGATOR_TOKEN``, and
    without any it stays closed. `respond` waits for the store, so an event loop should call it in
    a thread.
    """

    def __init__(
        self,
        gator: Gator | Sequence[Gator],
        *,
        token: str | None = None,
        backlog_after: float = BACKLOG_SECONDS,
    ) -> None:
        self._gators = [gator] if isinstance(gator, Gator) else list(gator)
        self._token = _check_token(token)
        self._health = Health(self._gators, backlog_after=backlog_after)
        self._pages: dict[str, Callable[[bool], Response]] = {
            "/health": self._ready,
            "/health/ready": self._ready,
            "/health/live": self._live,
            "/stats": self._stats,
        }

    def allows(self, authorization: str | None) -> bool:
        """Whether an ``Authorization`` header holds the token."""
        if not self._token or not authorization:
            return False
        scheme, _, given = authorization.strip().partition(" ")
        # In constant time; in bytes, for a str that is not ASCII would raise.
        same = hmac.compare_digest(
            given.strip().encode(errors="backslashreplace"), self._token.encode()
        )
        return same and scheme.lower() == "bearer"

    def respond(self, method: str, path: str, *, allowed: bool) -> Response:
        """Answer *method* on *path*, which begins after the mount: ``/health``; this raises nothing.

        *allowed* says whether the caller may see more than a stranger.
        """
        page = self._pages.get(path) or self._pages.get(path.removesuffix("/"))
        if page is None:
            response = _problem(404, "Not Found", "There is nothing here.")
        elif method not in ("GET", "HEAD"):
            response = _problem(405, "Method Not Allowed", "Use GET or HEAD.")
            response.headers.append(("Allow", "GET, HEAD"))
        else:
            response = page(allowed)
        return response._replace(body=b"") if method == "HEAD" else response

    def _live(self, allowed: bool) -> Response:
        # The process answers, and that is all: a store that is away is not mended by a restart.
        return _json(200, HEALTH_JSON, {"status": PASS})

    def _ready(self, allowed: bool) -> Response:
        verdict = self._health.check()
        document = verdict.document() if allowed else {"status": verdict.status}
        return _json(503 if verdict.status == FAIL else 200, HEALTH_JSON, document)

    def _stats(self, allowed: bool) -> Response:
        if not allowed:
            return _problem(403, "Forbidden", CLOSED)
        try:
            return _json(200, JSON, measure(self._gators))
        except Exception as error:  # a store may be anybody's, and an answer is owed all the same
            log.warning("the store cannot be measured: %s", type(error).__name__)
            return _problem(503, "Service Unavailable", "The store cannot be asked right now.")


def _check_token(token: str | None) -> str:
    """Find the token to use, empty for none."""
    if token is None:
        token = os.environ.get("ALLIGATOR_TOKEN", "").strip()
    elif not token.strip():
        raise ConfigurationError(
            "The token is empty, and would let in nobody or anybody: leave it out to keep the "
            "endpoint closed, or make one with: python -c 'import secrets; "
            "print(secrets.token_urlsafe())'."
        )
    token = token.strip()
    if not token.isascii():
        raise ConfigurationError("A token travels in a header: use letters and digits of ASCII.")
    if token and len(token) < MIN_TOKEN:
        log.warning("the token of the endpoint is short: give it %d characters or more", MIN_TOKEN)
    return token


def _problem(status: int, title: str, detail: str) -> Response:
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return _json(status, PROBLEM_JSON, problem)


def _json(status: int, media_type: str, document: dict[str, Any]) -> Response:
    body = dumps(document).encode() + b"\n"
    headers = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Response(status, headers, body)
