"""What a project's own tests need: run tasks where they are started, look at them, work off a queue.

`sync` and `capture` are for all gators of the process and all of its threads, a server that runs in
one of them included. No store is needed nor touched, so a gator may point wherever it likes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import dumps
from logging import Logger, getLogger
from threading import Lock
from typing import Any, NamedTuple

from .attempts import attempt
from .backends.base import Lease
from .constants import ALL
from .exceptions import ConfigurationError, TooManyTasks
from .gator import Gator, set_stand_in
from .heartbeat import keeping
from .in_process import MAX_IN_TURN, run_in_turn
from .tasks import Task
from .transaction import Held

log: Logger = getLogger("alligator")


@contextmanager
def sync(propagate: bool = True) -> Iterator[None]:
    """Run tasks in this process, when the transaction that they were started in commits.

    Ex::

        with sync():
            client.post("/orders")  # its tasks have run when this returns

    Outside of a transaction a task runs at once. What it does is what it does in a worker: its
    arguments take the way through JSON, its hooks fire, its retries follow without a pause; tasks
    that it starts run after it. A delay is not waited for. What the last attempt raises goes up to
    whoever commits, and the tasks behind it are canceled; *propagate* False logs it and goes on.
    """
    set_stand_in(_Sync(propagate))
    try:
        yield
    finally:
        set_stand_in(None)


@contextmanager
def capture() -> Iterator["CapturedTasks"]:
    """Record tasks in place of queuing or running them.

    Ex::

        with capture() as tasks:
            client.post("/orders")
        tasks.assert_pushed(send_receipt, args=[42])

    A task counts as pushed when its transaction commits. Only a task with ``is_async=False`` at the
    call itself runs nevertheless.
    """
    tasks = CapturedTasks()
    set_stand_in(tasks)
    try:
        yield tasks
    finally:
        set_stand_in(None)
        tasks.in_use = False


def drain(gator: Gator, to_consume: str | Sequence[str] = ALL, *, propagate: bool = True) -> int:
    """Run what is ready on the queue of *gator*, and what that starts; return how many tasks ran.

    Ex::

        client.post("/orders")
        assert drain(gator) == 1

    This is what a worker does, in this thread and until nothing is ready; but retries follow without
    a pause. *to_consume* is one queue or several, as a worker takes it. A task that has used up its
    retries is put to the dead letters and ends it: what it raised is raised here. *propagate* False
    goes on. Scheduled tasks stay: ``gator.get(task.task_id)`` runs one before its time.
    """
    names = [to_consume] if isinstance(to_consume, str) else to_consume
    queue_names = [gator.queue_name if name == ALL else name for name in names]
    client = gator.client
    ran: set[str] = set()
    attempts = 0
    while leases := client.step(queue_names, 1).leases:
        attempts = _count(attempts)
        for lease in leases:
            with keeping(client, lease):
                done = attempt(gator, lease)
            client.step((), 0, outcomes=[done.outcome._replace(delay=0.0)])
            ran.add(lease.task_id)
            if propagate and done.error is not None and done.outcome.verdict == "dead":
                raise done.error
    return len(ran)


class _Sync:
    """Run each task in this process."""

    in_process = True

    def __init__(self, propagate: bool) -> None:
        self._propagate = propagate

    def deliver(self, gator: Gator, held: Sequence[Held]) -> None:
        for each in held:
            each.task.to_waiting()
        run = gator.execute if self._propagate else _logged(gator.execute)
        run_in_turn(run, [each.task for each in held])

    def discard(self, gator: Gator, held: Sequence[Held]) -> None:
        pass


class _Captured(NamedTuple):
    """A task that was pushed, and where to."""

    gator: Gator
    queue_name: str
    task: Task
    message: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    """Its arguments as they were at the call: it may have been given a list that has grown since."""


class CapturedTasks:
    """The tasks that `capture` has recorded; iterating gives those that were pushed, in order."""

    in_process = False

    def __init__(self) -> None:
        self.in_use = True
        # Of a server in another thread, for instance.
        self._lock = Lock()
        self._pushed: list[_Captured] = []
        self._discarded: list[Task] = []
        self._ran: set[str] = set()

    # What a test looks at.

    @property
    def pushed(self) -> list[Task]:
        """The tasks that would be on a queue."""
        return [each.task for each in self._all()]

    @property
    def discarded(self) -> list[Task]:
        """The tasks that were held and then dropped, because their request or transaction failed."""
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

    # What it can do with them.

    def run(self, *, propagate: bool = True) -> list[Task]:
        """Run what was pushed and has not been run, and what that starts; return what ran.

        Each task is read back from its JSON and run as a worker would, but for pauses: retries
        follow at once and delays are not waited for. *propagate* as for `sync`, except that tasks
        behind a failed one wait for the next `run`.
        """
        if not self.in_use:
            raise ConfigurationError(
                "The block of capture() is over, so what these tasks start would really be queued: "
                "call run() inside of it."
            )
        ran: list[Task] = []
        while (captured := self._next()) is not None:
            _count(len(ran))
            ran.append(_run(captured, propagate))
        return ran

    # What gators do with it.

    def deliver(self, gator: Gator, held: Sequence[Held]) -> None:
        """Record tasks as pushed."""
        for each in held:
            each.task.to_waiting()
        captured = [_written(gator, each) for each in held]
        with self._lock:
            self._pushed += captured

    def discard(self, gator: Gator, held: Sequence[Held]) -> None:
        """Record tasks as discarded, also those that were pushed before."""
        tasks = [each.task for each in held]
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
            if (func is None or func in (each.task.func, each.task.name))
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


def _written(gator: Gator, held: Held) -> _Captured:
    task = held.task
    # A task that was held before, for a run in this process, has not been written yet.
    message = held.message or gator.write(task, held.queue_name)
    data = gator.guard.open(held.queue_name, task.task_id, message)
    copy = gator.task_class.deserialize(data)
    return _Captured(gator, held.queue_name, task, message, copy.func_args, copy.func_kwargs)


def _run(captured: _Captured, propagate: bool) -> Task:
    gator, pushed = captured.gator, captured.task
    task = gator.read(Lease(captured.queue_name, pushed.task_id, captured.message))
    (gator.execute if propagate else _logged(gator.execute))(task)
    # Whoever started it holds the other one.
    pushed.status, pushed.result = task.status, task.result
    return task


def _logged(execute: Callable[[Task], object]) -> Callable[[Task], None]:
    def run(task: Task) -> None:
        try:
            execute(task)
        except KeyboardInterrupt:
            raise
        except BaseException:
            log.exception("%r has failed", task)

    return run


def _count(before: int) -> int:
    if before >= MAX_IN_TURN:
        raise TooManyTasks(
            f"{before:,} tasks were run and there are more: do they start each other without end?"
        )
    return before + 1


def _fits(expected: Any, actual: Any) -> bool:
    return expected is None or bool(_as_json(expected) == _as_json(actual))


def _as_json(value: Any) -> Any:
    """Give *value* the form it has after JSON, and leave what JSON does not know as it is.

    >>> _as_json({1: (2, None)})
    {'1': [2, None]}
    """
    if isinstance(value, Mapping):
        keys = [key if isinstance(key, str) else dumps(key) for key in value]
        return dict(zip(keys, map(_as_json, value.values()), strict=True))
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value


def _name_of(func: Callable[..., Any] | str | None) -> str:
    if func is None or isinstance(func, str):
        return func or "A task"
    task = Task()
    task.to_call(func)
    return task.name


def _call(
    name: str,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    queue_name: str | None,
) -> str:
    """Write a call as Python does; what is None may be anything."""
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
