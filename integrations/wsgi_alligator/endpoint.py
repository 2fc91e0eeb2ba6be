"""Answer /alligator/… over WSGI."""

from collections.abc import Iterable
from http import HTTPStatus
from logging import Logger, getLogger
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from alligator.endpoint import Endpoint
from alligator.http import MAX_BODY, Request

log: Logger = getLogger("alligator")


class AlligatorEndpoint(Endpoint):
    """A WSGI application that shows how the queue of *gator* (one or several) is.

    Mount it where it is to be found, at ``/alligator`` for instance; ``SCRIPT_NAME`` says where that
    is. *authorize* is a function of the environ. All else is told by `alligator.endpoint.Endpoint`.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer the request."""
        request = Request(
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO", ""),
            self.is_allowed(environ),
            environ.get("QUERY_STRING", ""),
            _headers(environ),
            mount=environ.get("SCRIPT_NAME", ""),
        )
        if request.allowed and request.method == "POST":
            request = request._replace(body=_body(environ))
        status, headers, body = self.respond(request)
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

    def is_allowed(self, environ: WSGIEnvironment) -> bool:
        """Whether the caller may see more than a stranger."""
        if self.allows(environ.get("HTTP_AUTHORIZATION")):
            return True
        try:
            return self.authorize is not None and bool(self.authorize(self.to_request(environ)))
        except Exception:
            log.exception("authorize failed, so the caller is a stranger")
            return False

    def to_request(self, environ: WSGIEnvironment) -> Any:
        """Turn *environ* into what *authorize* is called with."""
        return environ


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    headers = {
        key[5:].replace("_", "-").lower(): value
        for key, value in environ.items()
        if key.startswith("HTTP_")
    }
    return {**headers, "content-type": environ.get("CONTENT_TYPE", "")}


def _body(environ: WSGIEnvironment) -> bytes | None:
    """Read the body, if it is no longer than it may be."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if environ.get("wsgi.input_terminated") and not environ.get("CONTENT_LENGTH"):
        length = str(MAX_BODY + 1)  # it comes in chunks, and says itself where it ends
    elif not length.isdecimal() or int(length[:9]) > MAX_BODY:
        return None
    body: bytes = environ["wsgi.input"].read(int(length))
    return body if len(body) <= MAX_BODY else None
