"""Run tasks in this process, one after the other, as a worker would."""

from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from threading import Lock

from ..exceptions import TooManyTasks
from ..tasks import Task

MAX_INLINE_TASKS = 10_000
"""How many tasks may follow from one another before `TooManyTasks` is raised."""

Run = Callable[[Task], object]


def run_inline(run: Run, tasks: Iterable[Task]) -> None:
    """Run *tasks*, and then the tasks that they start: after them, not nested in them.

    An exception that *run* raises is propagated; the tasks that have not run yet are canceled.
    """
    queue = _current_queue.get()
    if queue is not None and queue.add(run, tasks):
        return
    queue = _InlineQueue()
    queue.add(run, tasks)
    token = _current_queue.set(queue)
    try:
        queue.run_all()
    finally:
        _current_queue.reset(token)


class _InlineQueue:
    """Tasks that wait to be run inline.

    It has a lock because threads that run for these tasks share it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: deque[tuple[Run, Task]] = deque()
        self._added = 0
        self._ended = False

    def add(self, run: Run, tasks: Iterable[Task]) -> bool:
        """Append *tasks*; return False if this queue has ended and will not run them."""
        with self._lock:
            if self._ended:
                return False
            before = len(self._waiting)
            self._waiting.extend((run, task) for task in tasks)
            self._added += len(self._waiting) - before
            return True

    def run_all(self) -> None:
        """Run the waiting tasks until none is left; cancel the rest if one raises."""
        try:
            while (next_one := self._pop()) is not None:
                run, task = next_one
                run(task)
        finally:
            for _, task in self._end():
                task.to_canceled()

    def _pop(self) -> tuple[Run, Task] | None:
        with self._lock:
            if self._added > MAX_INLINE_TASKS:
                raise TooManyTasks(
                    f"{self._added:,} tasks have followed from one another in this process. Check "
                    "whether they start each other without end; on a queue this would go unnoticed."
                )
            if not self._waiting:
                self._ended = True
                return None
            return self._waiting.popleft()

    def _end(self) -> list[tuple[Run, Task]]:
        with self._lock:
            self._ended = True
            return list(self._waiting)


_current_queue: ContextVar[_InlineQueue | None] = ContextVar("alligator_inline_queue", default=None)
