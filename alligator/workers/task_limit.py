"""The limit of `--max-tasks`, shared by the threads of a worker."""

from threading import Lock
from typing import Protocol

from .reservations import Reservations


class LimitedWorker(Protocol):
    """The attributes of a worker that a limit needs."""

    max_tasks: int
    """0 for no limit."""
    tasks_complete: int
    threads: list[Reservations]


class TaskLimit:
    """Grants the *max_tasks* of a worker to its threads, so that they reserve no more in total.

    A thread may reserve as many tasks as it was granted: `Reservations.granted`.
    """

    def __init__(self, worker: LimitedWorker) -> None:
        self._worker = worker
        self.lock: Lock = Lock()
        """To be held while `tasks_complete` is increased and `granted` is reduced together."""

    def has_grant(self, thread: Reservations) -> bool:
        """Return whether *thread* may run a task; grant it one if it has no grant."""
        return not self._worker.max_tasks or thread.granted > 0 or self.grant(thread, 1) > 0

    def grant(self, thread: Reservations, wanted: int) -> int:
        """Grant up to *wanted* tasks to *thread* in place of its grant, and return how many."""
        worker = self._worker
        with self.lock:
            others = sum(other.granted for other in worker.threads if other is not thread)
            left = worker.max_tasks - worker.tasks_complete - others
            thread.granted = max(0, min(wanted, left))
            return thread.granted
