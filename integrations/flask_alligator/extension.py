"""Give a Flask application a gator, a transaction around each request, the endpoint and commands."""

from collections.abc import Callable, Iterable
from typing import ParamSpec, Unpack
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask, current_app, request
from werkzeug.local import LocalProxy

from alligator import Gator, Options, Task, Transaction
from alligator.exceptions import ConfigurationError
from alligator.health import Health
from alligator.options import TaskOptions, to_bool

from .app_context import bind, current_application
from .commands import commands
from .configuration import DEFAULTS, make_gator, url_prefix
from .requests import AlligatorEndpoint, AlligatorMiddleware

P = ParamSpec("P")

KEY = "alligator"
HEALTH_KEY = "alligator_health"
"""Where `Flask.extensions` has the gator of an application, and its health."""


class Alligator:
    """The extension.

    Ex::

        alligator = Alligator()

        def create_app():
            app = Flask(__name__)
            app.config["ALLIGATOR_CONN"] = "redis://localhost:6379/0"
            alligator.init_app(app)
            return app

        @app.post("/orders")
        def order():
            alligator.task(send_receipt, 42)  # queued if the response is a success
            return "", 201

    Each application has a gator of its own, made from its configuration. A *gator* that is given is
    used as it is, by all applications that are initialised with this extension. In both cases tasks
    run in a fresh application context, and whether they are queued is asked at each task:
    ``ALLIGATOR_ASYNC`` of the configuration, else of the environment, else not while ``TESTING``.
    A given gator keeps its `task_context` and its `is_async` if they are not the defaults.
    """

    def __init__(self, app: Flask | None = None, gator: Gator | None = None) -> None:
        self._given = gator
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set *app* up; its configuration must be there."""
        if KEY in app.extensions:
            raise ConfigurationError(
                f"{app.name!r} has an Alligator already. Call init_app once for each application, "
                "and leave it out when Alligator(app) was given the application."
            )
        for name, default in DEFAULTS.items():
            app.config.setdefault(name, default)
        gator = self._given or make_gator(app)
        prefix = url_prefix(app)
        middleware = AlligatorMiddleware(
            app.wsgi_app,
            gator,
            options=app.config["ALLIGATOR_OPTIONS"],
            commit_veto=app.config["ALLIGATOR_COMMIT_VETO"],
            commit_at=app.config["ALLIGATOR_COMMIT_AT"],
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
                token=app.config.get("ALLIGATOR_TOKEN"),
                health=health,
                authorize=app.config["ALLIGATOR_AUTHORIZE"],
                actions=to_bool("ALLIGATOR_ACTIONS", app.config["ALLIGATOR_ACTIONS"]),
                details=to_bool("ALLIGATOR_DETAILS", app.config["ALLIGATOR_DETAILS"]),
            )
            wsgi_app = _Mounted(endpoint, prefix, middleware)
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
                "There is no current application whose gator this could be. Use it in a view, a "
                "command or a task, or in a block of 'with app.app_context():'."
            )
        gator: Gator | None = app.extensions.get(KEY)
        if gator is None:
            raise RuntimeError(
                f"{app.name!r} has no Alligator: call alligator.init_app(app) in its factory."
            )
        return gator

    @property
    def health(self) -> Health:
        """The health of the current application, which may have further checks."""
        _ = self.gator  # which explains what is missing
        health: Health = current_app.extensions[HEALTH_KEY]
        return health

    def task(self, func: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Task:
        """Call *func* later, with these arguments; see `Gator.task`."""
        return self.gator.task(func, *args, **kwargs)

    def options(self, **options: Unpack[TaskOptions]) -> Options[Task]:
        """Make a context of options for the tasks started with its `task`; see `Gator.options`."""
        return self.gator.options(**options)

    def transaction(self, **options: Unpack[TaskOptions]) -> Transaction:
        """Make a context that holds tasks until its end; in a request it joins the request's."""
        return self.gator.transaction(**options)


class _Mounted:
    """A WSGI application with another one at *prefix*."""

    def __init__(self, mounted: WSGIApplication, prefix: str, around: WSGIApplication) -> None:
        self._mounted = mounted
        self._prefix = prefix
        self._around = around

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not f"{path}/".startswith(f"{self._prefix}/"):
            return self._around(environ, start_response)
        mount = environ.get("SCRIPT_NAME", "") + self._prefix
        moved = {**environ, "SCRIPT_NAME": mount, "PATH_INFO": path[len(self._prefix) :]}
        return self._mounted(moved, start_response)


def _current() -> Transaction:
    transaction: Transaction | None = request.environ.get("alligator.transaction")
    if transaction is None:
        raise RuntimeError(
            "This request has no transaction: it did not come in through app.wsgi_app after "
            "Alligator.init_app(app). In a test use app.test_client()."
        )
    return transaction


current: Transaction = LocalProxy(_current)  # type: ignore[assignment]  # stands for it, as in Flask
"""The transaction of the current request."""
