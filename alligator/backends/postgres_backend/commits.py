"""Push commits to PostgreSQL, several in one round trip: each as a whole or not at all, and only once.

A push whose reply is lost is repeated under its id, on a new connection. If no reply comes then either,
it is settled: the server is asked whether the push is queued, and refuses it from then on if it is not.
If the server does not answer this in time, because it hangs, the push has failed. The server refuses it
if it arrives after its deadline, and a thread undoes it as soon as the server answers again.
"""

import json
import time
from collections.abc import Sequence
from copy import copy
from functools import partial
from logging import Logger, getLogger
from operator import itemgetter
from time import monotonic
from typing import Any, Final
from uuid import uuid4

from ..._runtime.backoff import pause_after
from ..._runtime.threads import run_to_end
from ...constants import MAX_TASKS
from ...exceptions import AlligatorException, BackendError, BackendUnavailable, TooManyTasks
from ..base import Commit, Message, Pushed, bounded
from ..pending_aborts import FIRST_PAUSE, LONGEST_PAUSE, PendingAborts
from ..unique import read_duplicates
from .codec import Value
from .errors import explain, is_definite, is_repeatable
from .event_loop import LoopSessions
from .sessions import CALL_SECONDS, Sessions
from .wire import Lost, Row, ServerError

ABORTED, LATE = "aborted", "late"
"""What the server returns for a commit that was aborted, and for a push after its deadline."""

SHARES: Final = (0.5, 0.6)
"""The part of the remaining time that each attempt may take; the rest is for settling."""

log: Logger = getLogger("alligator")


class TooLate(Exception):
    """The server refused the push, because it arrived after its deadline."""


class Batch:
    """Commits that are pushed together."""

    def __init__(self, commits: Sequence[Commit], places: Sequence[int] = (0,)) -> None:
        self.commits = commits
        self._places = places
        self.is_sent: bool = False
        """Whether the server may have received it."""
        self.ids: list[str] = [commit.commit_id or uuid4().hex for commit in commits]
        tasks = [
            (message.queue_name, message.task_id, number, place, message)
            for number, commit in enumerate(commits, 1)
            for place, message in enumerate(commit.messages, 1)
        ]
        tasks.sort(key=itemgetter(0, 1, 2, 3))  # see `push` in the SQL
        queues, task_ids, numbers, places, messages = list(zip(*tasks, strict=True)) or [()] * 5
        self._values: list[Value] = [
            self.ids,
            [not commit.undo for commit in commits],
            numbers,
            places,
            queues,
            task_ids,
            [message.delay and bounded(message.delay) for message in messages],
            [message.data.encode() for message in messages],
            [message.priority for message in messages],
            *pack_keys(messages),
        ]

    def values(self, latest: float) -> list[Value]:
        """Return the parameters of a push that the server refuses after *latest*, by its clock."""
        return [latest, *self._values]

    def fill(self, outcomes: list[Pushed], pushed: Sequence[Pushed]) -> None:
        """Store the results of these commits at their places in *outcomes*."""
        for place, outcome in zip(self._places, pushed, strict=True):
            outcomes[place] = outcome

    def read(self, row: Row) -> list[Pushed]:
        """Return the result of each commit, from the reply to a push; raise `TooLate`."""
        results, _ = row
        if results is None:
            return [None] * len(self.commits)
        if results == [LATE]:
            raise TooLate
        return self.read_results(results)

    def read_results(self, results: Sequence[str]) -> list[Pushed]:
        """Return the result of each commit, as the server knows it."""
        return [
            BackendError("the commit was aborted before; its tasks are not queued")
            if result == ABORTED
            else read_duplicates(result)
            for result in results
        ]


