"""What a store can tell of its queues and of those who work on them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

Figures = Mapping[str, Mapping[str, int]]
"""Numbers to be added up in a store: by queue (`COMMITS` for none), then by name."""

COMMITS: Final = ""
"""Where the figures of transactions are kept, which may be for several queues."""

RUN: Final = "run"
LATENCY: Final = "latency"
"""What the times of tasks are called: from begin to end, from due to begin."""

SAMPLE_SECONDS: Final = 10
"""How far apart the samples of a queue are, at the least."""

SAMPLES: Final = 90
"""How many samples of a queue are kept: a quarter of an hour."""


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
)
"""The names in `QueueStats`: of where tasks are, and of what became of them."""


class QueueStats(NamedTuple):
    """How full a queue is, and what became of the tasks that ever were on it.

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
    """Attempts that raised, whether the task was put back or died of it."""
    retried: int = 0
    """Failed attempts after which the task was put back."""
    lost: int = 0
    """Leases that ended without a word from their worker."""
    canceled: int = 0
    dropped: int = 0
    """Tasks thrown away unrun by people: `drop_all` and dropped dead letters."""
    died: int = 0
    """Tasks that became dead letters, those included that were retried or dropped since."""


class Sample(NamedTuple):
    """A queue as it was some time ago; the counts are those of `QueueStats`."""

    age: float
    """For how many seconds it has been over, by the store's clock."""
    ready: int
    scheduled: int
    leased: int
    dead: int
    pushed: int
    succeeded: int
    failed: int


class Running(NamedTuple):
    """A task that a worker has been running for a while."""

    task_id: str
    function: str
    """``package.module.name``"""
    since: float
    """When it began, as a Unix timestamp of its worker's clock."""


class WorkerInfo(NamedTuple):
    """A sign of life from a worker."""

    name: str
    """Unique to the process: host, pid and a random part."""
    queues: Sequence[str] = ()
    started_at: float = 0.0
    """A Unix timestamp."""
    seen_ago: float = 0.0
    """Seconds since its last sign of life, by the store's clock."""
    running: Sequence[Running] = ()
    host: str = ""
    pid: int = 0
    concurrency: int = 1
    memory: int | None = None
    """The bytes of memory that its process takes; None where that cannot be told."""

    def to_json(self) -> str:
        """Write down what the worker says of itself, for a store to keep."""
        names = [name for name in self._fields if name != "seen_ago"]
        return json.dumps({name: getattr(self, name) for name in names})

    @classmethod
    def from_json(cls, text: str, seen_ago: float) -> Self:
        """Read what a worker said, that of an older or a newer Alligator too."""
        said: dict[str, Any] = json.loads(text)
        known = {name: said[name] for name in cls._fields if name in said}
        running = [
            Running("", each, 0.0) if isinstance(each, str) else Running(*each[:3])
            for each in said.get("running", ())
        ]
        return cls(**{**known, "running": running, "seen_ago": seen_ago})
