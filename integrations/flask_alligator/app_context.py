"""What a gator asks the Flask application that it works for."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from flask import Flask, current_app

from alligator import Gator

from .configuration import setting


class AppBinding:
    """Answers for one gator, which several applications may share.

    The application is the current one if it uses this gator; a worker, which has none, runs tasks
    for the one that was initialised last.
    """

    def __init__(self, gator: Gator, app: Flask) -> None:
        self.gator = gator
        self.latest = app

    @property
    def app(self) -> Flask:
        """The application that the gator works for here and now."""
        app = current_application()  # found once: each look through the proxy costs as much
        return app if app and app.extensions.get("alligator") is self.gator else self.latest

    def is_async(self) -> bool:
        """Whether tasks go to the queue: read each time, as tests set TESTING late."""
        app = self.app
        said = setting(app, "ALLIGATOR_ASYNC")
        if said is None or said == "":
            return not app.testing
        return bool(self.gator.check_options({"is_async": said})["is_async"])

    def task_context(self) -> AbstractContextManager[Any]:
        """Make an application context for one task."""
        return self.app.app_context()


def current_application() -> Flask | None:
    """Find what `flask.current_app` stands for; None outside of a context."""
    try:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # of the proxy
    except RuntimeError:
        return None
    return app


def bind(gator: Gator, app: Flask) -> None:
    """Let *gator* ask *app*, as far as its maker has not said anything else."""
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
