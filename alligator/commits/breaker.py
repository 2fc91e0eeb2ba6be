"""Fail fast while a store cannot be reached, so that not all threads of a site wait for it."""

from collections.abc import Sequence
from math import inf
from threading import RLock
from time import monotonic

from .._runtime.backoff import pause_after
from .._runtime.forks import register_fork_hooks
from ..exceptions import BackendError, BackendUnavailable

FAILURES = 5
"""After how many failures in a row the breaker opens."""

TRIAL_SECONDS = 10.0
"""After how many seconds another trial push is allowed if the current one has not ended."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
"""How many seconds the breaker stays open, at first and at most; doubled after each failed trial."""


class Breaker:
    """A circuit breaker for the pushes to one store.

    After `FAILURES` trips in a row that did not reach the store, the breaker opens: pushes fail at
    once. After a pause, one push is a trial: if it fails, the next pause is twice as long; if it
    succeeds, the breaker closes. Each process has its own breaker.
    """

    def __init__(self) -> None:
        self.after_fork_in_child()
        register_fork_hooks(self)

    def after_fork_in_child(self) -> None:
        """Close the breaker, and replace its lock."""
        self._lock = RLock()  # reentrant, because a signal handler may push, too
        self.failures: int = 0
        """How many trips in a row have failed."""
        self._failed_at = -inf
        """When the last failure was counted."""
        self._pauses = 0
        """How many pauses there were since the breaker opened, including the current one."""
        self._pause_ends = 0.0
        self._trial_ends = -inf
        """Until when a trial is in progress, while other pushes fail; in the past if there is none."""
        self._reason = ""

    @property
    def is_open(self) -> bool:
        """Whether pushes fail at once."""
        return self.failures >= FAILURES

    @property
    def retry_after(self) -> float:
        """How many seconds the breaker will stay open at least."""
        return max(0.0, self._pause_ends - monotonic()) if self.is_open else 0.0

    def enter(self) -> bool:
        """Return whether a push that begins now is a trial; raise while the breaker is open.

        Needed only while there are `failures`. After a trial, call `end_trial`.
        """
        with self._lock:
            if self.failures < FAILURES:
                return False
            left = self._pause_ends - monotonic()
            if left <= 0 and monotonic() >= self._trial_ends:
                self._trial_ends = monotonic() + TRIAL_SECONDS
                return True
        # During a trial the remaining time is unknown.
        raise self._rejection(left if left > 0 else FIRST_PAUSE)

    def end_trial(self) -> None:
        """Allow another trial: this one has ended, maybe without an answer of the store."""
        self._trial_ends = -inf

    def record(self, outcomes: Sequence[object], began: float) -> None:
        """Record the outcomes of one trip to the store, which began at *began*."""
        lost = [
            each for each in outcomes if isinstance(each, BackendUnavailable) and not each.is_local
        ]
        if any(_is_answer(outcome) for outcome in outcomes):
            with self._lock:
                self.failures = 0
                self._trial_ends = -inf
        elif lost:
            self._fail(lost, began)

    def _fail(self, errors: Sequence[BackendUnavailable], began: float) -> None:
        with self._lock:
            # Trips that fail concurrently count once. Those that were in progress when the breaker
            # opened change nothing.
            if began >= self._failed_at:
                was_open = self.failures >= FAILURES
                self._failed_at = monotonic()
                self.failures += 1
                if self.failures >= FAILURES:
                    self._reason = str(errors[0])
                    self._pauses = self._pauses + 1 if was_open else 1
                    pause = pause_after(self._pauses, FIRST_PAUSE, LONGEST_PAUSE)
                    self._pause_ends = monotonic() + pause
        if self.is_open:
            for error in errors:
                error.retry_after = max(self.retry_after, FIRST_PAUSE)

    def _rejection(self, seconds: float) -> BackendUnavailable:
        rejection = BackendUnavailable(
            f"Pushes to the store fail for the next {seconds:.1f} s, because {FAILURES} pushes in a "
            f"row did not reach it: {self._reason}"
        )
        rejection.retry_after = seconds
        return rejection


def _is_answer(outcome: object) -> bool:
    """Return whether an outcome shows that the store has answered."""
    if isinstance(outcome, BaseException):
        return isinstance(outcome, BackendError) and not isinstance(outcome, BackendUnavailable)
    return True
