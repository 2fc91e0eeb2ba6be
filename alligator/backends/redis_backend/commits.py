"""Push commits to Redis, several in one round trip: each as a whole or not at all, and only once.

A push whose reply is lost is repeated, then undone. It is not undone if a worker has had one of its
tasks: then it has succeeded. If the server does not answer the undo either, because it hangs, a thread
repeats it for as long as a commit is remembered.
"""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from logging import Logger, getLogger
from time import monotonic
from typing import Any, Final, Literal

from redis import exceptions as errors

from ..._runtime.backoff import pause_after
from ..._runtime.coroutines import complete
from ..._runtime.ids import new_id
from ..._runtime.threads import run_to_end
from ...constants import COMMIT_MEMORY, COMMIT_SECONDS, MAX_TASKS
from ...exceptions import AlligatorException, BackendError, BackendUnavailable, TooManyTasks
from ..base import Commit, Message, Pushed, bounded, memory_of
from ..pending_aborts import FIRST_PAUSE, LONGEST_PAUSE, PendingAborts
from ..unique import Held
from .blocking import Connection
from .connection import Connections
from .event_loop import LoopConnection, LoopConnections
from .outcomes import pack_follow_ups, with_keys
from .protocol import Call, Script

MARKER_SECONDS = int(COMMIT_MEMORY)

ABORTED, TOO_LATE = 0, -1
"""The replies of the script to a push that was aborted before, and to one after its deadline."""
QUEUED = 1
"""Its reply to a push that is queued, now or before; with duplicates, it is a list of them."""

SIGNS: Final = {1: "+", -1: "-"}
"""What the script expects before the delay of a task whose priority is high or low."""

REFUSED: Final = (errors.ResponseError, errors.AuthenticationError, errors.BusyLoadingError)
"""The errors of a server that has not queued the push, and will not."""

LINES: Final = ("priorities", "lines")
"""The parts of scripts that look at the tasks that wait, in whichever order these are reserved."""
TASKS: Final = (*LINES, "tasks")
"""The parts of scripts that also look for tasks by their ids."""

PUSH, ABORT = Script("push", "push_plain", *TASKS, "batches"), Script("abort", *TASKS, "unique")
FOLLOW = Script("follow", *TASKS, "batches", "follow_begin", "push")
"""What pushes a commit with follow-ups."""

Extent = Literal["whole", "part", "half"]
"""What an abort removes. "whole": all tasks, or none if a worker has had one of them. "part": the tasks
that no worker has had. "half": the same, and the remains of a push that failed in the middle."""

log: Logger = getLogger("alligator")


