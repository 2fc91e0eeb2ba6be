"""Use a store that has only what Alligator 1.0 asked for: len, drop_all, push, pop and get."""

from collections.abc import Callable, Collection, Iterable, Sequence
from json import loads
from logging import Logger, getLogger
from threading import Event
from time import time
from typing import Any, ClassVar, Protocol, TypeVar

from ..constants import ALL, AT_MOST_ONCE, LEASE_SECONDS, MAX_LOST
from ..exceptions import BackendError
from . import base
from .base import DeadLetter, Lease, Message, Outcome, QueueStats, Step, WorkerInfo

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
    """Give a five-method backend the shape of a `Client`, promising no more than it can keep.

    Taking a task forgets it: one whose worker dies is lost (at-most-once), and the dead letters are
    a line in the log. A commit is as many pushes as it has tasks; when one fails, those before it
    are taken back with `get`, unless a worker was faster.
    """

    delivery: ClassVar[str] = AT_MOST_ONCE
    wakes: ClassVar[bool] = False
    sees_workers: ClassVar[bool] = False
    tells: ClassVar[Collection[str]] = ("ready",)

    def __init__(self, backend: FiveMethods) -> None:
        super().__init__(f"{type(backend).__module__}.{type(backend).__qualname__}")
        self.backend = backend
        self._interrupted = Event()
        self._names: set[str] = set()

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        pushed: list[tuple[str, str]] = []
        try:
            for queue_name, task_id, data, delay in messages:
                pushed.append((queue_name, task_id))  # a push that fails may have arrived
                given = self._push(queue_name, task_id, data, delay)
                if isinstance(given, str):
                    pushed[-1] = (queue_name, given)
        except BackendError:
            self._take_back(pushed)
            raise

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        self._take_back((message.queue_name, message.task_id) for message in messages)

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
            self._settle(outcome)
        # One at a time: what is taken and not yet run would be lost with this process.
        for queue_name in queue_names if limit else ():
            self._names.add(queue_name)
            data = self._do(self.backend.pop, queue_name)
            if data is not None:
                return Step([Lease(queue_name, _id_of(data), data)])
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

    def cancel(self, queue_name: str, task_id: str) -> str | None:
        return self._do(self.backend.get, queue_name, task_id)

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
            "dies is lost, and dead letters are not kept."
        ]

    def _settle(self, outcome: Outcome) -> None:
        queue_name, task_id, data = outcome.lease[:3]
        if outcome.verdict == "dead":
            log.error(
                "%s is dead and its store keeps no dead letters: %s\n%s",
                task_id,
                outcome.reason,
                outcome.traceback,
            )
        elif outcome.verdict != "ack":
            self._push(queue_name, task_id, outcome.data or data, outcome.delay)

    def _push(self, queue_name: str, task_id: str, data: str, delay: float) -> object:
        self._names.add(queue_name)
        due = time() + delay if delay else None
        return self._do(self.backend.push, queue_name, task_id, data, delay_until=due)

    def _take_back(self, pushed: Iterable[tuple[str, str]]) -> None:
        for queue_name, task_id in pushed:
            try:
                self._do(self.backend.get, queue_name, task_id)
            except BackendError:
                log.exception("%s could not be taken back from %s", task_id, queue_name)

    def _do(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        try:
            return method(*args, **kwargs)
        except Exception as error:  # what a store of somebody else's raises is not ours to know
            raise BackendError(f"{self.conn_string}: {type(error).__name__}: {error}") from error


def _id_of(data: str) -> str:
    """Read the id out of a payload, signed or not; a payload without one gets an empty id."""
    try:
        return str(loads(data[data.index("{") :])["task_id"])
    except (ValueError, LookupError, TypeError):
        return ""
