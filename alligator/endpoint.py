"""Decide what /alligator/… answers, free of any protocol: WSGI and ASGI only carry it.

Health is for everybody, its details and all else for those who are allowed. Nothing in an answer is
taken from the request, and no answer holds a DSN; a traceback or what a task was given only when the
owner has asked for it.
"""

import hmac
import os
from collections.abc import Callable, Sequence
from logging import Logger, getLogger
from typing import Any
from urllib.parse import quote

from .constants import FAIL, PASS
from .csrf import Csrf, is_same_origin, new_cookie, set_cookie
from .dashboard import Actions, Dashboard
from .dashboard.actions import WrongAction
from .dashboard.view import Look
from .exceptions import ConfigurationError, MissingExtra
from .gator import Gator
from .health import Health
from .http import (
    FORM,
    HEALTH_JSON,
    JSON,
    Request,
    Response,
    answer,
    answer_json,
    problem,
    read_form,
    redirect,
)
from .openapi import describe
from .stats import measure
from .stores import find_stores

log: Logger = getLogger("alligator")

MIN_TOKEN = 16
"""A token with fewer characters can be guessed; it is taken, with a warning in the log."""

CLOSED = (
    "This page is closed to you. Its owner opens it by setting ALLIGATOR_TOKEN and sending "
    "'Authorization: Bearer' with that token, or by giving the endpoint authorize=."
)
READ_ONLY = "Nothing can be changed here. Its owner allows it by giving the endpoint actions=True."
FOREIGN = (
    "This did not come from a form of this page, or from one that is too old. Load the page anew, "
    "or send the token as 'Authorization: Bearer'."
)
AWAY = "The store cannot be asked right now."

Page = Callable[[Request], Response]


