"""Backends of Alligator 1.0, which have five methods: len, drop_all, push, pop and get."""

from collections.abc import Callable, Collection, Iterable, Sequence
from logging import Logger, getLogger
from threading import Event
from time import time
from typing import Any, ClassVar, Protocol, TypeVar

from ..constants import ALL, AT_MOST_ONCE, LEASE_SECONDS, MAX_LOST
from ..exceptions import BackendError
from ..payload.envelope import task_id_in
from . import base
from .base import (
    Canceled,
    DeadLetter,
    Lease,
    Message,
    Outcome,
    QueueStats,
    Step,
    WorkerInfo,
    bounded,
)

log: Logger = getLogger("alligator")

T = TypeVar("T")


class FiveMethods(Protocol):
    """A backend of Alligator 1.0; any class with these methods is one."""

    def len(self, queue_name: str) -> int: ...

    def drop_all(self, queue_name: str) -> None: ...

    def push(
        self, queue_name: str, task_id: str, data: str, delay_until: float | None = None
    ) -> object: ...

    def pop(self, queue_name: str) -> str | None: ...

    def get(self, queue_name: str, task_id: str) -> str | None: ...


class FiveMethodClient(base.Client):
    """A `Client` that uses a five-method backend, with its weaker guarantees.

    Such a backend deletes a task when it returns it: if the worker dies, the task is lost
    (at-most-once). Dead letters are only logged. A commit makes one push per task; if one fails, those
    before it are removed with `get`, unless a worker was faster.
    """

    delivery: ClassVar[str] = AT_MOST_ONCE
    wakes: ClassVar[bool] = False
    lists_workers: ClassVar[bool] = False
    known_stats: ClassVar[Collection[str]] = ("ready",)
    limitations: ClassVar[Sequence[str]] = (
        "A task whose id is already on the queue is not reported as a duplicate, and undoing a push "
        "removes any task that waits under its ids. A repeated push pushes the tasks again.",
        "A queue cannot be paused or limited, tasks have no priorities and no unique keys, and those "
        "that expire are only logged.",
    )

    def __init__(self, backend: FiveMethods) -> None:
        super().__init__(f"{type(backend).__module__}.{type(backend).__qualname__}")
        self.backend = backend
        self._interrupted = Event()
        self._names: set[str] = set()

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        pushed: list[tuple[str, str]] = []
        try:
            for queue_name, task_id, data, delay, *_ in messages:
                pushed.append((queue_name, task_id))  # a push that fails may have arrived
                returned = self._push(queue_name, task_id, data, delay)
                if isinstance(returned, str):
                    pushed[-1] = (queue_name, returned)
        except BackendError:
            if undo:
                self._remove(pushed)
            raise

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        self._remove((message.queue_name, message.task_id) for message in messages)

    def step(
        self,
        queue_names: Sequence[str],
        limit: int,
        *,
        outcomes: Sequence[Outcome] = (),
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        for outcome in outcomes:
            self._apply(outcome)
        # One at a time: a task that was popped and has not run yet is lost if this process dies.
        for queue_name in queue_names if limit else ():
            self._names.add(queue_name)
            data = self._do(self.backend.pop, queue_name)
            if data is not None:
                return Step([Lease(queue_name, task_id_in(data), data)])
        return Step()

    def wait(self, queue_names: Sequence[str], timeout: float) -> None:
        if self._interrupted.wait(timeout):
            self._interrupted.clear()

    def interrupt(self) -> None:
        self._interrupted.set()

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        return []

    def lease(
        self, queue_name: str, task_id: str, lease_for: float = LEASE_SECONDS
    ) -> Lease | None:
        data = self._do(self.backend.get, queue_name, task_id)
        return None if data is None else Lease(queue_name, task_id, data)

    def cancel(self, queue_name: str, task_id: str) -> Canceled | None:
        data = self._do(self.backend.get, queue_name, task_id)
        return None if data is None else Canceled(data)

    def len(self, queue_name: str) -> int:
        return self._do(self.backend.len, queue_name)

    def drop_all(self, queue_name: str) -> None:
        self._do(self.backend.drop_all, queue_name)

    def queue_names(self) -> list[str]:
        return sorted(self._names)

    def stats(self, queue_name: str) -> QueueStats:
        return QueueStats(ready=self.len(queue_name))

    def dead_letters(self, queue_name: str, limit: int = 100) -> list[DeadLetter]:
        return []

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        return False

    def drop_dead(self, queue_name: str, task_id: str) -> bool:
        return False

    def beat(self, worker: WorkerInfo, ttl: float) -> None:
        pass

    def workers(self) -> list[WorkerInfo]:
        return []

    def ping(self) -> None:
        self.len(ALL)

    def warnings(self) -> list[str]:
        return [
            f"{self.conn_string} has only the five methods of Alligator 1.0: a task whose worker "
            "dies is lost, and dead letters are only logged."
        ]

    def _apply(self, outcome: Outcome) -> None:
        queue_name, task_id, data = outcome.lease[:3]
        if outcome.verdict == "dead":
            log.error(
                "task %s failed permanently, and its store keeps no dead letters: %s\n%s",
                task_id,
                outcome.reason,
                outcome.traceback,
            )
        elif outcome.verdict == "expired":
            log.warning(
                "task %s is dropped, and its store keeps no dead letters: %s",
                task_id,
                outcome.reason,
            )
        elif outcome.verdict != "ack":
            payload = data if outcome.data is None else outcome.data
            self._push(queue_name, task_id, payload, outcome.delay)

    def _push(self, queue_name: str, task_id: str, data: str, delay: float) -> object:
        self._names.add(queue_name)
        due = time() + bounded(delay) if delay > 0 else None
        return self._do(self.backend.push, queue_name, task_id, data, delay_until=due)

    def _remove(self, pushed: Iterable[tuple[str, str]]) -> None:
        for queue_name, task_id in pushed:
            try:
                self._do(self.backend.get, queue_name, task_id)
            except BackendError:
                log.exception(
                    "could not remove task %s from queue %s; it may run", task_id, queue_name
                )

    def _do(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        try:
            return method(*args, **kwargs)
        except Exception as error:  # a third-party store may raise anything
            raise BackendError(f"{self.conn_string}: {type(error).__name__}: {error}") from error
