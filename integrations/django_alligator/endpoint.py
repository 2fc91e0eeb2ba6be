"""The endpoint /alligator/… as a view of Django."""

from collections.abc import Callable, Sequence
from functools import cache
from inspect import isawaitable
from logging import Logger, getLogger
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.db.transaction import non_atomic_requests
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from alligator import Gator
from alligator.monitoring.health import Health
from alligator.web.endpoint import Endpoint
from alligator.web.http import MAX_BODY, Request, read_length

from . import configuration
from .access import is_active_staff
from .settings_gator import gator

log: Logger = getLogger("alligator")

View = Callable[..., HttpResponse]

CLOSED = (
    "You are not authorized to see this page. Log in as a staff user of this site; or send "
    "ALLIGATOR_TOKEN, if it is set, as 'Authorization: Bearer'."
)


class AlligatorEndpoint(Endpoint):
    """The pages for *gator* (one or several), below the address at which its view is included.

    *authorize* is a plain or a coroutine function that is called with the request; by default it
    admits active staff. Django handles a `PermissionDenied` or `Http404` that it raises, as it does
    for a view. For the other arguments see `alligator.web.endpoint.Endpoint`.
    """

    awaits = True
    refusals = (PermissionDenied, Http404)

    def __init__(
        self,
        gator: Gator | Sequence[Gator],
        *,
        authorize: Callable[[Any], Any] | None = is_active_staff,
        **settings: Any,
    ) -> None:
        super().__init__(gator, authorize=authorize, **settings)
        if authorize is is_active_staff:
            self.closed = CLOSED

    def __call__(self, request: HttpRequest, page: str = "") -> HttpResponse:
        """Answer a request; *page* is the part of the path below the mount."""
        allowed, refusal = False, None
        try:
            allowed = self.is_allowed(request)
        except self.refusals as error:
            refusal = error
        translated = Request(
            request.method or "",
            f"/{page.lstrip('/')}",
            allowed,
            request.META.get("QUERY_STRING", ""),
            {name.lower(): value for name, value in request.headers.items()},
            mount=request.path.removesuffix(page).removesuffix("/"),
        )
        if request.method == "POST" and self.reads_body(translated):
            translated = translated._replace(body=_body(request))
        status, headers, body = self.respond(translated, refusal)
        return HttpResponse(body, status=status, headers=dict(headers))

    def is_allowed(self, request: HttpRequest) -> bool:
        """Return whether the visitor is authorized."""
        headers = request.headers
        if self.allows(headers.get("Authorization"), headers.get("Cookie")):
            return True
        if self._authorize is None:
            return False
        try:
            answer = self._authorize.func(request)
            if isawaitable(answer):
                answer = async_to_sync(_finish)(answer)
            return self._authorize.judge(answer) is True
        except self.refusals:
            raise
        except Exception:
            log.exception("authorize raised an exception; the visitor is not authorized")
            return False


async def _finish(answer: Any) -> Any:
    return await answer


def _body(request: HttpRequest) -> bytes | None:
    """Return the body, or None if it is longer than `MAX_BODY`."""
    given = request.META.get("CONTENT_LENGTH")
    if not given and "HTTP_TRANSFER_ENCODING" in request.META:
        return None  # a chunked body, whose length is not known
    return request.body if read_length(given or "0") <= MAX_BODY else None


@cache
def endpoint() -> AlligatorEndpoint:
    """Return the endpoint of the settings."""
    return AlligatorEndpoint(
        gator,
        token=configuration.token(),
        authorize=configuration.function("AUTHORIZE"),
        actions=configuration.flag("ACTIONS"),
        details=configuration.flag("DETAILS"),
        health=health(),
    )


def health() -> Health:
    """Return the health of the gator, with the limits of the settings."""
    return Health(
        gator,
        backlog_after=configuration.setting("BACKLOG_AFTER"),
        backlog_depth=configuration.setting("BACKLOG_DEPTH"),
    )


def pages(request: HttpRequest, page: str = "") -> HttpResponse:
    """Answer a request to the endpoint of the settings."""
    return endpoint()(request, page)


def to_view(answer: View) -> View:
    """Return *answer* as a view that Django's own checks of all views leave alone.

    The endpoint checks itself who the visitor is, and that a form was sent from its own pages. A
    probe of its health needs no log-in, and no database.
    """
    view: View = csrf_exempt(login_not_required(answer))
    for alias in connections:
        view = non_atomic_requests(using=alias)(view)
    return view