class Endpoint:
    """The answers for one gator or several.

    *token* opens what is not for everybody; when it is None it is read from ``ALLIGATOR_TOKEN``.
    *authorize*, a function of the request as the protocol has it, opens it too, for those that it
    returns true for. Without either it stays closed. *actions* lets those who are allowed retry,
    drop and cancel tasks; *details* shows them what tasks were given, and tracebacks. *health*
    is asked by probes, when a project has thresholds or checks of its own.
    """

    def __init__(
        self,
        gator: Gator | Sequence[Gator],
        *,
        token: str | None = None,
        authorize: Callable[[Any], Any] | None = None,
        actions: bool = False,
        details: bool = False,
        health: Health | None = None,
    ) -> None:
        self.authorize = authorize
        self._gators = [gator] if isinstance(gator, Gator) else list(gator)
        self._token = _check_token(token)
        self.health: Health = health or Health(self._gators)
        self._actions = Actions(self._gators) if actions else None
        self._dashboard = Dashboard(self._gators, actions=actions, details=details)
        # What all processes of a site have in common, and nobody else knows.
        self._csrf = Csrf([self._token, *(each.conn_string for each in self._gators)])
        self._pages: dict[str, dict[str, Page]] = {
            "": {"GET": self._show},
            "/actions": {"POST": self._act},
            "/health": {"GET": self._ready},
            "/health/ready": {"GET": self._ready},
            "/health/live": {"GET": self._live},
            "/stats": {"GET": self._stats},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": self._openapi},
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

    def respond(self, request: Request) -> Response:
        """Answer *request*; this raises nothing.

        It waits for the store, so an event loop should call it in a thread.
        """
        response = self._find_answer(request)
        return response._replace(body=b"") if request.method == "HEAD" else response

    def _find_answer(self, request: Request) -> Response:
        path = request.path
        if not path and request.mount.strip("/"):
            # What the page links to is relative, and only right below the slash.
            return redirect(308, f"./{quote(request.mount.rstrip('/').rpartition('/')[2])}/")
        pages = self._pages.get(path.removesuffix("/"))
        if pages is None:
            return problem(request, 404, "Not Found", "There is nothing here.")
        page = pages.get("GET" if request.method == "HEAD" else request.method)
        if page is None:
            methods = "GET, HEAD" if "GET" in pages else "POST"
            response = problem(
                request, 405, "Method Not Allowed", f"Use {methods.replace(', ', ' or ')}."
            )
            response.headers.append(("Allow", methods))
            return response
        try:
            return page(request)
        except MissingExtra as error:
            return problem(request, 501, "Not Implemented", str(error))
        except Exception as error:  # a store may be anybody's, and an answer is owed all the same
            log.warning("the store cannot be asked: %s", type(error).__name__)
            return problem(request, 503, "Service Unavailable", AWAY)

    # For everybody.

    def _live(self, request: Request) -> Response:
        # The process answers, and that is all: a store that is away is not mended by a restart.
        return answer_json(200, HEALTH_JSON, {"status": PASS})

    def _ready(self, request: Request) -> Response:
        verdict = self.health.verdict()
        document = verdict.document() if request.allowed else {"status": verdict.status}
        return answer_json(503 if verdict.status == FAIL else 200, HEALTH_JSON, document)

    # For those who are allowed.

    def _stats(self, request: Request) -> Response:
        if not request.allowed:
            return problem(request, 403, "Forbidden", CLOSED)
        return answer_json(200, JSON, measure(self._gators))

    def _metrics(self, request: Request) -> Response:
        if not request.allowed:
            return problem(request, 403, "Forbidden", CLOSED)
        from .metrics import Metrics  # prometheus_client: who is not scraped does not need it

        media_type, text = Metrics(self._gators, self.health).write(
            request.headers.get("accept", "")
        )
        response = answer(200, media_type, text)
        response.headers.append(("Vary", "Accept"))
        return response

    def _openapi(self, request: Request) -> Response:
        if not request.allowed:
            return problem(request, 403, "Forbidden", CLOSED)
        return answer_json(200, JSON, describe(len(find_stores(self._gators))))

    def _show(self, request: Request) -> Response:
        if not request.allowed:
            return problem(request, 403, "Forbidden", CLOSED)
        verdict = self.health.verdict()
        if self._actions is None:
            return self._dashboard.draw(request, verdict)
        cookie = self._csrf.cookie_of(request.headers)
        fresh = "" if cookie else new_cookie()
        response = self._dashboard.draw(request, verdict, self._csrf.sign(cookie or fresh))
        if fresh:
            response.headers.append(("Set-Cookie", set_cookie(fresh)))
        return response

    def _act(self, request: Request) -> Response:
        if not request.allowed:
            return problem(request, 403, "Forbidden", CLOSED)
        if self._actions is None:
            return problem(request, 403, "Forbidden", READ_ONLY)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
            return problem(request, 415, "Unsupported Media Type", f"Send {FORM}.")
        if request.body is None:
            return problem(request, 413, "Content Too Large", "Choose fewer tasks at a time.")
        fields = read_form(request.body.decode(errors="replace"))
        form = dict(fields)
        if not self._is_ours(request, form.get("csrf", "")):
            return problem(request, 403, "Forbidden", FOREIGN)
        try:
            done = self._actions.perform(fields)
        except WrongAction as error:
            return problem(request, 422, "Unprocessable Content", str(error))
        up = "../" if request.path.endswith("/") else "./"
        look = Look.read(request.query)._replace(task="", of="", done=done)
        return redirect(
            303, f"{up}{look.query}#{'scheduled' if form['do'] == 'cancel' else 'dead'}"
        )

    def _is_ours(self, request: Request, given: str) -> bool:
        """Whether nobody but the caller can have wished for it.

        A browser sends cookies, and what else the application trusts, with the forms of other sites
        as well. Nothing but a program of the owner's sends the token.
        """
        same_origin = is_same_origin(request.headers)
        if self.allows(request.headers.get("authorization")):
            return same_origin is not False
        return bool(same_origin) and self._csrf.accepts(request.headers, given)


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
