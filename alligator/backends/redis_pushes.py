"""Bring commits to Redis, several in one trip: each all or nothing, and none of them twice.

A push whose reply is lost is repeated, then undone; once a worker has had one of its tasks it stays as
a whole, and has succeeded. If the server does not even hear of the undoing, because it hangs, a thread
goes on telling it for as long as a commit is remembered.
"""

import os
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from logging import Logger, getLogger
from threading import Thread
from time import monotonic
from typing import Any, Final, Literal

from redis import exceptions as errors

from ..constants import COMMIT_MEMORY, MAX_TASKS
from ..exceptions import AlligatorException, BackendError, BackendUnavailable, TooManyTasks
from ..offload import outlast
from .base import Commit, Message
from .redis_connection import Call, Connections, Script
from .redis_wire import Wire, Wires

COMMIT_SECONDS = 2.0
"""How long a push may take with everything: a second attempt, and undoing it."""
MARKER_SECONDS = int(COMMIT_MEMORY)

ABORTED, TOO_LATE = 0, -1
"""What the script says of a push that was given up, and of one that nobody waits for any more."""
TAKEN = 1
"""What it says of one that is queued, as of one that was queued before."""

REFUSED: Final = (errors.ResponseError, errors.AuthenticationError, errors.BusyLoadingError)
"""What a server says that has not taken a push, nor will."""

PUSH, ABORT = Script("push"), Script("abort")

log: Logger = getLogger("alligator")


class Pushes:
    """What is on its way to a server, and what has to be taken back."""

    def __init__(self, connections: Connections, prefix: str) -> None:
        self._connections = connections
        self._prefix = prefix
        self._spent: deque[str] = deque()
        self._undone: deque[tuple[float, Call]] = deque()
        self._reaper: Thread | None = None
        self._wires = Wires(connections)

    def push(self, commits: Sequence[Commit], waited: float) -> list[AlligatorException | None]:
        """Be `Client.push_commits`."""
        deadline = monotonic() + COMMIT_SECONDS - waited
        return self._settle([self._prepare(commit) for commit in commits], deadline)

    async def apush(
        self, commits: Sequence[Commit], waited: float
    ) -> list[AlligatorException | None]:
        """Be `Client.apush_commits`: a try beside the event loop, a thread for what is left of it."""
        deadline = monotonic() + COMMIT_SECONDS - waited
        pushes = [self._prepare(commit) for commit in commits]
        wire = await self._wires.get(deadline)
        if wire is not None:
            await self._try_on(wire, [push for push in pushes if push.reply is None], deadline)
        if all(push.is_taken for push in pushes):
            return [self._outcome(push) for push in pushes]
        return await outlast(lambda: self._settle(pushes, deadline))

    async def _try_on(self, wire: Wire, pushes: "Sequence[_Push]", deadline: float) -> None:
        until = min(deadline, monotonic() + self._connections.answer)
        latest = wire.server_time(until)
        for push in pushes:
            push.leave(latest)
        try:
            replies = await wire.exchange([push.call for push in pushes], until)
        except BaseException:  # nobody waits for another try
            for push in pushes:
                self._undo_later(push)
            raise
        for push, reply in zip(pushes, replies, strict=True):
            push.come_back(reply)

    def _settle(
        self, pushes: "Sequence[_Push]", deadline: float
    ) -> list[AlligatorException | None]:
        """Send what the server is not known to have, or undo it; say what went wrong with each."""
        unsettled = [push for push in pushes if push.may_go_again]
        try:
            for again in (False, True):
                if unsettled:
                    self._try(unsettled, deadline, again=again)
                    unsettled = [push for push in unsettled if push.may_go_again]
        finally:
            for push in pushes:
                if push.is_in_doubt and not self._undo(push, deadline):
                    push.reply = TAKEN
        return [self._outcome(push) for push in pushes]

    def close(self) -> None:
        """Close what event loops have open."""
        self._wires.close()

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        """Be `Client.abort`."""
        self._connections.call(*self._abort_call(self._marker(commit_id), messages, "part"))

    def _try(self, pushes: "Sequence[_Push]", deadline: float, *, again: bool) -> None:
        """Send them together, and note what comes back."""
        until = min(deadline, monotonic() + self._connections.answer)
        try:
            connection = self._connections.take(until)
            # What lay in a network or a server that hung is refused when it arrives after that.
            latest = self._connections.server_time(connection, until, anew=again)
        except errors.RedisError as error:
            for push in pushes:
                push.reply = error
            return
        for push in pushes:
            push.leave(latest)
        replies = self._connections.run_all(connection, [push.call for push in pushes], until)
        for push, reply in zip(pushes, replies, strict=True):
            push.come_back(reply)

    def _outcome(self, push: "_Push") -> AlligatorException | None:
        reply, store = push.reply, self._connections.store
        if isinstance(reply, errors.RedisError):
            error = self._connections.explain(reply)
            error.__cause__ = reply
            return error
        if isinstance(reply, AlligatorException):
            return reply
        if reply == TOO_LATE:
            return BackendUnavailable(f"{store} took a push in too late")
        if reply == ABORTED:
            return BackendError(f"{store}: the commit had been aborted already")
        if push.trips == 1 and push.commit.commit_id is None:
            # No copy of it is under way: the next push takes the marker away.
            self._spent.append(push.call.keys[0])
        return None

    def _prepare(self, commit: Commit) -> "_Push":
        """Write down the keys and arguments of a push, but for the second, its time."""
        marker = self._marker(commit.commit_id or os.urandom(12).hex())
        spent = marker
        if self._spent:
            with suppress(IndexError):  # another thread has just had the last
                spent = self._spent.pop()
        keys = [marker, spent, f"{self._prefix}queues"]
        args: list[str | int] = [MARKER_SECONDS, 0]
        for name, group in _by_queue(commit.messages).items():
            keys.append(self._prefix + name)
            args += name, len(group)
            for _, task_id, data, delay in group:
                args += task_id, data, round(delay * 1e6) if delay > 0 else 0
        push = _Push(commit, keys, args)
        if len(commit.messages) > MAX_TASKS:
            push.reply = TooManyTasks(
                f"{len(commit.messages)} tasks in one push: {MAX_TASKS} is the most"
            )
        return push

    def _abort_call(
        self, marker: str, messages: Sequence[Message], extent: Literal["whole", "part"]
    ) -> Call:
        keys = [marker]
        args: list[str | int] = [MARKER_SECONDS, extent]
        for name, group in _by_queue(messages).items():
            keys.append(self._prefix + name)
            args += len(group), *(message.task_id for message in group)
        return Call(ABORT, keys, args)

    def _marker(self, commit_id: str) -> str:
        return f"{self._prefix}{commit_id}:commit"

    def _undo(self, push: "_Push", deadline: float) -> bool:
        """Abort a push in what is left of its time, else as soon as the server listens.

        Returns False if it stands, for a worker has had one of its tasks: none is taken back then.
        """
        marker, messages = push.call.keys[0], push.commit.messages
        abort = self._abort_call(marker, messages, "whole")
        try:
            return not self._connections.run(self._connections.take(deadline), abort, deadline)
        except errors.RedisError:
            self._undo_later(push)
            return True

    def _undo_later(self, push: "_Push") -> None:
        call = self._abort_call(push.call.keys[0], push.commit.messages, "part")
        self._undone.append((monotonic() + MARKER_SECONDS, call))
        self._start_reaper()

    def _start_reaper(self) -> None:
        if self._reaper is None or not self._reaper.is_alive():  # a forked child has none
            self._reaper = Thread(target=self._reap, name="alligator-abort", daemon=True)
            self._reaper.start()

    def _reap(self) -> None:
        pause = 0.05
        while self._undone:
            until, abort = self._undone.popleft()
            try:
                self._connections.call(*abort)
                pause = 0.05
            except BackendError as error:
                if monotonic() > until:
                    log.warning("A push that failed could not be undone: %s", error)
                    continue
                self._undone.append((until, abort))
                time.sleep(pause)  # through its module, for gevent may have patched it since
                pause = min(2 * pause, 1.0)
        self._reaper = None
        if self._undone:  # one came since
            self._start_reaper()


