"""Add to a Flask application: a gator, a transaction for each request, the endpoint and commands."""

from collections.abc import Callable, Iterable
from logging import Logger, getLogger
from typing import ParamSpec, Unpack
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask, current_app, request
from werkzeug.local import LocalProxy

from alligator import Gator, Options, Task, Transaction
from alligator.exceptions import ConfigurationError
from alligator.monitoring.health import Health
from alligator.options import TaskOptions, to_bool

from .app_context import bind, current_application
from .commands import commands, in_one_line
from .configuration import DEFAULTS, make_gator, to_text, url_prefix
from .requests import AlligatorEndpoint, AlligatorMiddleware

log: Logger = getLogger("alligator")

P = ParamSpec("P")

KEY = "alligator"
HEALTH_KEY = "alligator_health"
"""The keys of `Flask.extensions` that hold the gator of an application, and its health."""


class Alligator:
    """The Flask extension.

    Ex::

        alligator = Alligator()

        def create_app():
            app = Flask(__name__)
            alligator.init_app(app)  # the DSN is in ALLIGATOR_CONN
            return app

        @app.post("/orders")
        def order():
            alligator.task(send_receipt, 42)  # queued only if the response is a success
            return "", 201

    Each application has its own gator, made from its configuration. If *gator* is given, all
    applications of this extension use it. In both cases each task runs in a new application context.
    ``ALLIGATOR_ASYNC`` of the configuration or of the environment decides for each task whether it is
    queued; without this setting, tasks are queued unless ``TESTING`` is set. A given gator keeps its
    `task_context` and its `is_async` if they are not the defaults.
    """

    def __init__(self, app: Flask | None = None, gator: Gator | None = None) -> None:
        self._given = gator
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Initialise *app*, which must have its configuration; raise `ConfigurationError`."""
        try:
            self._init_app(app)
        except ConfigurationError as error:
            raise in_one_line(error) from error

    def _init_app(self, app: Flask) -> None:
        if KEY in app.extensions:
            raise ConfigurationError(
                f"{app.name!r} already has an Alligator. Call init_app once for each application, "
                "and not after Alligator(app), which calls it."
            )
        for name, default in DEFAULTS.items():
            app.config.setdefault(name, default)
        gator = self._given or make_gator(app)
        prefix = url_prefix(app)
        middleware = AlligatorMiddleware(
            app,
            gator,
            options=app.config["ALLIGATOR_OPTIONS"],
            commit_veto=app.config["ALLIGATOR_COMMIT_VETO"],
            commit_at=app.config["ALLIGATOR_COMMIT_AT"],
            idempotency_key=app.config["ALLIGATOR_IDEMPOTENCY_KEY"],
            idempotency_client=app.config["ALLIGATOR_IDEMPOTENCY_CLIENT"],
        )
        health = Health(
            gator,
            backlog_after=app.config["ALLIGATOR_BACKLOG_AFTER"],
            backlog_depth=app.config["ALLIGATOR_BACKLOG_DEPTH"],
        )
        wsgi_app: WSGIApplication = middleware
        if prefix is not None:
            endpoint = AlligatorEndpoint(
                app,
                gator,
                prefix,
                token=to_text(app, "ALLIGATOR_TOKEN", app.config.get("ALLIGATOR_TOKEN")),
                health=health,
                authorize=app.config["ALLIGATOR_AUTHORIZE"],
                actions=to_bool("ALLIGATOR_ACTIONS", app.config["ALLIGATOR_ACTIONS"]),
                details=to_bool("ALLIGATOR_DETAILS", app.config["ALLIGATOR_DETAILS"]),
            )
            wsgi_app = _Mounted(app, endpoint, prefix, middleware)
        bind(gator, app)
        app.extensions[KEY] = gator
        app.extensions[HEALTH_KEY] = health
        app.wsgi_app = wsgi_app  # type: ignore[assignment, method-assign]  # as Flask's documentation does it
        app.cli.add_command(commands(gator, health))

    @property
    def gator(self) -> Gator:
        """The gator of the current application."""
        app = current_application()
        if app is None:
            raise RuntimeError(
                "There is no current Flask application. Use the extension in a view, a command or a "
                "task, or in a block of 'with app.app_context():'. The generator of a streamed "
                "response needs flask.stream_with_context."
            )
        gator: Gator | None = app.extensions.get(KEY)
        if gator is None:
            raise RuntimeError(
                f"{app.name!r} has no Alligator: call alligator.init_app(app) in its factory."
            )
        return gator

    @property
    def health(self) -> Health:
        """The health of the current application, to which you can add checks."""
        _ = self.gator  # raises an error that explains what is missing
        health: Health = current_app.extensions[HEALTH_KEY]
        return health

    def task(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Return a new task that calls *func* with these arguments; see `Gator.task`."""
        return self.gator.task(func, *args, **kwargs)

    def options(self, **options: Unpack[TaskOptions]) -> Options[Task]:
        """Return a context with options for the tasks started by its `task`; see `Gator.options`."""
        return self.gator.options(**options)

    def transaction(self, **options: Unpack[TaskOptions]) -> Transaction:
        """Return a transaction; in a request it is nested in that of the request."""
        return self.gator.transaction(**options)


class _Mounted:
    """A WSGI application: *endpoint* at *prefix*, and *wsgi_app* at all other paths."""

    def __init__(
        self, app: Flask, endpoint: WSGIApplication, prefix: str, wsgi_app: WSGIApplication
    ) -> None:
        self._endpoint = endpoint
        self._prefix = prefix
        self._wsgi_app = wsgi_app
        self._unchecked: Flask | None = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not f"{environ.get('PATH_INFO', '')}/".startswith(f"{self._prefix}/"):
            return self._wsgi_app(environ, start_response)
        if self._unchecked is not None:
            self._warn_of_hidden_views(self._unchecked)
            self._unchecked = None
        return self._endpoint(environ, start_response)

    def _warn_of_hidden_views(self, app: Flask) -> None:
        # At the first request of the endpoint, because views are registered after init_app.
        for rule in app.url_map.iter_rules():
            if f"{rule.rule}/".startswith(f"{self._prefix}/"):
                log.warning(
                    "the view %a at %a is never called: Alligator's endpoint is at %s. Set "
                    "ALLIGATOR_URL_PREFIX to another path, or to None for no endpoint.",
                    rule.endpoint,
                    rule.rule,
                    self._prefix,
                )


def _current() -> Transaction:
    transaction: Transaction | None = request.environ.get("alligator.transaction")
    if transaction is None:
        raise RuntimeError(
            "This request has no transaction: it is a WebSocket, or did not pass through "
            "app.wsgi_app after Alligator.init_app(app). In a test, use app.test_client()."
        )
    return transaction


current: Transaction = LocalProxy(_current)  # type: ignore[assignment]  # a proxy, as in Flask
"""The transaction of the current request."""
