"""The commit of a transaction: the tasks that it defers until it is pushed."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import RLock
from typing import Any, Final, Protocol

from ..backends.base import Commit, Message
from ..constants import MAX_COMMIT_BYTES, MAX_TASKS
from ..exceptions import TooManyTasks
from ..tasks import Task


class OutgoingTask(Message):
    """The message of a task, with its task, and with its routing options as they were at the call.

    Its data is empty if the task runs in this process.
    """

    task: Task
    due: float | None = None
    """The earliest time of its run, as a Unix timestamp; None for no delay."""
    always: bool = False
    """Whether to push it even if its transaction is rolled back."""
    run: Callable[[Task], object] | None = None
    """The function that runs it in this process; None for a task that goes to the store."""


class Enlists(Protocol):
    """Holds the tasks that follow a transaction of the application's database."""

    def hold(self, outgoing: OutgoingTask, home: Any) -> bool:
        """Hold a task that is started now; return False if no transaction is open.

        *home* is the transaction of its gator that would hold it otherwise; None for none.
        """
        ...

    def take(self, connection: Any, tasks: Sequence[OutgoingTask]) -> bool:
        """Hold *tasks* for the transaction of *connection*; return False if the caller must write."""
        ...

    def cancel(self, task_id: str) -> Task | None:
        """Drop a task that is held, and return it."""
        ...


def hold(enlisters: Iterable[Enlists], outgoing: OutgoingTask, home: Any) -> bool:
    """Have the first of *enlisters* that has an open transaction hold a task."""
    if outgoing.always or (home is not None and home.names_connection):
        return False
    return any(enlister.hold(outgoing, home) for enlister in enlisters)


class DeferredTasks(Commit):
    """The commit of one transaction. The number of tasks and their total size are limited.

    After `close` it accepts no more tasks, and can be pushed. The limits apply to a transaction
    together with those that it joins (*outer*).
    """

    messages: Sequence[Message] = ()
    commit_id: str | None = None
    undo: bool = True
    deadline: float | None = None
    size: int = 0
    """The total size of the payloads, in bytes."""
    closed: bool = False
    runs_some: bool = False
    """Whether some of the tasks run in this process."""
    keeps_some: bool = False
    """Whether some of the tasks have ``always=True``."""
    outer: "DeferredTasks | None" = None

    def __init__(self) -> None:  # without the attributes of a commit: most tasks have none of them
        self.tasks: list[OutgoingTask] = []
        # Reentrant: a signal handler may start a task while its thread holds the lock.
        self.lock: AbstractContextManager[bool] = RLock()

    def add(self, outgoing: OutgoingTask) -> bool:
        """Defer one task; return False after `close`. Raises `TooManyTasks`."""
        with self.lock:
            if self.closed:
                return False
            size = len(outgoing[2])
            is_full = len(self.tasks) >= MAX_TASKS or self.size + size > MAX_COMMIT_BYTES
            if is_full or self.outer is not None:
                self._check_room(1, size)
            self.size += size
            # Before the task is in the list: from then on a commit may set another status.
            outgoing.task.to_deferred()
            self.tasks.append(outgoing)
            if outgoing.run is not None:
                self.runs_some = True
            if outgoing.always:
                self.keeps_some = True
        return True

    def join(self, tasks: Iterable[OutgoingTask]) -> bool:
        """Take over the tasks of an inner transaction; return False after `close`.

        Raises `TooManyTasks`.
        """
        tasks = list(tasks)
        with self.lock:
            if self.closed:
                return False
            size = sum(len(each.data) for each in tasks)
            self._check_room(len(tasks), size)
            self.tasks += tasks
            self.size += size
            self.runs_some = self.runs_some or any(each.run is not None for each in tasks)
            self.keeps_some = self.keeps_some or any(each.always for each in tasks)
            return True

    def remove(self, task_id: str) -> OutgoingTask | None:
        """Remove a task and return it; None if there is none with that id."""
        with self.lock:
            for outgoing in self.tasks:
                if outgoing.task.task_id == task_id:
                    self.tasks.remove(outgoing)
                    self.size -= len(outgoing.data)
                    return outgoing
        return None

    def cut(self, mark: int) -> list[OutgoingTask]:
        """Remove the tasks from place *mark* on, and return them."""
        with self.lock:
            removed = self.tasks[mark:]
            del self.tasks[mark:]
            self.size -= sum(len(each.data) for each in removed)
        return removed

    def take_pushed(self) -> list[OutgoingTask]:
        """Remove the tasks that go to the store, and return them."""
        with self.lock:
            taken = [each for each in self.tasks if each.run is None]
            self.tasks = [each for each in self.tasks if each.run is not None]
        return taken

    def close(self) -> list[OutgoingTask]:
        """Accept no more tasks, and return those that were deferred: what the commit pushes."""
        with self.lock:
            tasks = self.tasks
            if not self.closed:  # after the first call, a trip may be sending the messages
                self.messages = tasks
                self.closed = True
            self.tasks = []
        return tasks

    def _check_room(self, number: int, size: int) -> None:
        """Raise `TooManyTasks` if *number* more tasks of *size* bytes exceed a limit."""
        deferred, taken = self._load()
        if deferred + number > MAX_TASKS:
            raise TooManyTasks(
                f"A transaction takes {MAX_TASKS} tasks. Start one task that starts the others, "
                "or use several transactions."
            )
        if taken + size > MAX_COMMIT_BYTES:
            raise TooManyTasks(
                f"The tasks of a transaction take {MAX_COMMIT_BYTES:,} bytes at most, so that a store "
                "can accept them in one commit. Store large data elsewhere and pass an id, or use "
                "several transactions."
            )

    def _load(self) -> tuple[int, int]:
        """Return the number of tasks and their size, those of the outer transactions included."""
        number, size = (0, 0) if self.outer is None else self.outer._load()
        return number + len(self.tasks), size + self.size


ENDED: Final = DeferredTasks()
"""The tasks of a transaction that ended without any. It accepts none, so it needs no lock."""
ENDED.closed = True
ENDED.lock = nullcontext(True)
