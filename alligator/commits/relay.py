"""Push what commits of the application have put in its outbox."""

import atexit
import time
from collections import deque
from collections.abc import Sequence
from logging import ERROR, INFO, Logger, getLogger
from math import inf
from threading import Event, Lock, Thread, current_thread
from weakref import WeakSet

from .._runtime.backoff import pause_after
from .._runtime.failures import describe
from .._runtime.forks import register_fork_hooks
from ..backends.base import Client, Commit, Pushed
from ..constants import COMMITS_A_TRIP
from ..exceptions import BackendError, BackendUnavailable, ConfigurationError
from .outbox import Content, Outbox, Row
from .same_server import SameServer

SCAN_SECONDS = 5.0
"""How often a process looks for commits in the outbox that no process has pushed."""

WORKER_SCAN_SECONDS = 1.0
"""How often a worker looks for them."""

GRACE_SECONDS = 5.0
"""How old a commit must be before others push it: the process that committed it does so at once."""

MAX_FRESH = 1_000
"""How many of its own commits a process remembers; the others are found in the outbox."""

FIRST_LOOK, LAST_LOOK = 0.001, 0.1
"""How often the relay looks for a row that is about to be committed, in seconds: the wait doubles."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
"""How many seconds the relay waits if it cannot reach store or database, at first and at most."""

FIRST_DELAY, LONGEST_DELAY = 2.0, 3600.0
"""After how many seconds a commit that the store refused is tried again; doubled each time."""

PUSH_SECONDS, BYTES_A_SECOND = 2.0, 100_000
"""How many seconds a push of a batch may take: the first number, plus the time for its bytes."""

PATIENCE = 3.0
"""How many seconds `close` waits for a push that is in progress."""

log: Logger = getLogger("alligator")


class Relay:
    """A thread that pushes the commits in an outbox to a store, and deletes them there.

    Any number of relays may share an outbox: one in each process that commits, and one in each worker.
    The commits of its own process are pushed at once, from memory. What other processes have left is
    found by a scan of the table. There is no cursor: a row that becomes visible late is not skipped.
    """

    def __init__(self, client: Client, outbox: Outbox) -> None:
        self.outbox = outbox
        self.content: Content = Content()
        """What the outbox held at the last scan."""
        self.problem: ConfigurationError | None = None
        """Why the outbox cannot be used, such as a table that is missing."""
        self.same_server: SameServer = SameServer(client)
        """Writes the tasks without the outbox, if the store is in this database."""
        self._client = client
        self._thread: Thread | None = None
        self._is_closed = False
        self._is_away = False
        """Whether the last attempt failed because the store or the database could not be reached."""
        self._scan_seconds = SCAN_SECONDS
        self._forget()
        register_fork_hooks(self)
        _relays.add(self)

    def _forget(self) -> None:
        self._fresh: deque[Commit] = deque()
        self._expected: dict[str, tuple[Commit, float]] = {}
        """By their ids: commits whose rows are not committed yet, and since when."""
        self._wake = Event()
        self._starting = Lock()
        self._thread = None

    def after_fork_in_child(self) -> None:
        """Drop what belongs to the parent: its thread, its connection, and its commits."""
        self._forget()
        self.outbox.forget()

    def start(self) -> None:
        """Start the thread in this process, unless it runs."""
        if self._thread is not None and self._thread.is_alive():
            return
        if not self._starting.acquire(blocking=False):
            return  # another thread is starting it
        try:
            if self._thread is None or not self._thread.is_alive():
                self._is_closed = False
                thread = Thread(target=self._run, name="alligator-relay", daemon=True)
                thread.start()
                self._thread = thread
        except RuntimeError as error:  # the interpreter is shutting down, or has too many threads
            log.error(
                "could not start a relay; the relay of another process pushes the tasks: %s", error
            )
        finally:
            self._starting.release()

    def add(self, commit: Commit) -> None:
        """Push a *commit* of this process that has just been committed with its row."""
        if len(self._fresh) < MAX_FRESH and not self._is_away:
            self._fresh.append(commit)
        self.start()
        self._wake.set()

    def expect(self, commit: Commit) -> None:
        """Push a *commit* of this process as soon as its row is committed, which is about to happen."""
        if len(self._expected) < MAX_FRESH and not self._is_away:
            self._expected[str(commit.commit_id)] = commit, time.monotonic()
        self.start()
        self._wake.set()

    def close(self) -> None:
        """End the thread, after it has pushed the commits of this process; others stay in the outbox."""
        self._end()
        self.same_server.close()

    def _end(self) -> None:
        thread, self._is_closed = self._thread, True
        self._wake.set()
        if thread is not None and thread is not current_thread():
            thread.join(PATIENCE)

    def check(self) -> bool:
        """Return whether there is an outbox; it needs none if the store is in the same database.

        Raises `ConfigurationError` if it needs one.
        """
        try:
            self.outbox.check()
        except ConfigurationError as error:
            same = self.same_server
            if same.is_possible(self.outbox.dialect) and same.is_same(self.outbox.query):
                return False
            if same.reason:
                raise ConfigurationError(f"{error} It is needed because {same.reason}.") from error
            raise
        return True

    def watch(self) -> None:
        """Start in a worker, which looks more often for what killed processes have left.

        Raises `ConfigurationError` if the outbox has no table, and needs one.
        """
        self._end()  # one thread at a time may use the outbox
        try:
            if not self.check():
                return
        except ConfigurationError:
            raise
        except Exception as error:  # the database is away: the relay waits for it
            log.warning("the outbox cannot be read yet: %s", describe(error))
        finally:
            self.outbox.close()  # the thread has a connection of its own
        self._scan_seconds = WORKER_SCAN_SECONDS
        self.start()

    def run_once(self, grace: float = 0.0, limit: int = COMMITS_A_TRIP) -> int:
        """Push one batch of what is in the outbox; return how many commits were settled.

        Raises `BackendUnavailable`, or an error of the database.
        """
        with self.outbox.claimed(limit, grace) as rows:
            if not rows:
                return 0
            readable = [row for row in rows if row.commit.messages]
            size = sum(len(message.data) for row in readable for message in row.commit.messages)
            for row in readable:
                row.commit.deadline = time.monotonic() + PUSH_SECONDS + size / BYTES_A_SECOND
            pushed = self._push([row.commit for row in readable])
            results: dict[int, Pushed] = {
                row.id: result for row, result in zip(readable, pushed, strict=True)
            }
            away = [error for error in results.values() if isinstance(error, BackendUnavailable)]
            self.outbox.release(
                [row for row in readable if isinstance(results[row.id], BackendUnavailable)]
            )
            self.outbox.remove(
                [row.id for row in readable if not isinstance(results[row.id], Exception)]
            )
            for row in rows:
                error = results.get(row.id, ConfigurationError("the row cannot be read"))
                if isinstance(error, Exception) and not isinstance(error, BackendUnavailable):
                    self._set_aside(row, error)
            number = len(rows) - len(away)
        if away and not number:
            raise away[0]
        return number

    # The thread.

    def _run(self) -> None:
        scanned_at = -inf
        failures = 0
        while True:
            wait = max(0.0, scanned_at + self._scan_seconds - time.monotonic())
            if failures:
                wait = pause_after(failures, FIRST_PAUSE, LONGEST_PAUSE)
                self._pause(wait)
            elif not (self._fresh or self._is_closed):
                self._wake.wait(min(wait, self._look() if self._expected else wait))
            self._wake.clear()
            if self._is_closed and (failures or not (self._fresh or self._expected)):
                break
            try:
                if self._expected:
                    self._find_expected()
                    if self._is_closed:  # the others are not committed yet, and are found by a scan
                        self._expected.clear()
                if fresh := self._take():
                    self._relay(fresh)
                if failures or time.monotonic() >= scanned_at + self._scan_seconds:
                    scanned_at = time.monotonic()
                    if not self._scan():
                        break
                    if failures:  # there may have been nothing to push
                        self._client.ping()
                if failures:
                    log.warning("the outbox %s is relayed again", self.outbox.table)
                failures, self._is_away = 0, False
            except Exception as error:  # of any kind: the relay must not end while rows remain
                failures += 1
                self._is_away = True
                self._fresh.clear()  # their rows are in the outbox
                self._expected.clear()
                self._log(error, failures)
        self.outbox.close()

    def _pause(self, seconds: float) -> None:
        """Wait, also if there are new commits; `close` ends the wait."""
        end = time.monotonic() + seconds
        while not self._is_closed and (left := end - time.monotonic()) > 0:
            self._wake.wait(left)
            if not self._is_closed:
                self._wake.clear()

    def _look(self) -> float:
        """Return in how many seconds to look for the rows that are expected."""
        youngest = max(since for _, since in list(self._expected.values()))
        return min(max(FIRST_LOOK, time.monotonic() - youngest), LAST_LOOK)

    def _find_expected(self) -> None:
        """Take the commits whose rows are committed now; give up those that are late."""
        expected = dict(list(self._expected.items())[:COMMITS_A_TRIP])
        for commit_id in self.outbox.visible(list(expected)):
            self._expected.pop(commit_id, None)
            self._fresh.append(expected[commit_id][0])
        for commit_id, (_, since) in expected.items():
            if time.monotonic() - since > GRACE_SECONDS:  # from then on a scan finds it
                self._expected.pop(commit_id, None)

    def _take(self) -> list[Commit]:
        taken: list[Commit] = []
        while self._fresh and len(taken) < COMMITS_A_TRIP:
            taken.append(self._fresh.popleft())
        return taken

    def _relay(self, commits: Sequence[Commit]) -> None:
        """Push commits of this process, and delete their rows."""
        done, away = [], None
        for commit, result in zip(commits, self._push(commits), strict=True):
            if isinstance(result, BackendUnavailable):
                away = result
            elif not isinstance(result, Exception):  # a refused one is set aside by the next scan
                done.append(str(commit.commit_id))
        if done:
            self.outbox.remove_commits(done)
        if away is not None:
            raise away

    def _scan(self) -> bool:
        """Push what other processes have left, look at what remains; return False without an outbox."""
        if self.problem is not None or not self.outbox.is_open:
            has_outbox = self.check()
            self.problem = None
            if not has_outbox:
                return False
        # After a failure one at a time, because a large batch may be what the store is too slow for.
        limit = 1 if self._is_away else COMMITS_A_TRIP
        while not self._is_closed and self.run_once(GRACE_SECONDS, limit):
            limit = COMMITS_A_TRIP
            if self._fresh:
                self._relay(self._take())
        self.content = self.outbox.content()
        return True

    def _push(self, commits: Sequence[Commit]) -> Sequence[Pushed]:
        """Return the outcome of each commit; raise `BackendUnavailable` if none is known."""
        try:
            return self._client.push_commits(commits) if commits else []
        except BackendUnavailable:
            raise
        except Exception as error:  # of one of them: it must not block the others
            if len(commits) == 1:
                return [BackendError(describe(error))]
            return [result for commit in commits for result in self._push([commit])]

    def _set_aside(self, row: Row, error: Exception) -> None:
        delay = pause_after(row.failures + 1, FIRST_DELAY, LONGEST_DELAY)
        self.outbox.set_aside(row, delay, describe(error))
        log.error(
            "the store refused commit %s of %s; it stays in the outbox and is tried again in %.0f s: %s",
            *(row.commit.commit_id, self.outbox.table, delay, describe(error)),
        )

    def _log(self, error: Exception, failures: int) -> None:
        if isinstance(error, ConfigurationError):
            self.problem = error
        # Repeated lines about one outage are of no use.
        level = ERROR if failures == 1 else INFO
        log.log(
            level,
            "the outbox %s cannot be relayed; its tasks stay in it and are tried again: %s",
            *(self.outbox.table, describe(error)),
        )


_relays: WeakSet[Relay] = WeakSet()


def _finish() -> None:
    """Push the last commits of a program that ends."""
    for relay in list(_relays):
        relay.close()


atexit.register(_finish)
