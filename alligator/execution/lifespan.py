"""The context in which a worker runs all of its tasks, such as that of a pool of connections."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from ..exceptions import ConfigurationError

Lifespan = Callable[[], AbstractAsyncContextManager[Any] | AbstractContextManager[Any]]

ENTERED = (AbstractAsyncContextManager, AbstractContextManager)


def check_lifespan(lifespan: Lifespan | None) -> Lifespan | None:
    """Return *lifespan*; raise `ConfigurationError` if it cannot be called."""
    if lifespan is None:
        return None
    if not callable(lifespan) or isinstance(lifespan, ENTERED):
        raise ConfigurationError(
            f"lifespan must be a function that returns a context manager, not {lifespan!r:.80}. "
            "Pass the function itself; each worker process calls it."
        )
    return lifespan
