"""Let the commits of an event loop leave in one trip to the store: `group_commit` for coroutines."""

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from contextvars import Context
from logging import Logger, getLogger
from time import monotonic
from weakref import WeakKeyDictionary

from .backends.base import Client, Commit
from .constants import COMMITS_A_TRIP
from .exceptions import AlligatorException, BackendUnavailable

log: Logger = getLogger("alligator")


class LoopCommit:
    """The pushes of coroutines to *client*: of each event loop one trip at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()

    async def push(self, commit: Commit) -> None:
        """Push, together with what others push at this moment; raise what went wrong with this."""
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines[loop] = _Line()
        entry = _Entry(commit, loop)
        line.waiting.append(entry)
        if line.driver is None or line.driver.done():
            # In a context of its own, for it outlives the request that happens to begin it.
            line.driver = loop.create_task(self._drive(line), context=Context())
            line.driver.add_done_callback(line.end)
        try:
            await entry
        except asyncio.CancelledError:
            # The outcome is there: let it be seen, and let the cancellation hit the next await.
            task = asyncio.current_task()
            if task is None or not entry.done():
                raise
            task.uncancel()
            task.cancel()
        if entry.error is not None:
            raise entry.error

    async def _drive(self, line: "_Line") -> None:
        """Make trips until nobody waits for one, or the event loop ends."""
        driver = asyncio.current_task()
        assert driver is not None
        while line.waiting and not driver.cancelling():
            count = min(COMMITS_A_TRIP, len(line.waiting))
            entries = [line.waiting.popleft() for _ in range(count)]
            commits = [entry.commit for entry in entries]
            waited = monotonic() - entries[0].began
            try:
                _settle(entries, await self._client.apush_commits(commits, waited=waited))
            except BaseException as error:
                _break_off(entries, type(error).__name__)
                if not isinstance(error, Exception):
                    raise
                log.exception("%d pushes were broken off", len(entries))


class _Line:
    """The commits of one event loop that wait for the next trip."""

    def __init__(self) -> None:
        self.waiting: deque[_Entry] = deque()
        self.driver: asyncio.Task[None] | None = None

    def end(self, driver: "asyncio.Task[None]") -> None:
        """Be told that *driver* has ended: with the event loop if some still wait, maybe unbegun."""
        if self.driver is driver:
            self.driver = None  # a task holds its event loop, and we would hold the task
            _break_off(self.waiting, "the event loop ends")
            self.waiting.clear()


class _Entry(asyncio.Future[None]):
    """A commit that waits for its outcome, whatever happens to the task that waits for it."""

    error: AlligatorException | None = None

    def __init__(self, commit: Commit, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.commit = commit
        self.began = monotonic()

    def cancel(self, msg: object = None) -> bool:
        """Refuse, so that asyncio notes the cancellation of the task for later."""
        return False


def _settle(entries: Collection[_Entry], errors: Sequence[AlligatorException | None]) -> None:
    for entry, error in zip(entries, errors, strict=True):
        if not entry.done():
            entry.error = error
            entry.set_result(None)


def _break_off(entries: Collection[_Entry], why: str) -> None:
    _settle(entries, [BackendUnavailable(f"the push was broken off: {why}") for _ in entries])
