"""Helpers for the tests of a project: run tasks at the commit, record them, or empty a queue.

`sync` and `capture` apply to all gators of the process and to all of its threads, for instance those
of a server under test. They do not use the store, so the DSN of a gator may be any. They can be
nested, and the innermost applies: the fixture of a module may use one, and a test the other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import dumps
from logging import Logger, getLogger
from threading import Lock
from typing import Any, NamedTuple

from .backends.base import Commit, Lease
from .commits.committer import batch_of, run_follow_ups_last
from .commits.deferred import OutgoingTask
from .commits.interception import InterceptedDelivery, set_interceptor
from .constants import ALL
from .exceptions import ConfigurationError, TooManyTasks
from .execution.attempt import attempt
from .execution.heartbeat import keep_lease
from .execution.inline import MAX_INLINE_TASKS, run_inline
from .gator import Gator
from .payload.functions import unwrapped
from .tasks import Task

log: Logger = getLogger("alligator")


@contextmanager
def sync(propagate: bool = True) -> Iterator[None]:
    """Run tasks in this process when their transaction commits.

    Ex::

        with sync():
            client.post("/orders")  # its tasks have run when this returns

    Outside a transaction a task runs at once. It runs as in a worker: its arguments are converted to
    JSON and back, its hooks are called, and the tasks that it starts run after it. Its retries follow
    without a pause, and delays are ignored. An exception of the last attempt is raised by the commit,
    and the tasks after it are canceled; with *propagate* False it is logged and the next task runs.
    """
    before = set_interceptor(_Sync(propagate))
    try:
        yield
    finally:
        set_interceptor(before)


@contextmanager
def capture() -> Iterator["CapturedTasks"]:
    """Record tasks instead of pushing or running them.

    Ex::

        with capture() as tasks:
            client.post("/orders")
        tasks.assert_pushed(send_receipt, args=[42])

    A task counts as pushed when its transaction commits. A task with ``is_async=False`` at the call
    itself runs all the same.
    """
    tasks = CapturedTasks()
    before = set_interceptor(tasks)
    try:
        yield tasks
    finally:
        set_interceptor(before)
        tasks.in_use = False


def drain(gator: Gator, to_consume: str | Sequence[str] = ALL, *, propagate: bool = True) -> int:
    """Run the ready tasks of *gator*'s queue, and those that they start; return how many ran.

    Ex::

        client.post("/orders")
        assert drain(gator) == 1

    It works like a worker, in this thread and until no task is ready, but retries follow without a
    pause. *to_consume* is one queue or several, as for a worker. If a task fails and has no retries
    left, it becomes a dead letter and its exception is raised. If a task cannot run here, it goes
    back to its queue and the reason is raised. With *propagate* False neither is raised. Scheduled
    tasks stay on the queue, also those that have raised `Snooze`: ``gator.get(task.task_id)`` runs
    one before its time.
    """
    names = [to_consume] if isinstance(to_consume, str) else to_consume
    queue_names = [gator.queue_name if name == ALL else name for name in names]
    client = gator.client
    ran: set[str] = set()
    attempts = 0
    while leases := client.step(queue_names, 1).leases:
        attempts = _count(attempts)
        for lease in leases:
            with keep_lease(client, lease):
                done = attempt(gator, lease)
            outcome = done.outcome
            if outcome.verdict == "retry":
                outcome = outcome._replace(delay=0.0)
            client.step((), 0, outcomes=[outcome])
            ran.add(lease.task_id)
            if propagate and done.error is not None and not done.is_repeated:
                raise done.error
    return len(ran)


class _Sync:
    """Runs all tasks in this process."""

    inline = True

    def __init__(self, propagate: bool) -> None:
        self._propagate = propagate

    def delivery_of(self, gator: Gator) -> InterceptedDelivery:
        return _InlineDelivery(gator, self._propagate)


class _InlineDelivery(InterceptedDelivery):
    """Runs the tasks of one gator in this process."""

    def __init__(self, gator: Gator, propagate: bool) -> None:
        super().__init__(gator)
        self._run = gator.execute if propagate else _logged(gator.execute)

    async def deliver(
        self, tasks: Sequence[OutgoingTask], commit: Commit | None = None, *, awaits: bool = False
    ) -> None:
        await super().deliver(tasks)
        run_follow_ups_last(run_inline, self._run, tasks)


class _Captured(NamedTuple):
    """A task that was pushed."""

    gator: Gator
    queue_name: str
    task: Task
    message: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    """The arguments as they were at the call, even if a list among them has changed since."""
    others: Sequence[Task] | None = None
    """The other tasks of its commit, if it is a follow-up."""


class CapturedTasks:
    """The tasks that `capture` has recorded; iteration yields those that were pushed, in order."""

    inline = False

    def __init__(self) -> None:
        self.in_use = True
        # A server in another thread may use it too.
        self._lock = Lock()
        self._pushed: list[_Captured] = []
        self._discarded: list[Task] = []
        self._ran: set[str] = set()

    # For assertions.

    @property
    def pushed(self) -> list[Task]:
        """The tasks that would be on a queue."""
        return [each.task for each in self._all()]

    @property
    def discarded(self) -> list[Task]:
        """The tasks that were discarded because their request or transaction failed."""
        with self._lock:
            return list(self._discarded)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.pushed)

    def __len__(self) -> int:
        return len(self.pushed)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} pushed, {len(self.discarded)} discarded>"

    def assert_pushed(
        self,
        func: Callable[..., Any] | str,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue_name: str | None = None,
        times: int | None = None,
    ) -> list[Task]:
        """Fail unless *func* was pushed; return the tasks that call it.

        *func* is the function or its ``package.module.name``. What is not None must fit: *args* and
        *kwargs* are all the arguments, as they were given; *times* counts the tasks that fit.
        """
        __tracebackhide__ = True  # pytest shows where the test stands, not this
        found = self._find(func, args, kwargs, queue_name)
        if len(found) != times if times is not None else not found:
            wanted = _call(_name_of(func), args, kwargs, queue_name)
            expected = "pushed" if times is None else f"pushed {_times(times)}"
            but = "" if times is None else f", but {_times(len(found))}"
            raise AssertionError(f"{wanted} was not {expected}{but}. {self._list()}")
        return found

    def assert_not_pushed(
        self,
        func: Callable[..., Any] | str | None = None,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue_name: str | None = None,
    ) -> None:
        """Fail if *func* was pushed, or without one: if anything was; see `assert_pushed`."""
        __tracebackhide__ = True
        found = self._find(func, args, kwargs, queue_name)
        if found:
            wanted = _call(_name_of(func), args, kwargs, queue_name)
            raise AssertionError(f"{wanted} was pushed {_times(len(found))}. {self._list()}")

    # Running them.

    def run(self, *, propagate: bool = True) -> list[Task]:
        """Run the tasks that were pushed and have not run, and those that they start; return them.

        Each task is read from its JSON and runs as in a worker, but retries follow without a pause
        and delays are ignored. *propagate* works as for `sync`, except that the tasks after a failed
        one wait for the next `run`.
        """
        if not self.in_use:
            raise ConfigurationError(
                "The block of capture() is over: call run() inside it. Outside it, the tasks that these "
                "tasks start would be pushed to the store."
            )
        ran: list[Task] = []
        while (captured := self._next()) is not None:
            _count(len(ran))
            ran.append(_run(captured, propagate))
        return ran

    # For gators.

    def delivery_of(self, gator: Gator) -> InterceptedDelivery:
        """Return what records the tasks of *gator*."""
        return _Recording(gator, self)

    def add(self, captured: Sequence[_Captured]) -> None:
        """Record tasks as pushed."""
        with self._lock:
            self._pushed += captured

    def discard(self, tasks: Sequence[Task]) -> None:
        """Record tasks as discarded, also those that were pushed before."""
        with self._lock:
            self._pushed = [each for each in self._pushed if each.task not in tasks]
            self._discarded += tasks

    def _all(self) -> list[_Captured]:
        with self._lock:
            return list(self._pushed)

    def _next(self) -> _Captured | None:
        with self._lock:
            for each in self._pushed:
                if each.task.task_id not in self._ran:
                    self._ran.add(each.task.task_id)
                    return each
        return None

    def _find(
        self,
        func: Callable[..., Any] | str | None,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        queue_name: str | None,
    ) -> list[Task]:
        return [
            each.task
            for each in self._all()
            if (func is None or unwrapped(func) in (each.task.func, each.task.name))
            and (queue_name is None or queue_name == each.queue_name)
            and _fits(args, each.args)
            and _fits(kwargs, each.kwargs)
        ]

    def _list(self) -> str:
        lines = [
            _call(each.task.name, each.args, each.kwargs, each.queue_name) for each in self._all()
        ]
        discarded = [f"{task.name} (discarded)" for task in self.discarded]
        if not lines and not discarded:
            return "Nothing was pushed."
        return "\n  ".join(["These were:" if lines else "Nothing was:", *lines, *discarded])


class _Recording(InterceptedDelivery):
    """Records the tasks of one gator."""

    def __init__(self, gator: Gator, captured: CapturedTasks) -> None:
        super().__init__(gator)
        self._captured = captured

    async def deliver(
        self, tasks: Sequence[OutgoingTask], commit: Commit | None = None, *, awaits: bool = False
    ) -> None:
        await super().deliver(tasks)
        others = [each.task for each in tasks if not each.follows]
        in_order = sorted(tasks, key=lambda each: each.follows)
        self._captured.add([_written(self.gator, each, others) for each in in_order])

    def discard(self, tasks: Sequence[OutgoingTask]) -> None:
        super().discard(tasks)
        self._captured.discard([each.task for each in tasks])


def _written(gator: Gator, outgoing: OutgoingTask, others: Sequence[Task]) -> _Captured:
    task, queue_name = outgoing.task, outgoing.queue_name
    # Empty if the task was held before the block of capture(), for a run in this process.
    message = outgoing.data or gator.guard.write(task, queue_name)
    copy = gator.task_class.deserialize(gator.guard.open(queue_name, task.task_id, message))
    call = copy.func_args, copy.func_kwargs
    waits_for = others if outgoing.follows else None
    return _Captured(gator, queue_name, task, message, *call, waits_for)


def _run(captured: _Captured, propagate: bool) -> Task:
    gator, pushed = captured.gator, captured.task
    task = gator.read(Lease(captured.queue_name, pushed.task_id, captured.message))
    if captured.others is not None:
        task.batch = batch_of(captured.others)
    try:
        (gator.execute if propagate else _logged(gator.execute))(task)
    finally:
        # The caller has the task that was pushed, not the one that was read.
        pushed.status, pushed.result = task.status, task.result
    return task


def _logged(execute: Callable[[Task], object]) -> Callable[[Task], None]:
    def run(task: Task) -> None:
        try:
            execute(task)
        except (Exception, SystemExit):  # a task that calls `sys.exit` has failed, as in a worker
            log.exception("%r failed; the next task runs", task)

    return run


def _count(before: int) -> int:
    if before >= MAX_INLINE_TASKS:
        raise TooManyTasks(
            f"{before:,} tasks have run and there are more: do they start each other without end?"
        )
    return before + 1


def _fits(expected: Any, actual: Any) -> bool:
    return expected is None or bool(_as_json(expected) == _as_json(actual))


def _as_json(value: Any) -> Any:
    """Return *value* in the form that it has after JSON; what JSON cannot express is unchanged.

    >>> _as_json({1: (2, None)})
    {'1': [2, None]}
    """
    if isinstance(value, Mapping):
        keys = [dumps(key) if key is None or isinstance(key, int | float) else key for key in value]
        return dict(zip(keys, map(_as_json, value.values()), strict=True))
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value


def _name_of(func: Callable[..., Any] | str | None) -> str:
    if func is None or isinstance(func, str):
        return func or "A task"
    task = Task()
    task.func = unwrapped(func)
    return task.name


def _call(
    name: str,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    queue_name: str | None,
) -> str:
    """Return a call as text; a part that is None is shown as ``...``."""
    given = [repr(arg) for arg in args] if args is not None else ["..."]
    given += (
        [f"{key}={value!r}" for key, value in kwargs.items()] if kwargs is not None else ["**..."]
    )
    if args is None and kwargs is None:
        given = ["..."]
    on = "" if queue_name is None else f" on {queue_name!r}"
    return f"{name}({', '.join(given)}){on}"


def _times(number: int) -> str:
    return {0: "never", 1: "once"}.get(number, f"{number} times")
