"""Commit tasks: push them to the store, or run them in this process."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from .._runtime.coroutines import complete
from .._runtime.forks import register_fork_hooks
from .._runtime.locks import LazyDict
from .._runtime.log import log
from ..backends.base import Client, Commit, Duplicates, Message
from ..backends.unique import Held
from ..constants import SUCCESS
from ..exceptions import BackendError, BackendUnavailable
from ..payload.batch import Batch
from ..tasks import Task
from .breaker import Breaker
from .counters import CommitCounters, Ending
from .deferred import OutgoingTask
from .trips import LoopTrips, ThreadTrips

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from .spool import Spool

T = TypeVar("T")

Trace = Callable[[Sequence[OutgoingTask]], AbstractContextManager[Any]]
"""Returns the context manager in which tasks are pushed."""

Run = Callable[[Task], object]

RunInline = Callable[[Run, Iterable[Task]], None]
"""Runs tasks in this process, one after the other."""


class Delivers(Protocol):
    """What a transaction needs to end."""

    @property
    def blocking(self) -> bool:
        """Whether `deliver` waits for a disk or a network."""
        ...

    @property
    def runs_inline(self) -> bool:
        """Whether `deliver` may run any task in this process."""
        ...

    async def deliver(
        self, tasks: Sequence[OutgoingTask], commit: Commit | None = None, *, awaits: bool = False
    ) -> None:
        """Push all tasks or none, in one round trip; then run those that run in this process.

        *commit* pushes them; without one, each delivery is a commit of its own. It waits on the event
        loop if the caller *awaits* it; then none of the tasks may run in this process. Raises
        `BackendError`, or what a task raised that ran here.
        """
        ...

    def withdraw(self, tasks: Sequence[OutgoingTask], commit_id: str) -> None:
        """Remove the tasks of a commit from their queues, except those that a worker has begun.

        Tasks with ``always=True`` are pushed again: they do not depend on the others.
        """
        ...

    def discard(self, tasks: Sequence[OutgoingTask]) -> None:
        """Cancel tasks that are not delivered."""
        ...

    def count(self, ending: Ending, tasks: Sequence[OutgoingTask]) -> None:
        """Count the tasks of a transaction that were for the store, by how it ended."""
        ...


class Committer:
    """Delivers the tasks of one gator, as `Delivers` describes: it owns group commit, breaker and spool.

    *spool* is the path of the spool's file. Concurrent commits share a trip: those of all threads,
    and those of each event loop. The time that a push may take begins at the call. It includes
    waiting for other trips. *trace* returns the context manager for pushes. Without *run_inline* no
    task may run in this process.

    A commit is pushed once. To repeat one, push another with the same id. If somebody chose that id,
    such as that of a row or of a schedule's tick, its `Commit.undo` is False: see `Client.push_many`.
    """

    runs_inline: bool = False

    def __init__(
        self,
        client: Client,
        *,
        breaker: bool = True,
        spool: str | None = None,
        trace: Trace = nullcontext,
        run_inline: RunInline | None = None,
    ) -> None:
        self._client = client
        self.blocking: bool = client.blocking
        self.breaker: Breaker | None = Breaker() if breaker else None
        self.spool: Spool | None = _open_spool(spool, client) if spool else None
        self.counters: CommitCounters = CommitCounters(client)
        self._trace = trace
        self._run_inline = run_inline
        self.after_fork_in_child()
        register_fork_hooks(self)

    def after_fork_in_child(self) -> None:
        """Drop all waiting commits: their threads exist only in the parent."""
        make = partial(ThreadTrips, self._client, self.breaker)
        self._threads: LazyDict[str, ThreadTrips] = LazyDict(make)
        self._loops: WeakKeyDictionary[AbstractEventLoop, LoopTrips] = WeakKeyDictionary()

    # Tasks.

    async def deliver(
        self, tasks: Sequence[OutgoingTask], commit: Commit | None = None, *, awaits: bool = False
    ) -> None:
        messages = to_messages(tasks)
        duplicates = None
        if messages:
            if commit is None:
                commit = Commit(messages)
            commit.messages = messages
            try:
                with self._trace(tasks):
                    duplicates = await self.commit(commit, awaits=awaits)
            except BaseException:
                self.discard(tasks)
                raise
        for each in tasks:
            each.task.to_waiting()
        if duplicates:
            report_duplicates(duplicates, tasks)
        if len(messages) < len(tasks):
            inline = [each for each in tasks if each.run is not None]
            run = inline[0].run  # a method of the gator, so the same for all tasks
            assert run is not None
            assert self._run_inline is not None
            try:
                run_follow_ups_last(self._run_inline, run, inline)
            except BaseException:
                if messages and commit is not None and commit.commit_id and commit.undo:
                    self.withdraw(tasks, commit.commit_id)  # the commit fails as a whole
                raise

    def withdraw(self, tasks: Sequence[OutgoingTask], commit_id: str) -> None:
        messages = to_messages(tasks)
        if messages:
            always = to_messages([each for each in tasks if each.always])
            try:
                self.abort(Commit(messages, commit_id))
                if always:
                    self.push(Commit(always))
            except BackendError as error:
                log.error(
                    "cannot remove %d tasks of a commit that was undone, they may run: %s",
                    *(len(messages), error),
                )
        self.discard([each for each in tasks if each.run is None and not each.always])

    def discard(self, tasks: Sequence[OutgoingTask]) -> None:
        for each in tasks:
            each.task.to_canceled()

    def count(self, ending: Ending, tasks: Sequence[OutgoingTask]) -> None:
        if number := sum([each.run is None for each in tasks]):
            self.counters.add(ending, number)

    # Messages.

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
                from asyncio import get_running_loop

                loop = get_running_loop()
                trips = self._loops.get(loop)
                if trips is None:
                    trips = self._loops[loop] = LoopTrips(client, breaker)
                await trips.push(commit, loop)
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
        self.counters.close()


def _open_spool(path: str, client: Client) -> "Spool":
    from .spool import Spool  # loads sqlite3

    return Spool(path, client)


def to_messages(tasks: Sequence[OutgoingTask]) -> Sequence[Message]:
    """Return those of *tasks* that go to the store, with the delays that they have now."""
    for each in tasks:
        if each.due is not None or each.run is not None:
            break
    else:
        return tasks
    now = time()
    return [
        each if each.due is None else Message(*each)._replace(delay=max(0.0, each.due - now))
        for each in tasks
        if each.run is None
    ]


def report_duplicates(duplicates: Duplicates, tasks: Sequence[OutgoingTask]) -> None:
    """Set the status of *duplicates*: their positions among those of *tasks* that were pushed."""
    pushed = [each.task for each in tasks if each.run is None]
    for place in duplicates:
        task = pushed[place]
        task.to_duplicate()
        if isinstance(place, Held):
            log.info("%r was not queued: task %s holds its unique key", task, place.task_id)
            task.task_id = place.task_id
        else:
            log.info("%r was not queued: a task with the same id is already waiting", task)


def run_follow_ups_last(
    run_in_order: Callable[[Run, Iterable[Task]], Any], run: Run, tasks: Sequence[OutgoingTask]
) -> None:
    """Call *run_in_order* with *run* and *tasks*, then with the follow-ups among them.

    If it raises, the follow-ups are canceled.
    """
    others = [each.task for each in tasks if not each.follows]
    follow_ups = [each.task for each in tasks if each.follows]

    def run_follow_up(task: Task) -> None:
        task.batch = batch_of(others)
        run(task)

    try:
        run_in_order(run, others)
    except BaseException:
        for task in follow_ups:
            task.to_canceled()
        raise
    if follow_ups:
        run_in_order(run_follow_up, follow_ups)


def batch_of(tasks: Sequence[Task]) -> Batch:
    """Return the batch of *tasks* that have run in this process."""
    return Batch(len(tasks), sum(task.status != SUCCESS for task in tasks))
