"""Warn of responses whose first chunk is slow while their tasks are deferred."""

import threading
import time
from collections.abc import Callable
from logging import Logger, getLogger
from typing import Protocol

from alligator._runtime.forks import register_fork_hooks

log: Logger = getLogger("alligator")

SLOW_SECONDS = 5.0
"""After how many seconds without a first chunk to warn."""

CHECK_SECONDS = 1.0
"""How often the responses are checked."""


class Response(Protocol):
    """A response that has not produced its first chunk."""

    def describe(self) -> str:
        """Return the name of its view for a log line."""
        ...

    def count(self) -> int:
        """Return the number of its deferred tasks."""
        ...


class FirstChunkMonitor:
    """Monitors responses between `begin` and `end`, with one thread for all.

    A timer would need a thread for each response. This costs a request two changes of a set.
    The thread checks once a second, and sleeps while no response is monitored.
    """

    def __init__(self) -> None:
        register_fork_hooks(self)
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Reset: the thread exists only in the parent."""
        self._begun: set[Response] = set()
        self.end: Callable[[Response], object] = self._begun.discard
        """Stop monitoring a response."""
        self._seen: dict[Response, float] = {}
        """When the thread has first seen each of them."""
        self._has_work: threading.Event | None = None
        self._sleeps = True
        """Whether the thread waits for work, or was not started."""

    def begin(self, response: Response) -> None:
        """Start to monitor *response*."""
        self._begun.add(response)
        if self._sleeps:
            self._wake()

    def _wake(self) -> None:
        self._sleeps = False
        if self._has_work is not None:
            self._has_work.set()
        else:
            self._start()

    def _start(self) -> None:
        # At the first use, because gevent may patch threading after the import.
        has_work = self._has_work = threading.Event()
        has_work.set()
        thread = threading.Thread(
            target=self._run, args=[has_work], name="alligator-first-chunks", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads; the next response tries again
            self._has_work = None
            self._sleeps = True

    def _run(self, has_work: threading.Event) -> None:
        while has_work.wait():
            time.sleep(CHECK_SECONDS)
            has_work.clear()
            self._sleeps = True  # before looking: a response that comes later wakes it
            if self._begun:
                self._wake()
            self._check()

    def _check(self) -> None:
        now = time.monotonic()
        self._seen = {response: self._seen.get(response, now) for response in list(self._begun)}
        for response, since in self._seen.items():
            number = response.count() if since < now - SLOW_SECONDS else 0
            if number and response in self._begun:
                self._begun.discard(response)
                log.warning(
                    "%s: the response has had no first chunk for %.0f s; %d %s deferred until it has "
                    "one. If it waits for its own task, start the task with immediate=True, or yield "
                    "a chunk before.",
                    response.describe(),
                    SLOW_SECONDS,
                    number,
                    "task is" if number == 1 else "tasks are",
                )


first_chunks = FirstChunkMonitor()
