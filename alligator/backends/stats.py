"""The numbers of a store: queue stats, samples, and the workers that are alive."""

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from .limits import Limit

Figures = Mapping[str, Mapping[str, int]]
"""Numbers that a store adds up: by queue (`COMMITS` for those of no queue), then by name."""

COMMITS: Final = ""
"""The key for the figures of transactions, which may concern several queues."""

RUN: Final = "run"
LATENCY: Final = "latency"
"""The names of task times: from start to end, and from due to start."""

SAMPLE_SECONDS: Final = 10
"""The minimum time between two samples of a queue."""

SAMPLES: Final = 90
"""How many samples of a queue are kept: 15 minutes."""


STATES: Final = ("ready", "scheduled", "leased", "dead")
COUNTERS: Final = (
    "pushed",
    "succeeded",
    "failed",
    "retried",
    "lost",
    "canceled",
    "dropped",
    "died",
    "expired",
)
"""The names in `QueueStats`: the states of tasks, and the counters of what happened to them."""


class QueueStats(NamedTuple):
    """How many tasks a queue has in each state, and what happened to all that were pushed.

    ``pushed == succeeded + canceled + dropped + ready + scheduled + leased + dead`` at every moment.
    """

    ready: int = 0
    scheduled: int = 0
    leased: int = 0
    dead: int = 0
    oldest: float = 0.0
    """Seconds for which the oldest ready task has been waiting."""
    pushed: int = 0
    succeeded: int = 0
    failed: int = 0
    """Attempts that raised, whether the task was retried or died."""
    retried: int = 0
    """Failed attempts after which the task was scheduled again."""
    lost: int = 0
    """Leases that ended without an outcome from their worker, those of whole batches included."""
    canceled: int = 0
    dropped: int = 0
    """Tasks removed without a run: by `drop_all`, and dropped dead letters."""
    died: int = 0
    """Tasks that became dead letters, including those that were retried or dropped since."""
    expired: int = 0
    """Tasks that became dead letters because they had not begun before they expired."""
    paused: float = 0.0
    """Seconds until the queue is resumed; inf if that has no end, 0 if it is not paused."""
    unreadable: Sequence[str] = ()
    """The fields for which the store holds something other than a number; they are 0 here."""
    limit: Limit | None = None
    """The limit of the queue; None if it has none."""
    limited: int = 0
    """Ready tasks that wait because the limit is reached: all of them, or none."""


def read_numbers(pairs: Iterable[tuple[str, Any]]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the numbers by name, and the names of the values that are not numbers.

    Anyone who can write to a store may have changed a record. Such a value counts as 0.

    >>> read_numbers([("pushed", "7"), ("lost", None), ("died", "x")])
    ({'pushed': 7, 'lost': 0, 'died': 0}, ('died',))
    """
    numbers: dict[str, int] = {}
    unreadable: list[str] = []
    for name, value in pairs:
        try:
            numbers[name] = int(value or 0)
        except (OverflowError, TypeError, ValueError):
            numbers[name] = 0
            unreadable.append(name)
    return numbers, tuple(unreadable)


def read_text(value: object) -> str:
    """Return the text of a record, or a description of a value that is not text.

    >>> read_text("no luck"), read_text(b"\\xff")
    ('no luck', "unreadable record: b'\\\\xff'")
    """
    return value if isinstance(value, str) else f"unreadable record: {value!r:.200}"


class Sample(NamedTuple):
    """The numbers of a queue at an earlier moment; they mean the same as in `QueueStats`."""

    age: float
    """How many seconds ago it was taken, by the store's clock."""
    ready: int
    scheduled: int
    leased: int
    dead: int
    pushed: int
    succeeded: int
    failed: int
    dropped: int | None = None
    """None in a sample of an older Alligator."""


class Running(NamedTuple):
    """A task that a worker has been running for a while."""

    task_id: str
    function: str
    """``package.module.name``"""
    since: float
    """When it started, as a Unix timestamp of its worker's clock."""
    queue_name: str = ""
    """Empty in the record of an older Alligator."""


class WorkerInfo(NamedTuple):
    """A worker, as it described itself in its last heartbeat."""

    name: str
    """Unique to the process: host, pid and a random part."""
    queues: Sequence[str] = ()
    started_at: float = 0.0
    """A Unix timestamp."""
    seen_ago: float = 0.0
    """Seconds since its last heartbeat, by the store's clock."""
    running: Sequence[Running] = ()
    host: str = ""
    pid: int = 0
    concurrency: int = 1
    memory: int | None = None
    """The bytes of memory that its process uses; None where that is unknown."""
    unrunnable: Mapping[str, str] = MappingProxyType({})
    """The functions that it cannot run, by name, and why; tasks that call them are released."""
    loop_lag: float | None = None
    """For how many seconds its event loop was blocked at most lately; None if it runs no coroutines."""

    def to_json(self) -> str:
        """Return the record that a store keeps of the worker."""
        names = [name for name in self._fields if name != "seen_ago"]
        record = {name: getattr(self, name) for name in names}
        return json.dumps({**record, "unrunnable": dict(self.unrunnable)})

    @classmethod
    def from_json(cls, text: str, seen_ago: float) -> Self:
        """Return the worker of a record, which may be of an older or a newer Alligator.

        The result for a malformed record has a name that says so.
        """
        try:
            record: dict[str, Any] = json.loads(text)
            known = {name: record[name] for name in cls._fields if name in record}
            running = [
                Running("", each, 0.0) if isinstance(each, str) else Running(*each[:4])
                for each in record.get("running", ())
            ]
            info = cls(**{**known, "running": running, "seen_ago": seen_ago})
            if info._is_well_formed():
                return info
        except (AttributeError, TypeError, ValueError, RecursionError):
            pass
        return cls(f"unreadable record: {text:.80}", seen_ago=seen_ago)

    def _is_well_formed(self) -> bool:
        """Return whether the fields have the types that a worker writes."""
        return (
            isinstance(self.queues, list | tuple)
            and all(isinstance(text, str) for text in (self.name, self.host, *self.queues))
            and all(isinstance(number, int) for number in (self.pid, self.concurrency))
            and isinstance(self.memory, int | None)
            and isinstance(self.loop_lag, int | float | None)
            and isinstance(self.started_at, int | float)
            and all(
                all(
                    isinstance(text, str) for text in (each.task_id, each.function, each.queue_name)
                )
                and isinstance(each.since, int | float)
                for each in self.running
            )
        )
