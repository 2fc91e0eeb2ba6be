"""Fail fast while a store is away, so that a site does not wait for it with all of its threads."""

from collections.abc import Awaitable, Sequence
from threading import Lock
from time import monotonic
from typing import Protocol

from .backends.base import Message
from .exceptions import BackendError, BackendUnavailable
from .forks import tell_of_forks

FAILURES = 5
"""After how many failures in a row the store is left alone."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
"""For how many seconds, at first and at most; doubled each time that it is still away."""


class Pusher(Protocol):
    """What brings tasks to a store: its client, or what stands before it."""

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None: ...

    def apush_many(
        self, messages: Sequence[Message], *, commit_id: str | None
    ) -> Awaitable[None]: ...

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None: ...


class Breaker:
    """A circuit breaker before the pushes to one store.

    After `FAILURES` pushes in a row that did not reach it, others fail at once, without asking. When
    the pause is over one of them is let through to try; if it fails the next pause is twice as
    long, if it succeeds all is as before. Each process finds out for itself.
    """

    def __init__(self, pusher: Pusher) -> None:
        self._pusher = pusher
        self.after_fork_in_child()
        tell_of_forks(self)

    def after_fork_in_child(self) -> None:
        """Be closed, with a lock that nobody holds."""
        self._lock = Lock()
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._ends = 0.0
        self._is_trying = False
        self._reason = ""

    @property
    def is_open(self) -> bool:
        """Whether pushes fail at once."""
        return self._failures >= FAILURES

    @property
    def retry_after(self) -> float:
        """How many seconds it stays open for sure."""
        return max(0.0, self._ends - monotonic()) if self.is_open else 0.0

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        """Push, or raise `BackendUnavailable` at once while it is open."""
        trying = self._failures > 0 and self._enter()
        try:
            self._pusher.push_many(messages, commit_id=commit_id)
        except BaseException as error:
            self._judge(error, trying)
            raise
        if self._failures:
            self._close()

    async def apush_many(self, messages: Sequence[Message], *, commit_id: str | None) -> None:
        """Be `push_many`, while the event loop goes on."""
        trying = self._failures > 0 and self._enter()
        try:
            await self._pusher.apush_many(messages, commit_id=commit_id)
        except BaseException as error:
            self._judge(error, trying)
            raise
        if self._failures:
            self._close()

    # Called by both, and not a context manager around them: one takes longer than all else here.
    def _judge(self, error: BaseException, trying: bool) -> None:
        if isinstance(error, BackendUnavailable):
            self._fail(error, trying)
        elif isinstance(error, BackendError):  # a refusal is an answer
            self._close()
        elif trying:
            self._is_trying = False

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        """Take back a push, whether it is open or not."""
        self._pusher.abort(commit_id, messages)

    def _enter(self) -> bool:
        """Raise while it is open; else tell whether this push is the one that is to try."""
        with self._lock:
            if self._failures < FAILURES:
                return False
            left = self._ends - monotonic()
            if left <= 0 and not self._is_trying:
                self._is_trying = True
                return True
        # While one tries, nobody knows for how long: a moment.
        raise self._refusal(left if left > 0 else FIRST_PAUSE)

    def _fail(self, error: BackendUnavailable, trying: bool) -> None:
        with self._lock:
            self._failures += 1
            opens = self._failures == FAILURES
            # Others that were on their way when it opened change nothing.
            if opens or trying:
                self._reason = str(error)
                self._pause = FIRST_PAUSE if opens else min(2 * self._pause, LONGEST_PAUSE)
                self._ends = monotonic() + self._pause
            if trying:
                self._is_trying = False
        if self.is_open:
            error.retry_after = max(self.retry_after, FIRST_PAUSE)

    def _close(self) -> None:
        with self._lock:
            self._failures = 0
            self._is_trying = False

    def _refusal(self, seconds: float) -> BackendUnavailable:
        refusal = BackendUnavailable(
            f"The store is not asked again for {seconds:.1f} s, because {FAILURES} pushes in a row "
            f"did not reach it: {self._reason}"
        )
        refusal.retry_after = seconds
        return refusal
