"""Run a check in a thread of its own, with a timeout, and reuse its result for a while."""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic
from typing import Generic, TypeVar

from .._runtime.locks import LazyDict
from ..exceptions import BackendError
from .entries import Checks
from .stats import format_utc


class Probe(ABC):
    """One run of a check, in a thread of its own; callers wait at most *timeout* seconds for it."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.time: str = format_utc()
        self.began: float = monotonic()
        self.error: str = ""
        """What went wrong, in a text that may be shown."""
        self._ended: float | None = None
        self._done = Event()

    @abstractmethod
    def run(self) -> None:
        """Run the check and keep its result; called in a thread, and may raise anything."""

    @abstractmethod
    def findings(self) -> Checks:
        """Wait for the result until the timeout, and return the entries for it."""

    def start(self) -> None:
        """Start the thread, without waiting for the result."""
        try:
            Thread(target=self._run_to_end, name="alligator-health", daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is shutting down
            self.error = "the check was not run: no thread could be started"
            self._end()

    def wait(self) -> bool:
        """Wait for the result until the timeout; return whether the check has ended."""
        return self._done.wait(max(0.0, self.began + self.timeout - monotonic()))

    def is_older_than(self, seconds: float) -> bool:
        """Return whether the check ended at least that long ago."""
        return self._ended is not None and monotonic() - self._ended >= seconds

    def _run_to_end(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self.error = explain(error)
        finally:
            self._end()

    def _end(self) -> None:
        self._ended = monotonic()
        self._done.set()


P = TypeVar("P", bound=Probe)


class ProbeCache(Generic[P]):
    """The latest probe of one check; there is no second one while it runs or is still fresh."""

    def __init__(self, make: Callable[[], P], fresh_for: float) -> None:
        self._make = make
        self._fresh_for = fresh_for
        self._locks: LazyDict[int, threading.Lock] = LazyDict(lambda: threading.Lock())
        self._latest: P | None = None
        self._pid = os.getpid()

    def probe(self) -> P:
        """Return the probe that runs or is still fresh; otherwise start one."""
        pid = os.getpid()
        # One lock per process: a thread of the parent may hold its lock at the fork, forever.
        with self._locks[pid]:
            if self._pid != pid:
                self._latest, self._pid = None, pid
            if self._latest is None or self._latest.is_older_than(self._fresh_for):
                self._latest = self._make()
                self._latest.start()
            return self._latest


def explain(error: BaseException) -> str:
    """Return a text for *error* that may be shown.

    Our own errors contain no secrets; of other errors only the type is shown.
    """
    return str(error) if isinstance(error, BackendError) else f"{type(error).__name__} was raised"
