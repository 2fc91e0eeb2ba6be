"""The pages under /alligator/, independent of the protocol; adapters for WSGI and ASGI use them.

The health status is public; its details and all other pages need authorization. No response repeats
anything of the request or contains a DSN. Tracebacks and arguments of tasks appear only if the owner
has enabled them.
"""

import hmac
import os
from collections.abc import Callable, Sequence
from importlib.resources import files
from logging import Logger, getLogger
from typing import Any, ClassVar
from urllib.parse import quote

from .._runtime.failures import describe
from .._runtime.predicates import Predicate
from ..constants import FAIL, HEALTH_JSON, PASS
from ..exceptions import BackendError, ConfigurationError, MissingExtra
from ..gator import Gator
from ..monitoring.health import Health
from ..monitoring.stats import measure
from ..telemetry.logs import get_log
from .dashboard import Actions, Dashboard
from .dashboard.actions import WrongAction
from .dashboard.login import Sessions, read_token, render_login, set_session
from .dashboard.page_query import PageQuery
from .http import (
    FORM,
    JSON,
    Request,
    Response,
    make_json_response,
    make_response,
    problem,
    read_form,
    redirect,
)
from .same_origin import is_same_origin

log: Logger = getLogger("alligator")

MIN_TOKEN = 16
"""A token with fewer characters can be guessed; it works, with a warning in the log."""

SECTIONS = {
    "cancel": "scheduled",
    "cancel-running": "running",
    "pause": "queues",
    "resume": "queues",
    "run": "schedules",
}
"""The section of the page to which an action leads back; that of the dead tasks if it is not here."""

CLOSED = (
    "You are not authorized to see this page. Set ALLIGATOR_TOKEN, and enter it in a browser or send "
    "it as 'Authorization: Bearer'; or give the endpoint authorize=."
)
READ_ONLY = "The actions are turned off. The owner turns them on with actions=True of the endpoint."
CROSS_SITE = (
    "The browser does not say that this form was sent from this page. Use the buttons of the page, "
    "or send the token as 'Authorization: Bearer'."
)
UNREACHABLE = "The store does not answer. Try again later; the log of the server has the reason."
INTERNAL_ERROR = "This page failed. The log of the server has the reason."

Page = Callable[[Request], Response]

PUBLIC = frozenset(["/health", "/health/ready", "/health/live", "/login", "/logout"])
"""The pages that need no authorization."""


