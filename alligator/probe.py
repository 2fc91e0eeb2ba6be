"""Ask a question that may never be answered, without waiting for longer than one likes."""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic
from typing import Any, Generic, TypeVar

from .exceptions import BackendError
from .stats import moment

Checks = dict[str, list[dict[str, Any]]]
"""Findings by ``component:measurement``."""


class Probe(ABC):
    """One question, asked by a thread of its own."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.time: str = moment()
        self.began: float = monotonic()
        self.error: str = ""
        """What went wrong, in words that may be shown."""
        self._ended: float | None = None
        self._done = Event()

    @abstractmethod
    def ask(self) -> None:
        """Ask, and keep what is answered; in a thread, and raising what it likes."""

    @abstractmethod
    def findings(self) -> Checks:
        """Wait for the answer as long as it may take, and say what was found."""

    def start(self) -> None:
        """Ask, without waiting for the answer."""
        try:
            Thread(target=self._run, name="alligator-health", daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is going down
            self.error = "no thread could be started to ask"
            self._end()

    def wait(self) -> bool:
        """Wait for the answer as long as it may take, and tell whether it was asked to the end."""
        return self._done.wait(max(0.0, self.began + self.timeout - monotonic()))

    def is_older_than(self, seconds: float) -> bool:
        """Whether it ended, and that long ago."""
        return self._ended is not None and monotonic() - self._ended >= seconds

    def _run(self) -> None:
        try:
            self.ask()
        except BaseException as error:
            self.error = explain(error)
        finally:
            self._end()

    def _end(self) -> None:
        self._ended = monotonic()
        self._done.set()


P = TypeVar("P", bound=Probe)


class Latest(Generic[P]):
    """The latest probe of one thing; no other is made while it is under way, or fresh."""

    def __init__(self, make: Callable[[], P], fresh_for: float) -> None:
        self._make = make
        self._fresh_for = fresh_for
        self._locks: dict[int, threading.Lock] = {}
        self._latest: P | None = None
        self._pid = os.getpid()

    def probe(self) -> P:
        """Return the probe that is under way or still fresh, or start one."""
        pid = os.getpid()
        # Of this process, for the parent's may be held by a thread that is not here. And made at the
        # first use, through its module, for gevent may have patched it since.
        with self._locks.get(pid) or self._locks.setdefault(pid, threading.Lock()):
            if self._pid != pid:
                self._latest, self._pid = None, pid
            if self._latest is None or self._latest.is_older_than(self._fresh_for):
                self._latest = self._make()
                self._latest.start()
            return self._latest


def explain(error: BaseException) -> str:
    """Say what was raised: our own errors hold no secrets; what is in those of others is not known."""
    return str(error) if isinstance(error, BackendError) else f"{type(error).__name__} was raised"
