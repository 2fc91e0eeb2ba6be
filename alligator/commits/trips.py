"""Trips: commits that share a round trip to the store, and what becomes of each of them."""

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from logging import Logger, getLogger
from time import monotonic
from typing import TYPE_CHECKING

from .._runtime.coroutines import complete
from .._runtime.ids import new_id
from ..backends.base import Client, Commit, Duplicates
from ..constants import COMMITS_A_TRIP, MAX_COMMIT_BYTES
from ..exceptions import AlligatorException, BackendUnavailable
from .breaker import Breaker

if TYPE_CHECKING:
    import asyncio

Outcome = BaseException | Duplicates | None

IDLE_SECONDS = 5.0
"""How long the driver of threads waits for more commits before it ends."""

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
        waiting, size = self.waiting, 0
        while waiting and len(commits) < COMMITS_A_TRIP:
            commit = waiting[0]
            size += sum([len(message.data) for message in commit.messages])
            if commits and (
                size > MAX_COMMIT_BYTES or not can_share_trip(commits[0].deadline, commit.deadline)
            ):
                break
            commits.append(waiting.popleft())
        return commits

    async def make(self, commits: Sequence[Commit], *, awaits: bool, again: bool = False) -> None:
        """Make a trip with *commits*, and settle them; on the event loop if the caller *awaits* it."""
        began = monotonic()
        outcomes: Sequence[Outcome]
        try:
            if awaits:
                outcomes = await self.client.apush_commits(commits)
            else:
                outcomes = self.client.push_commits(commits)
        except Exception as error:
            if awaits and not again and isinstance(error, RuntimeError):  # no thread can be started
                self.fail(commits, f"the push was interrupted: RuntimeError: {error}")
                return
            if len(commits) > 1:
                # Another commit may be the cause. So each is pushed alone, again under its id.
                for commit in commits:
                    await self.make([commit], awaits=awaits, again=True)
                return
            outcomes = [error] * len(commits)
        self.settle(commits, outcomes, began)

    def settle(self, commits: Sequence[Commit], outcomes: Sequence[Outcome], began: float) -> None:
        """Record the outcomes of a trip that began at *began*, and wake the callers."""
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
        """Undo a commit that failed for its caller, whether the store has it or not."""
        if commit.commit_id is None or not commit.undo:
            return
        try:
            self.client.abort(commit.commit_id, commit.messages)
        except Exception as error:  # of any kind: others wait for the outcomes of this trip
            _log_not_undone(commit, error)

    def abandon(self, commit: Commit) -> None:
        """Undo a commit whose caller no longer waits; without an outcome, its trip undoes it."""
        commit.is_abandoned = True
        if commit.is_settled and not isinstance(commit.outcome, BaseException):
            self.undo(commit)


class ThreadTrips(Trips):
    """The waiting commits of threads, and the driver that makes trips for them: group commit.

    A thread that commits alone makes its own trip: handing it to another thread would take as long as
    the trip to a fast store. During that trip, the commits of other threads wait. The driver, an
    internal thread, sends all waiting commits in its next trip.
    """

    def __init__(self, client: Client, breaker: Breaker | None) -> None:
        super().__init__(client, breaker)
        self._trip_lock = threading.Lock()
        """Held during a trip."""
        self._travelers: set[int] = set()
        """The threads that make a trip for their own commit, or are about to."""
        self._wake = threading.Lock()
        """Released when the driver has something to do."""
        self._wake.acquire()
        self._driver: threading.Thread | None = None
        self._is_closing = False

    def push(self, commit: Commit) -> None:
        """Push in this thread if no trip is in progress, otherwise with the driver's next trip."""
        this = threading.get_ident()
        # The second: this is a signal handler, and the thread that it interrupted is making a trip.
        if not self.client.groups_commits or this in self._travelers:
            return self.make_alone(commit)
        if not self.waiting:
            self._travelers.add(this)  # before the lock, because a signal may arrive at any moment
            try:
                if self._trip_lock.acquire(blocking=False):
                    return self.make_alone(commit, self._trip_lock)
            finally:
                self._travelers.discard(this)
        return self._wait(commit)

    def make_alone(self, commit: Commit, trip_lock: "threading.Lock | None" = None) -> None:
        """Make a trip with only the commit of this thread; release *trip_lock*, which it holds."""
        try:
            try:
                complete(self.make((commit,), awaits=False))
            finally:
                if trip_lock is not None:
                    trip_lock.release()
        except BaseException:  # for example, the thread is interrupted, or its greenlet is killed
            self.undo(commit)
            raise

    def _wait(self, commit: Commit) -> None:
        """Let the driver send it, and wait for its outcome."""
        commit.commit_id = commit.commit_id or new_id()
        commit.deadline = commit.deadline or monotonic() + self.client.commit_seconds
        commit.future = waiter = Waiter()
        try:
            self.waiting.append(commit)
            if not self._ensure_driver() and waiter.claim():  # no thread could be started
                self._trip_lock.acquire()
                return self.make_alone(commit, self._trip_lock)
            waiter.wait()
        except BaseException:  # the thread is interrupted, or its greenlet is killed
            if not waiter.claim():  # otherwise it will not be sent
                self.abandon(commit)
            raise

    # The driver.

    def _ensure_driver(self) -> bool:
        """Wake or start the driver; return False if no thread can be started."""
        with suppress(RuntimeError):  # it has been woken already
            self._wake.release()
        if self._driver is None:
            self._is_closing = False
            # Two threads that arrive here at once start one driver each. Neither relies on the
            # other's, whose start may fail, or may have been interrupted by a signal handler.
            try:
                threading.Thread(target=self._drive, name="alligator-commits", daemon=True).start()
            except RuntimeError:
                return False
        return True

    def close(self) -> None:
        """End the driver after it has sent all waiting commits."""
        driver = self._driver
        if driver is not None:
            self._is_closing = True
            with suppress(RuntimeError):
                self._wake.release()
            driver.join(self.client.commit_seconds)

    def _drive(self) -> None:
        """Make trips until no commit has waited for `IDLE_SECONDS`."""
        this = self._driver = threading.current_thread()
        try:
            while self._wake.acquire(timeout=IDLE_SECONDS) or self.waiting:
                while self.waiting:
                    self._make_trip()
                if self._is_closing:
                    break
        finally:
            if self._driver is this:
                self._driver = None
            if self._is_closing:  # a second driver may have been started
                with suppress(RuntimeError):
                    self._wake.release()
            # A commit may have arrived before the driver was reset, or a trip raised.
            if self.waiting and not self._ensure_driver():
                commits = [commit for commit in self.take() if commit.future.claim()]
                self.fail(commits, "no thread could be started to push the tasks")

    def _make_trip(self) -> None:
        """Make one trip with the waiting commits that can share it."""
        with self._trip_lock:
            commits = [commit for commit in self.take() if commit.future.claim()]
            if not commits:
                return
            try:
                complete(self.make(commits, awaits=False))
            except BaseException as error:  # for example, all greenlets are killed
                unsettled = [commit for commit in commits if not commit.is_settled]
                for commit in unsettled:
                    self.undo(commit)
                self.fail(unsettled, f"the push was interrupted: {type(error).__name__}")
                raise


