"""Bind a gator to Flask applications: their settings, and an application context for each task."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from flask import Flask, current_app

from alligator import Gator

from .configuration import setting

# Tasks may run at the end of a request, after Flask has popped its contexts.
_running_for: ContextVar[Flask | None] = ContextVar("alligator_running_for", default=None)


@contextmanager
def running_for(app: Flask) -> Iterator[None]:
    """Run the tasks of the block for *app*, whose request has started them."""
    token = _running_for.set(app)
    try:
        yield
    finally:
        _running_for.reset(token)


class AppBinding:
    """The binding of one gator, which several applications may share.

    Its application is the one whose request is ending; otherwise the current one, if it uses this
    gator; otherwise, as in a worker, the one that was initialised last.
    """

    def __init__(self, gator: Gator, app: Flask) -> None:
        self.gator = gator
        self.latest = app

    @property
    def app(self) -> Flask:
        """The application for which the gator runs tasks at the moment."""
        app = _running_for.get() or current_application()
        return app if app and app.extensions.get("alligator") is self.gator else self.latest

    def is_async(self) -> bool:
        """Return whether tasks are queued; this is read for each task, as tests set TESTING late."""
        app = self.app
        value = setting(app, "ALLIGATOR_ASYNC")
        if value is None or value == "":
            return not app.testing
        return bool(self.gator.check_options({"is_async": value})["is_async"])

    def task_context(self) -> AbstractContextManager[Any]:
        """Return an application context for one task."""
        return self.app.app_context()


def current_application() -> Flask | None:
    """Return the application behind `flask.current_app`; None outside of an application context."""
    try:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # of the proxy
    except RuntimeError:
        return None
    return app


def bind(gator: Gator, app: Flask) -> None:
    """Bind *gator* to *app*, except for the arguments that the gator was created with."""
    binding = _binding_of(gator)
    if binding is not None:
        binding.latest = app
        return
    binding = AppBinding(gator, app)
    if gator.switch is True:
        gator.is_async = binding.is_async
    if gator.task_context is nullcontext:
        gator.task_context = binding.task_context


def _binding_of(gator: Gator) -> AppBinding | None:
    for method in (gator.switch, gator.task_context):
        owner = getattr(method, "__self__", None)
        if isinstance(owner, AppBinding):
            return owner
    return None
