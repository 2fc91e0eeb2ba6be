"""Run tasks in this process, one after the other, as a worker would."""

from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from threading import Lock

from .exceptions import TooManyTasks
from .tasks import Task

MAX_IN_TURN = 10_000
"""How many tasks may follow from one another before they are taken for endless."""

Run = Callable[[Task], object]


def run_in_turn(run: Run, tasks: Iterable[Task]) -> None:
    """Run *tasks*, and then those that they start: after them, not inside of them.

    What a task raises ends it all; the tasks that were still to come are canceled.
    """
    line = _line.get()
    if line is not None and line.join(run, tasks):
        return
    line = _Line()
    line.join(run, tasks)
    token = _line.set(line)
    try:
        line.work()
    finally:
        _line.reset(token)


class _Line:
    """Tasks that stand in line. Threads that run for them see it too, so it has a lock."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: deque[tuple[Run, Task]] = deque()
        self._joined = 0
        self._ended = False

    def join(self, run: Run, tasks: Iterable[Task]) -> bool:
        """Let *tasks* stand in line; False when nobody works it any more."""
        with self._lock:
            if self._ended:
                return False
            before = len(self._waiting)
            self._waiting.extend((run, task) for task in tasks)
            self._joined += len(self._waiting) - before
            return True

    def work(self) -> None:
        """Run what stands in line until nothing does."""
        try:
            while (turn := self._next()) is not None:
                run, task = turn
                run(task)
        finally:
            for _, task in self._end():
                task.to_canceled()

    def _next(self) -> tuple[Run, Task] | None:
        with self._lock:
            if self._joined > MAX_IN_TURN:
                raise TooManyTasks(
                    f"{self._joined:,} tasks have followed from one another in this process: do "
                    "they start each other without end? On a queue that would go unnoticed."
                )
            if not self._waiting:
                self._ended = True
                return None
            return self._waiting.popleft()

    def _end(self) -> list[tuple[Run, Task]]:
        with self._lock:
            self._ended = True
            return list(self._waiting)


_line: ContextVar[_Line | None] = ContextVar("alligator_line", default=None)
