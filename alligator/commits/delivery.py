"""Deliver the tasks of a commit: push them to the store, or run them in this process."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .._runtime.log import log
from ..backends.base import Client, Commit, Duplicates
from ..backends.unique import Held
from ..exceptions import BackendError
from ..tasks import Task
from .committer import Committer
from .counters import CommitCounters, Ending
from .deferred import OutgoingTask, to_messages
from .follow_ups import run_follow_ups_last

Trace = Callable[[Sequence[OutgoingTask]], AbstractContextManager[Any]]
"""Returns the context manager in which tasks are pushed."""

RunInline = Callable[[Callable[[Task], object], Iterable[Task]], None]
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


class Delivery:
    """Delivers the tasks of one gator, as `Delivers` describes.

    *trace* returns the context manager for pushes.
    """

    def __init__(
        self,
        client: Client,
        committer: Committer,
        *,
        trace: Trace,
        run_inline: RunInline,
    ) -> None:
        self.blocking: bool = client.blocking
        self.runs_inline: bool = False
        self.counters: CommitCounters = CommitCounters(client)
        self.committer: Committer = committer
        self._trace = trace
        self._run_in_order = run_inline

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
                    duplicates = await self.committer.commit(commit, awaits=awaits)
            except BaseException:
                self.discard(tasks)
                raise
        for each in tasks:
            each.task.to_waiting()
        if duplicates:
            report_duplicates(duplicates, tasks)
        if len(messages) < len(tasks):
            try:
                self._run_inline(tasks)
            except BaseException:
                if messages and commit is not None and commit.commit_id and commit.undo:
                    self.withdraw(tasks, commit.commit_id)  # the commit fails as a whole
                raise

    def withdraw(self, tasks: Sequence[OutgoingTask], commit_id: str) -> None:
        messages = to_messages(tasks)
        if messages:
            always = to_messages([each for each in tasks if each.always])
            try:
                self.committer.abort(Commit(messages, commit_id))
                if always:
                    self.committer.push(Commit(always))
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

    def close(self) -> None:
        """Release files and threads; what the spool holds stays in its file."""
        self.committer.close()
        self.counters.close()

    def _run_inline(self, tasks: Sequence[OutgoingTask]) -> None:
        inline = [each for each in tasks if each.run is not None]
        run = inline[0].run  # a method of the gator, so the same for all tasks
        assert run is not None
        run_follow_ups_last(self._run_in_order, run, inline)


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
