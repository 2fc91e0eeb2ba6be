"""Run tasks in this process, without a worker."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from threading import Lock

from .._runtime.failures import describe
from .._runtime.log import log
from ..backends.base import Client, Lease
from ..exceptions import TooManyTasks
from ..tasks import Task
from ..tasks.decisions import snooze_in
from .attempt import TaskRunner, attempt
from .heartbeat import keep_lease

MAX_INLINE_SNOOZES = 100
"""How often a task that runs in this process may raise `Snooze`; it does not wait in between."""

MAX_INLINE_TASKS = 10_000
"""How many tasks may follow from one another before `TooManyTasks` is raised."""

Run = Callable[[Task], object]


def run_inline(run: Run, tasks: Iterable[Task]) -> None:
    """Run *tasks*, one after the other, and then the tasks that they start: not nested in them.

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


def run_leases(gator: TaskRunner, client: Client, leases: Sequence[Lease]) -> Task | None:
    """Run the task of *leases*, at most one, and report its outcome to the store; return the task.

    Raises what the task raised, unless it is to be retried.
    """
    for lease in leases:
        with keep_lease(client, lease):
            try:
                result = attempt(gator, lease)
            except BaseException:  # KeyboardInterrupt: the task has not failed
                client.release(lease)
                raise
        client.step((), 0, outcomes=[result.outcome])
        if result.error is not None and not result.is_repeated:
            raise result.error
        return result.task
    return None


def run_with_retries(run: Callable[[Task], Task], task: Task) -> Task:
    """Call *run* for each attempt at *task*, without a pause; return its result.

    Raises what the last attempt raised. A task that calls `sys.exit` has failed and is retried, as in
    a worker. A task that raises `Snooze` runs again, at most `MAX_INLINE_SNOOZES` times.
    """
    snoozes = 0
    while True:
        try:
            return run(task)
        # Others end the code that runs here and are never retried: KeyboardInterrupt, an
        # `Interrupt`, gevent.Timeout, GreenletExit, CancelledError.
        except (Exception, SystemExit) as error:
            if snooze_in(error) is not None:
                snoozes += 1
                _prepare_snoozed(task, error, snoozes)
            elif not _prepare_retry(task, error):
                raise


def _prepare_snoozed(task: Task, error: BaseException, snoozes: int) -> None:
    """Prepare the next run of *task* after its `Snooze`; raise *error*, the `Snooze`, after too many."""
    if snoozes > MAX_INLINE_SNOOZES:
        task.to_failed()
        error.add_note(
            f"{task.name} has raised Snooze {snoozes} times. In this process it runs again at once, so "
            "what it waits for may need a worker, or time."
        )
        raise error
    task.restore_call()


def _prepare_retry(task: Task, error: BaseException) -> bool:
    """Prepare *task*, which raised *error*, for its next attempt; return whether it has one."""
    try:
        if not task.is_retried(error):
            return False
        again = task.for_retry(task.attempt + 1)
    except Exception as broken:  # a task or a hook may have set anything
        log.warning(
            "%r is not retried, because its options are invalid now: %s", task, describe(broken)
        )
        return False
    task.retries, task.attempt = again.retries, again.attempt
    task.restore_call()
    task.to_retrying()
    return True
