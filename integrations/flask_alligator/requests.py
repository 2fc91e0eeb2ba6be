"""The WSGI middleware and endpoint, whose functions get a Flask request in place of the environ."""

from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Request
from flask import request as current_request
from werkzeug.exceptions import HTTPException

import wsgi_alligator
from alligator import Gator
from alligator.web.http import Response
from alligator.web.idempotency import IdempotencyKeys

from .app_context import running_for

OPTIONS_ERROR = "alligator.options_error"
"""The key of the environ that holds an exception that a function of the project raised."""


class AlligatorMiddleware(wsgi_alligator.AlligatorMiddleware):
    """The middleware; *app* handles the errors of *options* and *idempotency_client*.

    They are called with a `flask.Request`.
    """

    def __init__(self, app: Flask, gator: Gator, **settings: Any) -> None:
        super().__init__(app.wsgi_app, gator, **settings)
        self._flask = app
        if self._options_of is not None or settings.get("idempotency_client") is not None:
            app.before_request_funcs.setdefault(None, []).insert(0, _raise_options_error)

    def to_request(self, raw: WSGIEnvironment) -> Request:
        """Return the argument of *options* for *raw*."""
        return to_request(raw)

    def _openings_for(
        self, raw: WSGIEnvironment, known: object
    ) -> list[tuple[Gator, dict[str, Any]]]:
        try:
            return super()._openings_for(raw, known)
        except Exception as error:
            # Raised later, before the view, where the application's error handlers and log apply.
            raw[OPTIONS_ERROR] = error
            return self._openings

    def _commit_id_of(self, keys: IdempotencyKeys, raw: WSGIEnvironment) -> str | None:
        try:
            return super()._commit_id_of(keys, raw)
        except Exception as error:
            raw[OPTIONS_ERROR] = error
            return None

    def end(self, *given: Any, **named: Any) -> Response | None:
        """End the transactions by the status of the response, for this application."""
        with running_for(self._flask):
            return super().end(*given, **named)

    def discard(self, *given: Any, **named: Any) -> None:
        """Roll back the transactions, for this application."""
        with running_for(self._flask):
            super().discard(*given, **named)

    def describe(self, environ: WSGIEnvironment) -> str:
        """Return the name of the request's view for a log line."""
        name = super().describe(environ)
        urls = self._flask.create_url_adapter(to_request(environ))
        try:
            return f"{name} ({urls.match()[0]!a:.100})" if urls else name
        except HTTPException:  # no view has this path
            return name


def _raise_options_error() -> None:
    error = current_request.environ.pop(OPTIONS_ERROR, None)
    if error is not None:
        raise error


class AlligatorEndpoint(wsgi_alligator.AlligatorEndpoint):
    """The endpoint at *prefix* of *app*.

    *authorize* is called with a `flask.Request`, in a request context. If it aborts, *app* handles
    the exception as it does for a view, and its response replaces that of closed pages.
    """

    refusals = (HTTPException,)

    def __init__(self, app: Flask, gator: Gator, prefix: str, **settings: Any) -> None:
        super().__init__(gator, **settings)
        self._app = app
        self._prefix = prefix

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer the request."""
        mount = environ.get("SCRIPT_NAME", "") + self._prefix
        path = environ.get("PATH_INFO", "")[len(self._prefix) :]
        moved = {**environ, "SCRIPT_NAME": mount, "PATH_INFO": path}
        if self.authorize is None:
            return super().__call__(moved, start_response)
        with self._app.request_context(environ) as context:
            try:
                return super().__call__(moved, start_response)
            except HTTPException as error:
                response = self._app.make_response(self._app.handle_user_exception(error))
                sessions = self._app.session_interface
                if not sessions.is_null_session(context.session):
                    sessions.save_session(self._app, context.session, response)
            return response(environ, start_response)

    def to_request(self, environ: WSGIEnvironment) -> Request:
        """Return the argument of *authorize*."""
        return to_request(current_request.environ)


def to_request(environ: WSGIEnvironment) -> Request:
    """Return a request without its body, which is left to the view."""
    return Request(environ, populate_request=False, shallow=True)
