"""Failed pushes that could not be undone in time, and the thread that undoes them later."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from logging import Logger, getLogger
from math import inf
from threading import Thread
from time import monotonic
from typing import Final

from .._runtime.backoff import pause_after
from ..constants import COMMIT_MEMORY

CLOSE_SECONDS: Final = 2.0
"""How long closing waits for pending aborts."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two attempts to undo a push: the first pause, and the longest."""

log: Logger = getLogger("alligator")


class PendingAborts:
    """Makes aborts as soon as the server answers again, for up to `COMMIT_MEMORY` seconds.

    It does not lock, because a signal handler may push. So two threads may make aborts at once: each
    removes only the one that it has made, and an abort may be made twice.
    """

    def __init__(self) -> None:
        self._pending: deque[tuple[float, Callable[[], object]]] = deque()
        self._thread: Thread | None = None
        self._closes_at = inf

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, abort: Callable[[], object]) -> None:
        """Make *abort* later, and again while it raises."""
        self._pending.append((monotonic() + COMMIT_MEMORY, abort))
        self._start()

    def close(self) -> None:
        """Wait for the thread, at most `CLOSE_SECONDS`."""
        thread = self._thread
        if thread is not None:
            self._closes_at = monotonic() + CLOSE_SECONDS
            thread.join(CLOSE_SECONDS)

    def _start(self) -> None:
        self._closes_at = inf
        if self._thread is not None and self._thread.is_alive():  # a fork ends it
            return
        thread = self._thread = Thread(target=self.run, name="alligator-abort", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # too many threads, or Python exits
            self._thread = None
            log.error(
                "could not start a thread to undo a failed push; it is undone after the next "
                "failed push: %s",
                error,
            )

    def run(self) -> None:
        """Make all pending aborts."""
        failures = 0
        while self._pending:
            try:
                pending = self._pending[0]
            except IndexError:  # another thread has made the last one
                break
            until, abort = pending
            try:
                abort()
                failures = 0
            except Exception as error:  # any error: a failed push must not stay on the queue
                if monotonic() <= min(until, self._closes_at):
                    failures += 1
                    # Not `from time import sleep`: gevent may have patched the module since.
                    time.sleep(pause_after(failures, FIRST_PAUSE, LONGEST_PAUSE))
                    self._pending.append(pending)
                else:
                    log.error("could not undo a failed push; its tasks may run: %s", error)
            with suppress(ValueError):
                self._pending.remove(pending)
        self._thread = None
        if self._pending:  # added in the meantime
            self._start()