class Waiter:
    """What a thread waits for until its commit is settled: a future without the rest."""

    __slots__ = ("_claim", "_settled")

    def __init__(self) -> None:
        # Looked up in its module, because gevent may have patched it after this import.
        self._claim = threading.Lock()
        self._settled = threading.Lock()
        self._settled.acquire()

    def claim(self) -> bool:
        """Return True to the first caller, who may send the commit or drop it."""
        return self._claim.acquire(blocking=False)

    def wait(self) -> None:
        """Wait until the commit is settled."""
        self._settled.acquire()

    def done(self) -> bool:
        """Return False: it is not cancelled with its thread, unlike the future of a coroutine."""
        return False

    def set_result(self, result: None) -> None:
        """End the wait."""
        self._settled.release()


class LoopTrips(Trips):
    """The waiting commits of an event loop, and the driver: a task that makes trips."""

    def __init__(self, client: Client, breaker: Breaker | None) -> None:
        super().__init__(client, breaker)
        self.driver: asyncio.Task[None] | None = None

    async def push(self, commit: Commit, loop: "asyncio.AbstractEventLoop") -> None:
        """Push with the next trip of *loop*, which is running.

        If the waiting task is cancelled, it ends at once. The commit is then left out of the next
        trip, or undone if its trip is in progress: its tasks are not queued.
        """
        commit.deadline = commit.deadline or monotonic() + self.client.commit_seconds
        commit.future = loop.create_future()
        self.waiting.append(commit)
        try:
            if self.driver is None or self.driver.done():
                self._start_driver(loop)
            await commit.future
        except BaseException:
            commit.future.cancel()
            self.abandon(commit)
            raise

    def undo(self, commit: Commit) -> None:
        """Undo, in a thread, a commit that failed for its caller."""
        if commit.undo and commit.commit_id is not None:
            from .._runtime.threads import start_in_thread  # loads asyncio

            try:
                start_in_thread(partial(super().undo, commit))
            except RuntimeError as error:  # no thread can be started
                _log_not_undone(commit, error)

    # The driver.

    def _start_driver(self, loop: "asyncio.AbstractEventLoop") -> None:
        # In a context of its own, because it outlives the request that starts it. The context is not
        # passed as an argument, because old task factories do not accept it.
        driving = self._drive()
        try:
            driver = Context().run(loop.create_task, driving)
        except BaseException:
            driving.close()
            raise
        if not driver.done():  # an eager task may have ended
            self.driver = driver
            driver.add_done_callback(self._end)

    async def _drive(self) -> None:
        """Make trips until no commit waits, or the event loop ends."""
        from asyncio import current_task

        driver = current_task()
        assert driver is not None
        while self.waiting and not driver.cancelling():
            commits = [commit for commit in self.take() if not commit.future.done()]
            if not commits:
                continue
            try:
                await self.make(commits, awaits=True)
            except BaseException as error:  # the event loop ends
                unsettled = [commit for commit in commits if not commit.is_settled]
                self.fail(unsettled, f"the push was interrupted: {type(error).__name__}")
                raise

    def _end(self, driver: "asyncio.Task[None]") -> None:
        """Forget *driver*, which has ended; if commits still wait, the event loop ends: fail them."""
        if self.driver is driver:
            self.driver = None  # a reference to the task would keep its event loop alive
            commits = [*self.waiting]
            self.waiting.clear()
            self.fail(commits, "the push was interrupted: the event loop ends")


def _log_not_undone(commit: Commit, error: Exception) -> None:
    """Log that *commit* could not be undone."""
    log.error(
        "%d tasks of a failed commit may be on the queue, because it could not be undone: %s",
        *(len(commit.messages), error),
    )


def can_share_trip(first: float | None, other: float | None) -> bool:
    """Return whether two commits with the deadlines *first* and *other* can share a trip.

    A trip ends when its *first* commit has no time left. If the *other* has much more time, it could
    fail only because the first began earlier. So it may have at most twice as much.
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
