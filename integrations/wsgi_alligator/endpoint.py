"""The endpoint /alligator/… as a WSGI application."""

from collections.abc import Iterable
from http import HTTPStatus
from logging import Logger, getLogger
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from alligator.web.endpoint import Endpoint
from alligator.web.http import MAX_BODY, Request, read_length

log: Logger = getLogger("alligator")


class AlligatorEndpoint(Endpoint):
    """A WSGI application with health, stats, metrics and dashboard of *gator* (one or several).

    Mount it at any path, such as ``/alligator``; it reads its mount point from ``SCRIPT_NAME``.
    *authorize* is called with the environ. For the other arguments see
    `alligator.web.endpoint.Endpoint`.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer the request."""
        allowed, refusal = False, None
        try:
            allowed = self.is_allowed(environ)
        except self.refusals as error:
            refusal = error
        request = Request(
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO", ""),
            allowed,
            environ.get("QUERY_STRING", ""),
            _headers(environ),
            mount=environ.get("SCRIPT_NAME", ""),
        )
        if request.method == "POST" and self.reads_body(request):
            request = request._replace(body=_body(environ))
        status, headers, body = self.respond(request, refusal)
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

    def is_allowed(self, environ: WSGIEnvironment) -> bool:
        """Return whether the visitor is authorized."""
        if self.allows(environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_COOKIE")):
            return True
        if self._authorize is None:
            return False
        try:
            return self._authorize(self.to_request(environ)) is True
        except self.refusals:
            raise
        except Exception:
            log.exception("authorize raised an exception; the visitor is not authorized")
            return False

    def to_request(self, environ: WSGIEnvironment) -> Any:
        """Return the argument of *authorize* for *environ*."""
        return environ


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    headers = {
        key[5:].replace("_", "-").lower(): value
        for key, value in environ.items()
        if key.startswith("HTTP_")
    }
    return {**headers, "content-type": environ.get("CONTENT_TYPE", "")}


def _body(environ: WSGIEnvironment) -> bytes | None:
    """Return the body, or None if it is longer than `MAX_BODY`."""
    length = read_length(environ.get("CONTENT_LENGTH") or "0")
    if environ.get("wsgi.input_terminated") and not environ.get("CONTENT_LENGTH"):
        length = MAX_BODY + 1  # a chunked body, whose end the server detects
    elif length > MAX_BODY:
        return None
    body: bytes = environ["wsgi.input"].read(length)
    return body if len(body) <= MAX_BODY else None
