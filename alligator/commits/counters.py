"""Count committed and discarded tasks, and report the numbers to the store in the background."""

import atexit
import os
import threading
from collections import Counter, deque
from collections.abc import Sequence
from logging import Logger, getLogger
from time import monotonic
from typing import Final, Literal

from .._runtime.forks import register_fork_hooks, run_in_forked_child
from ..backends.base import Client, Figures
from ..backends.stats import COMMITS
from ..exceptions import BackendError

log: Logger = getLogger("alligator")

FLUSH_SECONDS = 5.0
"""How often counts are reported to the store."""

LAST_SECONDS = 1.0
"""How long the process waits for the last report when it ends."""

MAX_FAILURES = 1000
"""How many failed commits are remembered, to count their tasks."""

Ending = Literal["committed", "veto", "exception", "doomed", "failed", "undone"]
"""How the transaction of a task ended.

``committed``: the task is on the queue. ``veto``, ``exception``, ``doomed``: why it was discarded.
``failed``: the store did not accept it. ``undone``: it was committed, and then undone.
"""

CAUSES: Final = ("veto", "exception", "doomed")


class Reports:
    """Reports of figures to a store; each counts once, also if it is repeated after a lost reply."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._open: tuple[str, Figures, Sequence[str]] | None = None
        """The last report and its id, unless the store has replied."""

    def resend(self) -> None:
        """Repeat the last report if the store has not replied; call this before `send`."""
        if self._open is not None:
            report_id, figures, queue_names = self._open
            self._client.note(figures, queue_names, report_id=report_id)
            self._open = None

    def send(self, figures: Figures, queue_names: Sequence[str] = ()) -> None:
        """Report *figures*; after a `BackendError`, `resend` reports the same figures again."""
        if not figures:
            self._client.note(figures, queue_names)
            return
        self._open = os.urandom(12).hex(), figures, queue_names
        self.resend()


class CommitCounters:
    """Counters for the tasks of one process's transactions, by how these ended, for one store.

    `add` takes no lock and never waits. One thread of the process reports to the stores every
    `FLUSH_SECONDS`. Numbers that a killed process has not reported are lost.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.after_fork_in_child()
        register_fork_hooks(self)

    def after_fork_in_child(self) -> None:
        """Drop all numbers: the parent of a forked child reports them."""
        self._added: deque[tuple[Ending, int]] = deque()
        self._unreported: Counter[str] = Counter()
        self._reports = Reports(self._client)
        self._reporting = threading.Lock()
        self._failures: deque[tuple[float, int]] = deque(maxlen=MAX_FAILURES)
        """For recent failed commits: when, on the monotonic clock, and how many tasks."""

    def add(self, ending: Ending, tasks: int) -> None:
        """Count the number of *tasks* of a transaction that ended in this way."""
        self._added.append((ending, tasks))
        if ending == "failed":
            self._failures.append((monotonic(), tasks))
        _pending.add(self)
        if _reporter is None:
            _start()

    def failed_within(self, seconds: float) -> int:
        """Return how many tasks the store did not accept in the last *seconds*."""
        since = monotonic() - seconds
        return sum(tasks for at, tasks in tuple(self._failures) if at >= since)

    def flush(self) -> None:
        """Report new numbers to the store; on a `BackendError`, raise it and keep them."""
        # Never block here: gevent may have patched threading since the lock was created.
        if not self._reporting.acquire(blocking=False):
            return
        try:
            while self._added:
                ending, tasks = self._added.popleft()
                self._unreported[ending] += tasks
            self._reports.resend()
            if self._unreported:
                unreported, self._unreported = self._unreported, Counter()
                self._reports.send({COMMITS: unreported})
            _pending.discard(self)
            if self._added:  # added meanwhile
                _pending.add(self)
        finally:
            self._reporting.release()

    def close(self) -> None:
        """Report new numbers if possible; numbers that are added later are reported as before."""
        try:
            self.flush()
        except BackendError as error:
            log.warning("commit counters could not be reported to the store: %s", error)


_pending: set[CommitCounters] = set()
"""Counters with unreported numbers; they are kept although their gator may be collected."""


class _Reporter:
    """The thread of the process that reports to all stores; the first number starts it."""

    def __init__(self) -> None:
        # Created here, not at import, because gevent may patch threading in between.
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alligator-counters", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Report all numbers, within `LAST_SECONDS`."""
        self._is_ending.set()
        self._thread.join(LAST_SECONDS)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._is_ending.wait(FLUSH_SECONDS)
            for counters in list(_pending):
                try:
                    counters.flush()
                except BackendError:
                    pass  # the counters stay pending
                except Exception:  # of a third-party store; continue with the others
                    log.exception("commit counters could not be reported to a store; trying again")


_reporter: _Reporter | None = None
_starting = threading.Lock()


def _start() -> None:
    global _reporter
    if not _starting.acquire(blocking=False):
        return  # another thread is starting it, or this thread is, below a signal handler
    try:
        if _reporter is None:
            _reporter = _Reporter()
    except RuntimeError:  # no more threads, or the process is ending; the next `add` tries again
        log.debug("no thread could be started to report commit counters")
    finally:
        _starting.release()


def _finish() -> None:
    if _reporter is not None:
        _reporter.finish()


@run_in_forked_child
def _reset() -> None:
    global _reporter, _starting
    _reporter, _starting = None, threading.Lock()
    _pending.clear()


atexit.register(_finish)