class Pusher:
    """Pushes commits to a server, and undoes those that failed."""

    def __init__(self, connections: Connections, prefix: str) -> None:
        self._connections = connections
        self._prefix = prefix
        self._settled_markers: deque[str] = deque()
        self.pending: PendingAborts = PendingAborts()
        self._loop_connections = LoopConnections(connections)

    async def push(self, commits: Sequence[Commit], *, awaits: bool) -> list[Pushed]:
        """Push *commits* by the earliest of their deadlines, and return the result of each.

        If the caller *awaits* it, the first attempt is made on the event loop; a thread does the rest.
        """
        now = monotonic()
        deadline = min([each.deadline or now + COMMIT_SECONDS for each in commits], default=now)
        seconds = deadline - now
        pushes = [self._prepare(commit) for commit in commits]
        attempt_seconds = self._connections.timeout
        if not awaits:
            if seconds > COMMIT_SECONDS:
                # No request waits for it, so the first of two attempts may take half of the time.
                attempt_seconds = seconds / 2
            return self._push_or_undo(pushes, deadline, attempt_seconds)
        link = await self._loop_connections.get(deadline)
        if link is not None:
            until = min(deadline, monotonic() + attempt_seconds)
            await self._try([push for push in pushes if push.reply is None], until, link)
        if all(push.reply == QUEUED or push.is_queued for push in pushes):
            return self._outcomes(pushes)
        return await run_to_end(lambda: self._push_or_undo(pushes, deadline, attempt_seconds))

    def _push_or_undo(
        self, pushes: "Sequence[_Push]", deadline: float, attempt_seconds: float
    ) -> list[Pushed]:
        """Push what the server may not have, or undo it; return the result of each push."""
        unsettled = [push for push in pushes if push.reply is None or push.can_retry]
        try:
            for again in (False, True):
                if unsettled:
                    until = min(deadline, monotonic() + attempt_seconds)
                    complete(self._try(unsettled, until, again=again))
                    unsettled = [
                        push for push in unsettled if push.reply != QUEUED and push.can_retry
                    ]
        finally:
            for push in pushes:
                if push.is_in_doubt and push.must_undo and not self._undo(push, deadline):
                    push.reply = QUEUED
        return self._outcomes(pushes)

    def close(self) -> None:
        """Close the connections of event loops, and wait for the thread that undoes pushes."""
        self._loop_connections.close()
        self.pending.close()

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        """Undo the push of *commit_id*, as `Client.abort` describes."""
        self._connections.call(self._abort_call(self._marker(commit_id), messages, "part"))

    async def _try(
        self,
        pushes: "Sequence[_Push]",
        until: float,
        link: LoopConnection | None = None,
        *,
        again: bool = False,
    ) -> None:
        """Send *pushes* together, over *link* on an event loop; record the replies that come *until*."""
        connection: Connection | None = None
        try:
            # The server refuses a push that arrives later, for example after the network hung.
            if link is not None:
                latest = link.server_time(until)
            else:
                connection = self._connections.acquire(until)
                latest = self._connections.server_time(connection, until, refresh=again)
        except errors.RedisError as error:
            for push in pushes:
                push.reply = error
            return
        for push in pushes:
            push.attempts += 1
            push.command[push.latest_at] = latest
            push.was_in_doubt, push.is_in_doubt = push.is_in_doubt, True
        if link is None:
            assert connection is not None
            replies = self._connections.run_all(connection, pushes, until)
        else:
            try:
                replies = await link.exchange(pushes, until)
            except BaseException:  # nothing will repeat it
                for push in pushes:
                    if push.must_undo:
                        self._undo_later(push)
                raise
        for push, reply in zip(pushes, replies, strict=True):
            if reply == QUEUED:
                push.reply, push.is_in_doubt = reply, False
            else:
                push.received(reply)

    def _outcomes(self, pushes: "Sequence[_Push]") -> list[Pushed]:
        for push in pushes:
            if push.commit.commit_id is None and push.attempts == 1 and push.reply == QUEUED:
                # No other copy of it is in transit: the next push deletes the marker.
                self._settled_markers.append(push.marker)
        return [None if push.reply == QUEUED else self._outcome(push) for push in pushes]

    def _outcome(self, push: "_Push") -> Pushed:
        reply, store = push.reply, self._connections.store
        if isinstance(reply, errors.RedisError):
            error = self._connections.explain(reply)
            error.__cause__ = reply
            return error
        if isinstance(reply, AlligatorException):
            return reply
        if reply == TOO_LATE:
            return BackendUnavailable(f"{store} received a push too late and refused it")
        if reply == ABORTED:
            return BackendError(f"{store}: the commit was aborted before; its tasks are not queued")
        # The positions are those of the arguments, where the tasks are grouped by queue.
        messages = push.commit.messages
        groups = [*_by_queue(messages)]
        positions = [place for place, each in enumerate(messages) if not each.follows]
        positions.sort(key=lambda place: groups.index(messages[place].queue_name))
        return sorted(
            Held(positions[place[0]], place[1]) if isinstance(place, list) else positions[place]
            for place in reply
        )

    def _prepare(self, commit: Commit) -> "_Push":
        """Return the push of *commit*; its second argument, the deadline, is set when it is sent."""
        marker = f"{self._prefix}{commit.commit_id or new_id()}:commit"
        settled = marker
        if self._settled_markers:
            try:  # noqa: SIM105 - suppress() costs more
                settled = self._settled_markers.pop()
            except IndexError:  # another thread has taken the last one
                pass
        keys = [marker, settled, f"{self._prefix}queues"]
        memory = int(MARKER_SECONDS if commit.undo else memory_of(commit.commit_id or ""))
        args: list[str | int] = [memory, 0, int(commit.undo)]
        messages, script, at = commit.messages, PUSH, 1
        is_one = len(messages) == 1 and not messages[0].follows
        groups = {messages[0].queue_name: messages} if is_one else _by_queue(messages)
        for name, group in groups.items():
            keys.append(self._prefix + name)
            args += name, len(group)
            for _, task_id, data, delay, priority, unique, _, limit_key in group:
                span = round(bounded(delay) * 1e6) if delay > 0 else 0
                when: str | int = f"{SIGNS[priority]}{span}" if priority else span
                if unique is not None or limit_key is not None:
                    when = with_keys(when, unique, limit_key)
                args += task_id, data, when
        follow_ups = () if is_one else [each for each in messages if each.follows]
        if follow_ups:
            script, at = FOLLOW, at + 1 + 5 * len(follow_ups)
            queues = [self._prefix + each.queue_name for each in follow_ups]
            keys = [f"{self._prefix}{new_id()}:batch", *queues, *keys]
            args = [len(follow_ups), *pack_follow_ups(follow_ups), *args]
        command: list[str | int] = ["EVALSHA", script.sha, len(keys), *keys, *args]
        push = _Push(script, command, commit, marker, 3 + len(keys) + at)
        if len(messages) > MAX_TASKS:
            push.reply = TooManyTasks(
                f"{len(messages)} tasks in one push; the maximum is {MAX_TASKS}"
            )
        return push

    def _abort_call(self, marker: str, messages: Sequence[Message], extent: Extent) -> Call:
        keys = [marker]
        args: list[str | int] = [MARKER_SECONDS, extent]
        for name, group in _by_queue(messages).items():
            keys.append(self._prefix + name)
            args += len(group), *(message.task_id for message in group)
        return ABORT.call(keys, args)

    def _marker(self, commit_id: str) -> str:
        return f"{self._prefix}{commit_id}:commit"

    def _undo(self, push: "_Push", deadline: float) -> bool:
        """Abort a push before *deadline*, or later as soon as the server answers.

        Return False if the push stays, because a worker has had one of its tasks. A server that
        restarts is asked again until *deadline*: until then no worker may find what is to be undone.
        """
        abort = self._abort_call(push.marker, push.commit.messages, push.extent)
        failures = 0
        while True:
            try:
                connection = self._connections.acquire(deadline)
                return not self._connections.run(connection, abort, deadline)
            except errors.RedisError as error:
                failures += 1
                pause = pause_after(failures, FIRST_PAUSE, LONGEST_PAUSE)
                is_away = isinstance(error, errors.ConnectionError | errors.TimeoutError)
                if not is_away or monotonic() + pause >= deadline:
                    self._undo_later(push)
                    return True
                time.sleep(pause)

    def _undo_later(self, push: "_Push") -> None:
        call = self._abort_call(push.marker, push.commit.messages, push.extent)
        self.pending.add(partial(self._connections.call, call))