class Endpoint:
    """The pages for one gator or several.

    *token* authorizes a caller; None reads it from ``ALLIGATOR_TOKEN``. *authorize* is a function of
    the protocol's request and authorizes the caller if it returns True; any other value refuses. It
    may be a coroutine function if the protocol has an event loop. Without either, all but the
    public pages are closed. *actions* lets authorized callers retry, drop and cancel tasks and
    run schedules. *details* shows them arguments and tracebacks. *health* replaces the default
    `Health`, for a project that has limits or checks of its own.
    """

    awaits: bool = False
    """Whether the protocol has an event loop."""
    refusals: ClassVar[tuple[type[Exception], ...]] = ()
    """What *authorize* may raise to respond with something else than a 403, such as a log-in page."""
    closed: str = CLOSED
    """What a page says to visitors without authorization."""

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
        self._authorize: Predicate | None = None
        if authorize is not None:
            self._authorize = Predicate("authorize", authorize, awaits=self.awaits)
        self._gators = [gator] if isinstance(gator, Gator) else list(gator)
        self._token = _check_token(token)
        self.health: Health = health or Health(self._gators)
        self._actions = Actions(self._gators) if actions else None
        self._dashboard = Dashboard(self._gators, actions=actions, details=details)
        self._sessions = Sessions(self._token)
        self._pages: dict[str, dict[str, Page]] = {
            "": {"GET": self._show},
            "/login": {"GET": self._show_login, "POST": self._log_in},
            "/logout": {"POST": self._log_out},
            "/actions": {"POST": self._act},
            "/health": {"GET": self._ready},
            "/health/ready": {"GET": self._ready},
            "/health/live": {"GET": self._live},
            "/stats": {"GET": self._stats},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": self._openapi},
        }

    def allows(self, authorization: str | None, cookies: str | None = None) -> bool:
        """Return whether these two headers show that the caller has the token."""
        if not self._token:
            return False
        return self._is_token(read_token(authorization or "")) or self._sessions.accept(
            cookies or ""
        )

    def reads_body(self, request: Request) -> bool:
        """Return whether to read the body of a POST; without authorization only that of a log-in."""
        return request.allowed or (bool(self._token) and request.path.removesuffix("/") == "/login")

    def _is_token(self, given: str) -> bool:
        # Takes constant time. A str that is not ASCII would raise, so bytes are compared.
        return hmac.compare_digest(given.encode(errors="backslashreplace"), self._token.encode())

    def respond(self, request: Request, refusal: Exception | None = None) -> Response:
        """Return the response; raise *refusal*, if there is one, instead of a page that is closed.

        Raises nothing else. It waits for the store, so an event loop must call it in a thread.
        """
        page = request.path.removesuffix("/")
        if refusal is not None and page in self._pages and page not in PUBLIC:
            raise refusal
        response = self._route(request)
        return response._replace(body=b"") if request.method == "HEAD" else response

    def _route(self, request: Request) -> Response:
        path = request.path
        if not path and request.mount.strip("/"):
            # The links of the page are relative, so its address must end with a slash.
            return redirect(308, f"./{quote(request.mount.rstrip('/').rpartition('/')[2])}/")
        pages = self._pages.get(path.removesuffix("/"))
        if pages is None:
            return problem(request, 404, "Not Found", "There is no such page.")
        page = pages.get("GET" if request.method == "HEAD" else request.method)
        if page is None:
            methods = [*(("GET", "HEAD") if "GET" in pages else ()), *({"POST"} & pages.keys())]
            response = problem(request, 405, "Method Not Allowed", f"Use {' or '.join(methods)}.")
            response.headers.append(("Allow", ", ".join(methods)))
            return response
        if not request.allowed and path.removesuffix("/") not in PUBLIC:
            page = self._closed
        try:
            return page(request)
        except MissingExtra as error:
            return problem(request, 501, "Not Implemented", str(error))
        except BackendError as error:
            log.warning("%s cannot read the store: %s", path or "/", describe(error))
            return problem(request, 503, "Service Unavailable", UNREACHABLE)
        except Exception as error:  # a bug of ours or of a custom store
            log.error("%s failed: %s", path or "/", describe(error), exc_info=error)
            return problem(request, 500, "Internal Server Error", INTERNAL_ERROR)

    # Public pages.

    def _live(self, request: Request) -> Response:
        # Only that the process answers: a restart does not help against an unreachable store.
        return make_json_response(200, HEALTH_JSON, {"status": PASS})

    def _ready(self, request: Request) -> Response:
        verdict = self.health.verdict()
        document = verdict.document() if request.allowed else {"status": verdict.status}
        return make_json_response(503 if verdict.status == FAIL else 200, HEALTH_JSON, document)

    def _closed(self, request: Request) -> Response:
        """Return the 403: for a browser the log-in page, if there is a token."""
        if not self._token or not request.is_from_a_browser() or request.method == "POST":
            return problem(request, 403, "Forbidden", self.closed)
        return render_login(_relative(request, "login"))

    def _show_login(self, request: Request) -> Response:
        return redirect(303, _relative(request, "")) if request.allowed else self._closed(request)

    def _log_in(self, request: Request) -> Response:
        if not self._token:
            return self._closed(request)
        refusal = _refuse_form(request)
        if refusal is not None:
            return refusal
        given = dict(read_form((request.body or b"").decode(errors="replace"))).get("token", "")
        # A form of another site must not log a browser in.
        if not is_same_origin(request.headers):
            return problem(request, 403, "Forbidden", CROSS_SITE)
        if not self._is_token(given.strip()):
            log.warning("dashboard: a log-in failed, because the token was wrong")
            if request.is_from_a_browser():
                return render_login(_relative(request, "login"), wrong=True)
            return problem(request, 403, "Forbidden", self.closed)
        response = redirect(303, _relative(request, ""))
        cookie = set_session(self._sessions.begin(), request.headers)
        response.headers.append(("Set-Cookie", cookie))
        return response

    def _log_out(self, request: Request) -> Response:
        if not is_same_origin(request.headers):
            return problem(request, 403, "Forbidden", CROSS_SITE)
        response = redirect(303, _relative(request, ""))
        response.headers.append(("Set-Cookie", set_session("", request.headers)))
        return response

    # Pages that need authorization.

    def _stats(self, request: Request) -> Response:
        return make_json_response(200, JSON, measure(self._gators))

    def _metrics(self, request: Request) -> Response:
        # It imports prometheus_client, which only this page needs.
        from ..monitoring.metrics import Metrics

        media_type, text = Metrics(self._gators, self.health).write(
            request.headers.get("accept", "")
        )
        response = make_response(200, media_type, text)
        response.headers.append(("Vary", "Accept"))
        return response

    def _openapi(self, request: Request) -> Response:
        return make_response(
            200, JSON, files("alligator.web").joinpath("openapi.json").read_bytes()
        )

    def _show(self, request: Request) -> Response:
        verdict = self.health.verdict()
        has_session = self._sessions.accept(request.headers.get("cookie", ""))
        return self._dashboard.render(request, verdict, has_session=has_session)

    def _act(self, request: Request) -> Response:
        if self._actions is None:
            return problem(request, 403, "Forbidden", READ_ONLY)
        refusal = _refuse_form(request)
        if refusal is not None:
            return refusal
        fields = read_form((request.body or b"").decode(errors="replace"))
        form = dict(fields)
        if not self._is_own_form(request):
            return problem(request, 403, "Forbidden", CROSS_SITE)
        try:
            done = self._actions.perform(fields)
        except WrongAction as error:
            return problem(request, 422, "Unprocessable Content", str(error))
        query = PageQuery.parse(request.query)._replace(task="", of="", done=done).encoded
        section = SECTIONS.get(done) or SECTIONS.get(form["do"], "dead")
        return redirect(303, f"{_relative(request, '')}{query}#{section}")

    def _is_own_form(self, request: Request) -> bool:
        """Return whether the caller sent the form, rather than another site through its browser.

        A browser also adds cookies, and other credentials that the application trusts, to forms of
        other sites. No browser adds a Bearer token by itself; it comes from a program of the owner.
        """
        same_origin = is_same_origin(request.headers)
        authorization = request.headers.get("authorization", "").strip()
        # Only Bearer: a browser that knows the password of Basic sends it with any form.
        if authorization.lower().startswith("bearer ") and self.allows(authorization):
            return same_origin is not False
        return bool(same_origin)