class _Push:
    """One commit, and what is known of its way."""

    trips = 0
    reply: Any = None
    is_in_doubt = False
    """Whether the server may have got a copy, or be yet to get it."""
    _was_in_doubt = False

    def __init__(self, commit: Commit, keys: list[str], args: list[str | int]) -> None:
        self.commit = commit
        self.call = Call(PUSH, keys, args)
        self._args = args

    def leave(self, latest: int) -> None:
        """Note that a copy goes to the server, which shall refuse it after *latest*."""
        self.trips += 1
        self._args[1] = latest
        self._was_in_doubt, self.is_in_doubt = self.is_in_doubt, True

    def come_back(self, reply: Any) -> None:
        """Note what the server said of that copy, or that nothing was heard."""
        self.reply = reply
        if reply == TOO_LATE or isinstance(reply, REFUSED) or reply is None:
            self.is_in_doubt = self._was_in_doubt
        elif not isinstance(reply, errors.RedisError):
            self.is_in_doubt = False

    @property
    def may_go_again(self) -> bool:
        """Whether a copy may fare better: there was none yet, it was lost, or took too long."""
        if isinstance(self.reply, errors.RedisError):
            return not isinstance(self.reply, REFUSED)
        return self.reply is None or bool(self.reply == TOO_LATE)

    @property
    def is_taken(self) -> bool:
        """Whether the server has it."""
        return bool(self.reply == TAKEN)


def _by_queue(messages: Iterable[Message]) -> dict[str, list[Message]]:
    groups: dict[str, list[Message]] = {}
    for message in messages:
        groups.setdefault(message.queue_name, []).append(message)
    return groups
