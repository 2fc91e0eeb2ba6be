"""Alligator for Django: the app, the middleware, the gator of the settings, and a tasks backend."""

from typing import TYPE_CHECKING, Any

from .settings_gator import gator as gator

if TYPE_CHECKING:
    from .middleware import Middleware as Middleware


def __getattr__(name: str) -> Any:
    """Return a public name that needs more of Django, which is imported when it is first used."""
    from importlib import import_module

    modules = {"Middleware": "middleware", "TaskBackend": "task_backend"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{modules[name]}"), name)