def _relative(request: Request, page: str) -> str:
    """Return the relative address of a page; a proxy may add a prefix to the absolute one."""
    return f"{'../' if len(request.path) > 1 and request.path.endswith('/') else './'}{page}"


def _refuse_form(request: Request) -> Response | None:
    """Return an error if the body is not a form; otherwise None."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        return problem(request, 415, "Unsupported Media Type", f"Send {FORM}.")
    if request.body is None:
        return problem(
            request, 413, "Content Too Large", "The form is too long: choose fewer tasks."
        )
    return None


def _check_token(token: str | None) -> str:
    """Return the token to use; empty for none."""
    if not isinstance(token, str | None):
        raise ConfigurationError(f"The token must be a str, not a {type(token).__name__}.")
    if token is None:
        token = os.environ.get("ALLIGATOR_TOKEN", "").strip()
    elif not token.strip():
        raise ConfigurationError(
            "The token is empty. Leave it out to keep the endpoint closed, or make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'."
        )
    token = token.strip()
    if not token.isascii():
        raise ConfigurationError("The token is sent in a header: use ASCII letters and digits.")
    if token and len(token) < MIN_TOKEN:
        get_log(log.level).warning(  # with a handler: the application may have no logging yet
            "the token of the endpoint can be guessed: give ALLIGATOR_TOKEN %d characters or more",
            MIN_TOKEN,
        )
    return token
