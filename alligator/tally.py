"""Count what became of the tasks of transactions, and tell the store of it beside their way."""

import atexit
import os
import threading
from collections import Counter, deque
from logging import Logger, getLogger
from time import monotonic
from typing import Final, Literal
from weakref import WeakSet

from .backends.base import Client
from .backends.figures import COMMITS
from .exceptions import BackendError

log: Logger = getLogger("alligator")

FLUSH_SECONDS = 5.0
"""How old news may be, in seconds, when the store is told."""

LAST_SECONDS = 1.0
"""How long the end of the process waits for the store to be told."""

Ending = Literal["committed", "veto", "exception", "doomed", "failed"]
"""``committed``: on the queue. ``veto``, ``exception``, ``doomed``: why they were discarded.
``failed``: the store did not take them."""

CAUSES: Final = ("veto", "exception", "doomed")


class Tally:
    """What became of the tasks that the transactions of a process held for one store.

    To add takes no lock and waits for nothing. A thread tells the store every few seconds while
    there is something to tell; what a process that is killed had not told yet is lost.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.begin_anew()
        _tallies.add(self)

    def begin_anew(self) -> None:
        """Forget everything: in a forked child, for its parent tells it."""
        self._news: deque[tuple[Ending, int]] = deque()
        self._untold: Counter[str] = Counter()
        self._telling = threading.Lock()
        self.failed_at: float | None = None
        """When the store last refused tasks, on the monotonic clock."""

    def add(self, ending: Ending, tasks: int) -> None:
        """Note that so many tasks came to that end."""
        self._news.append((ending, tasks))
        if ending == "failed":
            self.failed_at = monotonic()
        if _teller is None or not _teller.has_news.is_set():
            _wake()

    def flush(self) -> None:
        """Tell the store what is new; raise `BackendError` when it cannot be told, and keep it."""
        # Never waited for: gevent may have been switched on since the lock was made.
        if not self._telling.acquire(blocking=False):
            return
        try:
            while self._news:
                ending, tasks = self._news.popleft()
                self._untold[ending] += tasks
            if self._untold:
                self._client.note({COMMITS: self._untold})
                self._untold = Counter()
        finally:
            self._telling.release()


class _Teller:
    """The thread that tells the stores what is new, one for the process, begun by the first news."""

    def __init__(self) -> None:
        self.has_news = threading.Event()
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self._run, name="alligator-tally", daemon=True)

    def _run(self) -> None:
        while not self.ends.is_set():
            self.has_news.wait()
            self.ends.wait(FLUSH_SECONDS)
            self.has_news.clear()
            for tally in list(_tallies):
                try:
                    tally.flush()
                except Exception as error:  # a store may be anybody's, and there are others to tell
                    if not isinstance(error, BackendError):
                        log.exception("what became of transactions cannot be told")
                    self.has_news.set()


_tallies: WeakSet[Tally] = WeakSet()
_teller: _Teller | None = None
_starting = threading.Lock()


def _wake() -> None:
    global _teller
    if _teller is not None:
        _teller.has_news.set()
        return
    if not _starting.acquire(blocking=False):
        return  # another thread is at it
    try:
        if _teller is None:
            teller = _Teller()
            teller.has_news.set()
            teller.thread.start()
            _teller = teller
    except RuntimeError:  # no more threads, or the process is ending: the next news tries again
        log.debug("no thread could be started to tell what became of transactions")
    finally:
        _starting.release()


def _tell_the_last() -> None:
    if _teller is not None and _teller.has_news.is_set():
        _teller.ends.set()
        _teller.thread.join(LAST_SECONDS)


def _begin_anew() -> None:
    global _teller, _starting
    _teller, _starting = None, threading.Lock()
    for tally in list(_tallies):
        tally.begin_anew()


atexit.register(_tell_the_last)
os.register_at_fork(after_in_child=_begin_anew)
