"""Let commits that come at the same moment leave in one trip to the store, as databases do.

Nobody waits when nobody else is committing. While a trip is under way those who come meanwhile gather,
and whoever has the next turn takes all of them along. Each commit has an outcome of its own.
"""

import threading
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from .backends.base import Client, Commit, Message
from .constants import COMMITS_A_TRIP
from .exceptions import AlligatorException, BackendError, BackendUnavailable
from .forks import tell_of_forks

if TYPE_CHECKING:
    from .loop_commit import LoopCommit


class GroupCommit:
    """The pushes of one process to *client*, one trip at a time for its threads and for each event loop.

    The time that a push may take begins when it is asked for: what it waits for its turn is counted.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.after_fork_in_child()
        tell_of_forks(self)

    def after_fork_in_child(self) -> None:
        """Begin anew: those who wait, and whose turn it is, stayed with the parent."""
        self._waiting: deque[_Entry] = deque()
        self._locks: dict[str, AbstractContextManager[bool]] = {}
        self._loops: LoopCommit | None = None

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        """Push, together with what others push at this moment."""
        if not self._client.gathers:
            self._client.push_many(messages, commit_id=commit_id)
            return
        entry = _Entry(Commit(messages, commit_id))
        self._waiting.append(entry)
        try:
            while not entry.is_settled:
                with self._turn():
                    if not entry.is_settled:
                        self._travel()
        except BaseException:  # this thread is told to exit, or its greenlet to give up
            self._give_up(entry)
            raise
        if entry.error is not None:
            raise entry.error

    def apush_many(
        self, messages: Sequence[Message], *, commit_id: str | None
    ) -> Coroutine[Any, Any, None]:
        """Be `push_many`, while the event loop goes on: together with what others of this loop push.

        When its task is cancelled, the cancellation is put off until the outcome is known.
        """
        loop_commit = self._loops
        if loop_commit is None:
            # asyncio: a program without coroutines does not pay for it
            from .loop_commit import LoopCommit

            loop_commit = self._loops = LoopCommit(self._client)
        return loop_commit.push(Commit(messages, commit_id))

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        """Take back a push."""
        self._client.abort(commit_id, messages)

    def _turn(self) -> AbstractContextManager[bool]:
        """Return the lock that is held during a trip."""
        # Made at the first use, through its module, for gevent may have patched it since. One that its
        # holder may take again: a signal handler may push while its own thread is on a trip.
        return self._locks.get("turn") or self._locks.setdefault("turn", threading.RLock())

    def _travel(self) -> None:
        """Push what is waiting, for whoever has the turn."""
        entries: list[_Entry] = []
        try:
            while self._waiting and len(entries) < COMMITS_A_TRIP:
                entries.append(self._waiting.popleft())
        except IndexError:  # the thread of the last has just given up
            pass
        if not entries:
            return
        commits = [entry.commit for entry in entries]
        try:
            errors = self._client.push_commits(commits, waited=monotonic() - entries[0].began)
        except BaseException as error:
            reason = f"the push was broken off: {type(error).__name__}"
            _settle(entries, [BackendUnavailable(reason) for _ in entries])
            raise
        _settle(entries, errors)

    def _give_up(self, entry: "_Entry") -> None:
        """Let *entry* not be pushed, or no longer, if another thread has taken it along."""
        with suppress(ValueError):
            self._waiting.remove(entry)
            return
        messages, commit_id = entry.commit
        if commit_id is not None and not entry.is_settled:
            with suppress(BackendError):
                self._client.abort(commit_id, messages)


class _Entry:
    """A commit that waits for a trip, and what came of it."""

    def __init__(self, commit: Commit) -> None:
        self.commit = commit
        self.began = monotonic()
        self.is_settled = False
        self.error: AlligatorException | None = None


def _settle(entries: Sequence[_Entry], errors: Sequence[AlligatorException | None]) -> None:
    for entry, error in zip(entries, errors, strict=True):
        entry.error = error
        entry.is_settled = True
