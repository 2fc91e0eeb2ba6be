"""Trips: commits that share a round trip to the store, and what becomes of each of them."""

from collections import deque
from collections.abc import Sequence
from logging import Logger, getLogger
from time import monotonic

from ..backends.base import Client, Commit, Duplicates
from ..constants import COMMITS_A_TRIP
from ..exceptions import AlligatorException, BackendUnavailable
from .breaker import Breaker

Outcome = BaseException | Duplicates | None

log: Logger = getLogger("alligator")


class Trips:
    """The commits that wait for a trip to *client*: those of all threads, or of one event loop.

    One trip is made at a time. The commits that arrive meanwhile share the next one. A trip is never
    made on the stack of a caller whose commit is not the only one: an exception that interrupts a
    caller affects only its own commit.
    """

    def __init__(self, client: Client, breaker: Breaker | None) -> None:
        self.client = client
        self.breaker = breaker
        self.waiting: deque[Commit] = deque()

    def take(self) -> list[Commit]:
        """Remove and return the waiting commits that can share a trip."""
        commits: list[Commit] = []
        waiting = self.waiting
        while waiting and len(commits) < COMMITS_A_TRIP:
            commit = waiting[0]
            if commits and not can_share_trip(commits[0].deadline, commit.deadline):
                break
            commits.append(waiting.popleft())
        return commits

    def make(self, commits: Sequence[Commit]) -> None:
        """Make a trip in this thread with *commits*, and settle them."""
        began = monotonic()
        outcomes: Sequence[Outcome]
        try:
            outcomes = self.client.push_commits(commits)
        except Exception as error:
            # Another commit may be the cause. So each is pushed alone, again under its id.
            outcomes = [error] if len(commits) == 1 else [self._try_alone(each) for each in commits]
        self.settle(commits, outcomes, began)

    def _try_alone(self, commit: Commit) -> Outcome:
        try:
            return self.client.push_commits([commit])[0]
        except Exception as error:
            return error

    def settle(self, commits: Sequence[Commit], outcomes: Sequence[Outcome], began: float) -> None:
        """Record the outcomes of a trip that *began* then, and wake the callers."""
        breaker = self.breaker
        if breaker is not None and (breaker.failures or any(outcomes)):
            breaker.record(outcomes, began)
        for commit, outcome in zip(commits, outcomes, strict=True):
            commit.outcome = outcome
            has_failed = isinstance(outcome, BaseException)
            if has_failed and not isinstance(outcome, AlligatorException):
                self.undo(commit)  # the store may have accepted it
            commit.is_settled = True
            future = commit.future
            if future is not None and not future.done():  # it is cancelled with its caller
                future.set_result(None)
            if commit.is_abandoned and not has_failed:
                self.undo(commit)

    def fail(self, commits: Sequence[Commit], why: str) -> None:
        """Settle commits that this process could not send; the store is not at fault."""
        self.settle(commits, [not_sent(why) for _ in commits], 0.0)

    def undo(self, commit: Commit) -> None:
        """Undo a commit whose caller takes it for failed, whether the store has it or not."""
        if commit.commit_id is None or not commit.undo:
            return
        try:
            self.client.abort(commit.commit_id, commit.messages)
        except Exception as error:  # of any kind: others wait for the outcomes of this trip
            log_not_undone(commit, error)


def log_not_undone(commit: Commit, error: Exception) -> None:
    """Log that *commit* could not be undone."""
    log.error(
        "%d tasks of a failed commit may be on the queue, because it could not be undone: %s",
        *(len(commit.messages), error),
    )


def can_share_trip(first: float | None, other: float | None) -> bool:
    """Return whether two commits with the deadlines *first* and *other* can share a trip.

    A trip may take only as long as its first commit has time left. So the other must have at most
    twice that time left; otherwise it could fail only because the first began so early.
    """
    if first is None or other is None:
        return first is other
    now = monotonic()
    return other - now <= 2 * max(0.0, first - now)


def not_sent(why: str) -> BackendUnavailable:
    """Return the error of a commit that this process could not send; the store is not at fault."""
    error = BackendUnavailable(why)
    error.is_local = True
    return error
