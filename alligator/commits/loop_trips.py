"""Trips for coroutines: the commits of an event loop share a trip to the store."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from functools import partial
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from .._runtime.threads import start_in_thread
from ..backends.base import Client, Commit
from .breaker import Breaker
from .trips import Trips, log_not_undone


class Loops:
    """The trips of each event loop that pushes to *client*."""

    def __init__(self, client: Client, breaker: Breaker | None) -> None:
        self._client = client
        self._breaker = breaker
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopTrips] = WeakKeyDictionary()

    def push(self, commit: Commit) -> Coroutine[Any, Any, None]:
        """Push with the next trip of the running event loop."""
        loop = asyncio.get_running_loop()
        trips = self._by_loop.get(loop)
        if trips is None:
            trips = self._by_loop[loop] = LoopTrips(self._client, self._breaker)
        return trips.push(commit, loop)


class LoopTrips(Trips):
    """The waiting commits of the running event loop, and the driver: a task that makes trips."""

    def __init__(self, client: Client, breaker: Breaker | None) -> None:
        super().__init__(client, breaker)
        self.driver: asyncio.Task[None] | None = None

    async def push(self, commit: Commit, loop: asyncio.AbstractEventLoop) -> None:
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
            commit.is_abandoned = True
            # If there is no outcome yet, the driver undoes the commit after its trip.
            if commit.is_settled and not isinstance(commit.outcome, BaseException):
                self.undo(commit)
            raise

    def undo(self, commit: Commit) -> None:
        """Undo, in a thread, a commit that failed for its caller."""
        if commit.undo and commit.commit_id is not None:
            try:
                start_in_thread(partial(super().undo, commit))
            except RuntimeError as error:  # no thread can be started
                log_not_undone(commit, error)

    # The driver.

    def _start_driver(self, loop: asyncio.AbstractEventLoop) -> None:
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
        driver = asyncio.current_task()
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
