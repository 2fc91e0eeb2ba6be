"""The event loop on which the coroutines of a context run. This module does not load asyncio."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


class Runs(Protocol):
    """Runs awaitables for threads that have no event loop."""

    @property
    def loop(self) -> "AbstractEventLoop | None":
        """The event loop; None if it has not been needed yet, or has been closed."""
        ...

    def run(self, awaitable: Any, timeout: float | None = None) -> Any:
        """Return the result of *awaitable*; the calling thread waits for it.

        Raises `TaskTimeout` after *timeout* seconds, and `NotRunnable` if nothing was run.
        """
        ...


class LazyLoop:
    """Runs awaitables on what *make* returns, which is called when an awaitable is run."""

    def __init__(self, make: Callable[[], Runs]) -> None:
        self._make = make
        self._made: Runs | None = None

    @property
    def loop(self) -> "AbstractEventLoop | None":
        return None if self._made is None else self._made.loop

    def run(self, awaitable: Any, timeout: float | None = None) -> Any:
        if self._made is None:
            self._made = self._make()
        return self._made.run(awaitable, timeout)


home: ContextVar[Runs | None] = ContextVar("alligator_home_loop", default=None)
"""What runs the coroutines of this context; None for the background loop of the process."""