class _Push(Call):
    """The call for one commit, and what is known about its delivery."""

    extent: Extent = "whole"
    """What an abort removes if it fails."""

    def __init__(
        self, script: Script, command: list[str | int], commit: Commit, marker: str, latest_at: int
    ) -> None:
        self.script, self.command = script, command
        self.commit = commit
        self.marker = marker
        """The key by which the server remembers it."""
        self.latest_at = latest_at
        """The index, in its command, of the time (µs) after which the server refuses it."""
        self.attempts = 0
        self.reply: Any = None
        """The latest result: what the script returned (`QUEUED`, `ABORTED`, `TOO_LATE` or positions of
        duplicates), the error that came instead, or an `AlligatorException` if it must not be sent.
        None: it was not sent yet, or the server rejected the call on an event loop."""
        self.is_in_doubt = False
        """Whether the server may have received a copy, or may still receive one."""
        self.was_in_doubt = False
        """The value of `is_in_doubt` before the latest copy was sent."""

    def received(self, reply: Any) -> None:
        """Record the reply to the latest copy, or the error that came instead."""
        self.reply = reply
        if _failed_halfway(reply):
            self.is_in_doubt, self.extent = True, "half"
        elif reply == TOO_LATE or isinstance(reply, REFUSED) or reply is None:
            self.is_in_doubt = self.was_in_doubt
        elif not isinstance(reply, errors.RedisError):
            self.is_in_doubt = False

    @property
    def must_undo(self) -> bool:
        """Whether it may be on the server although it failed, so that it has to be undone.

        Others may push under an id that somebody chose. Such a push is undone only if it failed in the
        middle, because the next push under the id would count it as complete.
        """
        return self.is_in_doubt and (self.commit.undo or self.extent == "half")

    @property
    def can_retry(self) -> bool:
        """Whether another copy may succeed: none was sent, or it was lost or too late."""
        if isinstance(self.reply, errors.RedisError):
            return not isinstance(self.reply, REFUSED)
        return self.reply is None or bool(self.reply == TOO_LATE)

    @property
    def is_queued(self) -> bool:
        """Whether its tasks are queued."""
        return self.reply == QUEUED or isinstance(self.reply, list)


def _failed_halfway(reply: Any) -> bool:
    """Return whether a command in the script failed after others had been executed.

    A server that accepts no writes at all rejects the first of them.
    """
    text = str(reply)
    return (
        isinstance(reply, errors.ResponseError)
        and "script" in text
        and not isinstance(reply, errors.ReadOnlyError | errors.OutOfMemoryError)
        and not any(word in text for word in ("NOREPLICAS", "MISCONF", "MASTERDOWN"))
    )


def _by_queue(messages: Iterable[Message]) -> dict[str, list[Message]]:
    """Return the messages of each queue, without follow-ups."""
    groups: dict[str, list[Message]] = {}
    for message in messages:
        if not message.follows:
            groups.setdefault(message.queue_name, []).append(message)
    return groups
