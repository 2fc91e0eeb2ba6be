"""The middleware and the endpoint of WSGI, with a Flask request in place of the environ."""

from typing import Any
from wsgiref.types import WSGIEnvironment

from flask import Flask, Request

import wsgi_alligator
from alligator import Gator


class AlligatorMiddleware(wsgi_alligator.AlligatorMiddleware):
    """Call the function given as *options* with a `flask.Request`."""

    def to_request(self, raw: WSGIEnvironment) -> Request:
        """Make the request that *options* is called with."""
        return to_request(raw)


class AlligatorEndpoint(wsgi_alligator.AlligatorEndpoint):
    """Call *authorize* with a `flask.Request`, and where `flask.session` is that of the request."""

    def __init__(self, app: Flask, gator: Gator, **settings: Any) -> None:
        super().__init__(gator, **settings)
        self._app = app

    def is_allowed(self, environ: WSGIEnvironment) -> bool:
        """Whether the caller may see more than a stranger."""
        if self.authorize is None:
            return super().is_allowed(environ)
        with self._app.request_context(environ):
            return super().is_allowed(environ)

    def to_request(self, environ: WSGIEnvironment) -> Request:
        """Make the request that *authorize* is called with."""
        return to_request(environ)


def to_request(environ: WSGIEnvironment) -> Request:
    """Make a request of which all but the body can be read: that is left to the view."""
    return Request(environ, populate_request=False, shallow=True)
