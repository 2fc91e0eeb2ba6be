"""Log why a worker cannot work, without repeating it for each thread and attempt."""

import logging
from threading import Lock
from time import monotonic

from .._runtime.backoff import pause_after
from .._runtime.failures import describe
from ..exceptions import BackendError, BackendUnavailable

REPEAT_SECONDS = 60.0
"""Interval at which an outage of the store is logged again."""

FIRST_PAUSE, MAX_PAUSE = 0.1, 5.0
"""The first and the longest pause of a thread after a failure, in seconds."""


class FailureLog:
    """Failures of the threads of one worker.

    An outage of the store is logged once for all threads, and again every `REPEAT_SECONDS`. Any other
    error is logged by each thread once, with its traceback.
    """

    def __init__(self, log: logging.Logger, store: str) -> None:
        self._log = log
        self._store = store
        self._lock = Lock()
        self._failing = 0
        """How many threads fail at present."""
        self._logged_at = float("-inf")
        """When an outage was logged last."""

    def add(self, error: Exception, failures: int) -> float:
        """Log *error*, the failure number *failures* of one thread in succession.

        Returns the pause before the thread tries again, in seconds.
        """
        pause = pause_after(failures, FIRST_PAUSE, MAX_PAUSE)
        is_outage = isinstance(error, BackendError)
        with self._lock:
            if failures == 1:
                self._failing += 1
            is_due = self._is_due(failures) if is_outage else failures == 1
        if is_due and is_outage:
            self._log_outage(error, pause)
        elif is_due:
            self._log.error(
                "this worker failed: %s; next attempt in %g s",
                describe(error),
                pause,
                exc_info=error,
            )
        return pause

    def recovered(self) -> None:
        """Note that one thread works again; log it if no other thread fails."""
        with self._lock:
            self._failing -= 1
            is_last = self._failing == 0
        if is_last:
            self._log.info("this worker is working again on %s", self._store)

    def _is_due(self, failures: int) -> bool:
        """Return whether to log an outage now, and note that it is logged."""
        now = monotonic()
        is_new = failures == self._failing == 1
        if not is_new and now - self._logged_at < REPEAT_SECONDS:
            return False
        self._logged_at = now
        return True

    def _log_outage(self, error: Exception, pause: float) -> None:
        verb = "reach" if isinstance(error, BackendUnavailable) else "use"
        reason = str(error).removeprefix(self._store).lstrip(": ")
        self._log.error("cannot %s %s: %s; next attempt in %g s", verb, self._store, reason, pause)
