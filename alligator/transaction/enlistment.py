"""Tasks that follow a transaction of the application's database."""

from collections.abc import Callable, Sequence
from logging import Logger, getLogger
from threading import RLock
from typing import Protocol

from .._runtime.coroutines import complete
from ..backends.base import Commit, Duplicates
from ..commits import interception
from ..commits.committer import report_duplicates, to_messages
from ..commits.deferred import DeferredTasks, OutgoingTask
from ..commits.outbox import new_commit
from ..tasks import Task
from . import Transaction
from .scope import Owner, innermost

log: Logger = getLogger("alligator")


class Writer(Protocol):
    """Where the tasks of a database transaction go: an outbox in that database, or the store itself."""

    def is_needed(self) -> bool:
        """Return whether tasks are written; if not, they are delivered after the commit."""
        ...

    def committed(self, commit: Commit) -> Duplicates | None:
        """Deliver a commit that was written and committed; return its duplicates, if they are known."""
        ...


class Enlistment:
    """The tasks that were started while one transaction of the enlisted database was open.

    An integration creates one when such a transaction begins, and reports what happens to it:

    - `prepare` before the commit returns what has to be written in the transaction;
    - `committed`, `rolled_back` or neither, and finally `close`;
    - `mark` when a savepoint begins, and `cut` when it is rolled back.
    """

    def __init__(self, gator: Owner, writer: Writer) -> None:
        self.gator = gator
        self.wrote: bool = False
        """Whether the transaction has written, so that its end without a commit discards tasks."""
        found: Transaction | None = innermost()
        self.request: Transaction | None = found.outermost() if found is not None else None
        """The outermost transaction around it, of any gator."""
        self._in_request = self.request is not None and self.request.request is not None
        self._writer = writer
        self._lock = RLock()
        self._held = DeferredTasks()
        self._homes: dict[int, Transaction] = {}
        """By the id of the task: the transaction that it would have been held by."""
        self._written: list[tuple[Commit, Sequence[OutgoingTask]]] = []
        self._end: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the transaction has not ended."""
        return not self._end and not self._held.closed

    @property
    def is_here(self) -> bool:
        """Whether it may be that of the current code: it is open, and not of another request."""
        if not self.is_open:
            return False
        if not self._in_request:
            return True
        here: Transaction | None = innermost()
        return here is None or here.outermost() is self.request

    def hold(self, outgoing: OutgoingTask, home: Transaction | None) -> bool:
        """Hold a task, which *home* would hold otherwise; return False if the transaction has ended."""
        with self._lock:
            if not self.is_open or not self._held.add(outgoing):
                return False
            if home is not None:
                self._homes[id(outgoing.task)] = home
            return True

    def cancel(self, task_id: str) -> Task | None:
        """Drop a task that it holds, and return it; None if it holds none with that id."""
        with self._lock:
            outgoing = self._held.remove(task_id)
        if outgoing is None:
            return None
        self.gator.delivery.discard([outgoing])
        return outgoing.task

    def mark(self) -> int:
        """Return the place of the next task, for `cut`."""
        return len(self._held.tasks)

    def cut(self, mark: int) -> None:
        """Discard the tasks that were started since *mark*: their savepoint was rolled back."""
        with self._lock:
            self._discard(self._held.cut(mark))

    def prepare(self) -> Commit | None:
        """Return the commit that has to be written in the transaction now; None for nothing."""
        if interception.active is not None or not self._writer.is_needed():
            return None
        with self._lock:
            tasks = self._held.take_pushed()
            if not tasks:
                return None
            commit = new_commit(to_messages(tasks))
            self._written.append((commit, tasks))
        return commit

    def committed(self) -> None:
        """Record the commit, and pass on what was written."""
        with self._lock:
            self._end = "committed"
            written, self._written = self._written, []
        for commit, tasks in written:
            for each in tasks:
                each.task.to_waiting()
            self.gator.delivery.count("committed", tasks)
            duplicates = self._writer.committed(commit)
            if duplicates:
                report_duplicates(duplicates, tasks)

    def rolled_back(self) -> None:
        """Discard all tasks."""
        with self._lock:
            self._end = "rolled back"
            tasks = [each for _, tasks in self._written for each in tasks]
            self._written = []
        self._discard([*tasks, *self._held.close()])

    @property
    def runs_code(self) -> bool:
        """Whether `close` runs tasks, or waits for a store."""
        if not self._held.tasks and not self._written:
            return False
        return self._held.runs_some or self.gator.delivery.blocking

    def close(self) -> None:
        """Deliver what is left: tasks that run in this process, or what no commit has decided on.

        Raises what `deliver` raises.
        """
        tasks = self._held.close()
        if self._end == "committed":
            # Those that run here, or are intercepted. A task that was started after `prepare`, while
            # the database committed, is not in that commit and waits for the response.
            late = [each for each in tasks if each.run is None and self._is_written]
            now = [each for each in tasks if each not in late]
            if now:
                complete(self.gator.delivery.deliver(now))
                self.gator.delivery.count("committed", now)
            self._defer(late)
        elif not self._end:
            self._end = "closed"
            tasks = [*(each for _, tasks in self._written for each in tasks), *tasks]
            if self.wrote:
                self._discard(tasks)
                if tasks:
                    log.warning(
                        "discarded %d tasks: the database transaction that they were started in has "
                        "written, and was closed without a commit. Commit it to queue them",
                        len(tasks),
                    )
            else:
                self._defer(tasks)

    @property
    def _is_written(self) -> bool:
        return interception.active is None and self._writer.is_needed()

    def _discard(self, tasks: Sequence[OutgoingTask]) -> None:
        if tasks:
            self.gator.delivery.discard(tasks)
            self.gator.delivery.count("exception", tasks)

    def _defer(self, tasks: Sequence[OutgoingTask]) -> None:
        """Give tasks back to the transactions that would have held them; push the others."""
        rest = [
            each
            for each in tasks
            if (home := self._homes.get(id(each.task))) is None or not home.take_over(each)
        ]
        if rest:
            complete(self.gator.delivery.deliver(rest))


class Enlister:
    """Passes tasks to the enlistment that *find* returns: that of the transaction that is open now.

    It is what an integration appends to `Gator.enlisters`.
    """

    def __init__(self, find: Callable[[], Enlistment | None]) -> None:
        self._find = find

    def hold(self, outgoing: OutgoingTask, home: Transaction | None) -> bool:
        """Hold a task that is started now; return False if no transaction is open."""
        enlistment = self._find()
        return enlistment is not None and enlistment.hold(outgoing, home)

    def take(self, connection: object, tasks: Sequence[OutgoingTask]) -> bool:
        """Return False: `ConnectionTransaction` itself writes to its connection."""
        return False

    def cancel(self, task_id: str) -> Task | None:
        """Drop a task that is held, and return it."""
        enlistment = self._find()
        return None if enlistment is None else enlistment.cancel(task_id)
