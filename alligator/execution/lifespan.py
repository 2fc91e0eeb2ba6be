"""The context in which a worker runs all of its tasks, such as that of a pool of connections."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from .._runtime.signatures import signature
from ..exceptions import ConfigurationError

Lifespan = Callable[[], AbstractAsyncContextManager[Any] | AbstractContextManager[Any]]

ENTERED = (AbstractAsyncContextManager, AbstractContextManager)


def check_lifespan(lifespan: Lifespan | None) -> Lifespan | None:
    """Return *lifespan*; raise `ConfigurationError` if it cannot be called without arguments."""
    if lifespan is None:
        return None
    if not callable(lifespan) or isinstance(lifespan, ENTERED):
        raise ConfigurationError(
            f"lifespan must be a function that returns a context manager, not {lifespan!r:.80}. "
            "Pass the function itself; each worker process calls it."
        )
    if (reason := _cannot_be_called(lifespan)) is not None:
        raise ConfigurationError(
            f"lifespan is called without arguments, but {lifespan!r:.80} needs some: {reason}. Pass a "
            "function that needs none, such as lambda: lifespan(app)."
        )
    return lifespan


def _cannot_be_called(lifespan: Lifespan) -> TypeError | None:
    """Return why *lifespan* cannot be called without arguments; None if it can, or if unknown."""
    try:
        parameters = signature(lifespan)
    except Exception:
        return None
    try:
        parameters.bind()
    except TypeError as error:
        return error
    return None