class Pusher:
    """Pushes commits to a server, and undoes those that failed."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._statements = sessions.statements
        self.pending: PendingAborts = PendingAborts()
        self._loop_sessions = LoopSessions(sessions)

    def push(self, commits: Sequence[Commit], deadline: float) -> list[Pushed]:
        """Push *commits* by *deadline*, on the monotonic clock, and return the result of each."""
        outcomes, batch = self._prepare(commits)
        if batch is not None:
            batch.fill(outcomes, self.push_batch(batch, deadline))
        return outcomes

    async def apush(self, commits: Sequence[Commit], deadline: float) -> list[Pushed]:
        """Asynchronous version of `push`: one attempt on the event loop, a thread for the rest."""
        outcomes, batch = self._prepare(commits)
        if batch is None:
            return outcomes
        session = await self._loop_sessions.get(deadline)
        in_doubt = False
        if session is not None:
            until = monotonic() + (deadline - monotonic()) * SHARES[0]
            values = batch.values(session.server_time(deadline))
            try:
                [row] = await session.call(self._statements.push, values, until)
                session.set_clock(row[1])
                batch.fill(outcomes, batch.read(row))
                return outcomes
            except Lost:
                in_doubt = True
                self._sessions.close()  # the same cause may have broken the idle ones
            except TooLate:
                in_doubt = True
            except ServerError as error:
                in_doubt = not is_definite(error)
            except BaseException:  # nothing will repeat it
                self._undo_all(batch)
                raise
        pushed = await run_to_end(lambda: self.push_batch(batch, deadline, in_doubt=in_doubt))
        batch.fill(outcomes, pushed)
        return outcomes

    def _prepare(self, commits: Sequence[Commit]) -> "tuple[list[Pushed], Batch | None]":
        """Return the results of those that cannot be pushed, and a batch of the others."""
        outcomes: list[Pushed] = [_oversize(commit) for commit in commits]
        places = [place for place, error in enumerate(outcomes) if error is None]
        batch = Batch([commits[place] for place in places], places) if places else None
        return outcomes, batch

    def push_batch(self, batch: Batch, deadline: float, *, in_doubt: bool = False) -> list[Pushed]:
        """Push *batch* before *deadline*; *in_doubt* if the server may have received it already."""
        failure: Lost | ServerError | TooLate | None = None
        batch.is_sent = in_doubt
        for share in SHARES:
            until = monotonic() + (deadline - monotonic()) * share
            try:
                return self._try(batch, until, deadline)
            except TooLate as error:
                failure = error
            except Lost as error:
                failure, in_doubt = error, batch.is_sent
            except ServerError as error:
                failure, in_doubt = error, in_doubt or not is_definite(error)
                if error.code.startswith("22") and len(batch.commits) > 1 and not in_doubt:
                    # The value of one commit must not reject the others.
                    return [
                        outcome
                        for commit, commit_id in zip(batch.commits, batch.ids, strict=True)
                        for outcome in self.push_batch(
                            Batch([Commit(commit.messages, commit_id, undo=commit.undo)]), deadline
                        )
                    ]
                if not is_repeatable(error):
                    break
        if in_doubt:
            return self._settle(batch, self._explain(failure), deadline)
        return self._failed(batch, self._explain(failure))

    def _try(self, batch: Batch, until: float, deadline: float) -> list[Pushed]:
        with self._sessions.lend(until) as session:
            values = batch.values(session.server_time(deadline))
            batch.is_sent = True
            [row] = session.wire.call(self._statements.push, values, until)
            session.set_clock(row[1])
        return batch.read(row)

    def _settle(self, batch: Batch, error: BackendError, deadline: float) -> list[Pushed]:
        """Return the results of pushes that may be queued; refuse those that are not.

        A server that restarts is asked again until *deadline*.
        """
        failures = 0
        while True:
            try:
                with self._sessions.lend(deadline) as session:
                    [(results,)] = session.wire.call(self._statements.settle, [batch.ids], deadline)
                break
            except (Lost, ServerError):
                failures += 1
                pause = pause_after(failures, FIRST_PAUSE, LONGEST_PAUSE)
                if monotonic() + pause < deadline:
                    time.sleep(pause)
                    continue
                self._undo_all(batch)
                if not isinstance(error, BackendUnavailable):
                    error = BackendUnavailable(
                        f"{error}; it is unknown whether the tasks are queued"
                    )
                return self._failed(batch, error)
        return [
            copy(error) if isinstance(outcome, BackendError) else outcome
            for outcome in batch.read_results(results)
        ]

    def _failed(self, batch: Batch, error: BackendError) -> list[Pushed]:
        # One copy per commit, because they are raised in different threads.
        return [copy(error) for _ in batch.commits]

    def _explain(self, failure: "Lost | ServerError | TooLate | None") -> BackendError:
        if isinstance(failure, Lost | ServerError):
            return explain(failure, self._sessions.store)
        return BackendUnavailable(f"{self._sessions.store} received a push too late and refused it")

    # Undoing.

    def _undo_all(self, batch: Batch) -> None:
        for commit, commit_id in zip(batch.commits, batch.ids, strict=True):
            if commit.undo:
                self.undo_later(commit_id, commit.messages)

    def abort(self, commit_id: str, messages: Sequence[Message], seconds: float) -> None:
        """Undo the push of *commit_id*, as `Client.abort` describes."""
        values = [commit_id, *_names(messages)]
        self._sessions.call(self._statements.abort, values, seconds=seconds)

    def undo_later(self, commit_id: str, messages: Sequence[Message]) -> None:
        """Undo a push as soon as the server answers."""
        self.pending.add(partial(self.abort, commit_id, messages, CALL_SECONDS))

    def close(self) -> None:
        """Close the connections of event loops, and wait for the thread that undoes pushes."""
        self._loop_sessions.close()
        self.pending.close()


def pack_keys(messages: Sequence[Message]) -> tuple[str | None, list[str | None] | None]:
    """Return the parameters for unique keys and follow-ups, and for limit keys; None for none."""
    limit_keys, has_keys, has_limit_keys = [], False, False
    for message in messages:
        limit_keys.append(message.limit_key)
        has_keys = has_keys or message.follows or message.unique is not None
        has_limit_keys = has_limit_keys or message.limit_key is not None
    return (
        json.dumps([_pack_key(message) for message in messages]) if has_keys else None,
        limit_keys if has_limit_keys else None,
    )


def _pack_key(message: Message) -> tuple[object, ...] | None:
    if message.follows:
        return (*(None,) * 4, True)
    if message.unique is None:
        return None
    unique = message.unique
    return (*unique[:2], bounded(unique.seconds), unique.replace)


def _names(messages: Sequence[Message]) -> list[Any]:
    return [
        [message.queue_name for message in messages],
        [message.task_id for message in messages],
    ]


def _oversize(commit: Commit) -> AlligatorException | None:
    if len(commit.messages) <= MAX_TASKS:
        return None
    return TooManyTasks(f"{len(commit.messages)} tasks in one push; the maximum is {MAX_TASKS}")
