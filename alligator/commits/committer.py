"""Push the commits of one process to a store."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from .._runtime.coroutines import complete
from .._runtime.forks import register_fork_hooks
from .._runtime.locks import LazyDict
from ..backends.base import Client, Commit, Duplicates
from ..exceptions import BackendUnavailable
from .breaker import Breaker
from .trips import ThreadTrips

if TYPE_CHECKING:
    from .loop_trips import Loops
    from .spool import Spool

T = TypeVar("T")


class Committer:
    """Pushes commits to *client*: it owns group commit, breaker and spool.

    *spool* is the path of the spool's file. Concurrent commits share a trip: those of all threads,
    and those of each event loop. The time that a push may take begins at the call. It includes
    waiting for other trips.

    A commit is pushed once. To repeat one, push another with the same id. If somebody chose that id,
    such as that of a row or of a schedule's tick, its `Commit.undo` is False: see `Client.push_many`.
    """

    def __init__(self, client: Client, *, breaker: bool = True, spool: str | None = None) -> None:
        self._client = client
        self.breaker: Breaker | None = Breaker() if breaker else None
        self.spool: Spool | None = _open_spool(spool, client) if spool else None
        self.after_fork_in_child()
        register_fork_hooks(self)

    def after_fork_in_child(self) -> None:
        """Drop all waiting commits: their threads exist only in the parent."""
        make = partial(ThreadTrips, self._client, self.breaker)
        self._threads: LazyDict[str, ThreadTrips] = LazyDict(make)
        self._loops: Loops | None = None

    def push(self, commit: Commit) -> Duplicates | None:
        """Push, or keep the commit in the spool; return what `Client.push_many` returns.

        Raises `BackendUnavailable` at once while the breaker is open.
        """
        return complete(self.commit(commit, awaits=False))

    async def commit(self, commit: Commit, *, awaits: bool) -> Duplicates | None:
        """Push as `push` does; if the caller *awaits* it, it waits on the event loop.

        If its task is cancelled, it ends at once, and the commit is undone.
        """
        spool, breaker, client = self.spool, self.breaker, self._client
        if awaits and not client.groups_commits:
            if client.blocking:
                return await self._in_thread(partial(self.push, commit), commit)
            awaits = False
        if spool is not None:
            if awaits and not spool.is_awake:
                await self._in_thread(spool.wake, commit)
            spool.prepare(commit)
        is_trial = False
        try:
            if breaker is not None and breaker.failures:
                is_trial = breaker.enter()
            if not awaits:
                self._threads["threads"].push(commit)
            else:
                if self._loops is None:
                    # Imported here because it imports asyncio.
                    from .loop_trips import Loops

                    self._loops = Loops(client, breaker)
                await self._loops.push(commit)
            outcome = commit.outcome
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome
        except BackendUnavailable as error:
            if spool is None:
                raise
            if awaits:
                await self._in_thread(partial(spool.keep, commit, error), commit)
            else:
                spool.keep(commit, error)
            return None
        finally:
            if is_trial and breaker is not None:
                breaker.end_trial()

    async def _in_thread(self, call: Callable[[], T], commit: Commit) -> T:
        from .._runtime.threads import run_in_thread

        return await run_in_thread(call, partial(self._undo_cancelled, commit))

    def _undo_cancelled(self, commit: Commit) -> None:
        """Undo a commit if it is queued: the task that waited for it was cancelled."""
        if commit.undo and commit.is_settled and not isinstance(commit.outcome, BaseException):
            self.abort(commit)

    def abort(self, commit: Commit) -> None:
        """Undo a push, in the spool or in the store."""
        if self.spool is not None:
            self.spool.abort(commit)
        elif commit.commit_id is not None:
            self._client.abort(commit.commit_id, commit.messages)

    def close(self) -> None:
        """Release files and threads; what the spool holds stays in its file."""
        if self.spool is not None:
            self.spool.close()
        for trips in self._threads.values():
            trips.close()


def _open_spool(path: str, client: Client) -> "Spool":
    from .spool import Spool  # loads sqlite3

    return Spool(path, client)
