"""Answer /alligator/… over WSGI."""

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from logging import getLogger
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from alligator import Gator
from alligator.endpoint import Endpoint

log = getLogger("alligator")


class AlligatorEndpoint:
    """A WSGI application that shows how the queue of *gator* (one or several) is.

    Mount it where it is to be found, at ``/alligator`` for instance; ``SCRIPT_NAME`` says where that
    is. *token* opens what is not for everybody (None: the one in ``ALLIGATOR_TOKEN``), and so does
    *authorize*, a function of the environ that returns whether the caller may see it.
    """

    def __init__(
        self,
        gator: Gator | Sequence[Gator],
        *,
        token: str | None = None,
        authorize: Callable[[Any], Any] | None = None,
    ) -> None:
        self.endpoint: Endpoint = Endpoint(gator, token=token)
        self.authorize = authorize

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer the request."""
        status, headers, body = self.endpoint.respond(
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO", ""),
            allowed=self.is_allowed(environ),
        )
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

    def is_allowed(self, environ: WSGIEnvironment) -> bool:
        """Whether the caller may see more than a stranger."""
        if self.endpoint.allows(environ.get("HTTP_AUTHORIZATION")):
            return True
        try:
            return self.authorize is not None and bool(self.authorize(self.to_request(environ)))
        except Exception:
            log.exception("authorize failed, so the caller is a stranger")
            return False

    def to_request(self, environ: WSGIEnvironment) -> Any:
        """Turn *environ* into what *authorize* is called with."""
        return environ
