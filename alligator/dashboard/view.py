"""Choose what the dashboard shows, out of what the stores say."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from ..backends.base import DeadLetter, Scheduled
from ..http import read_fields
from ..stats import STATES, moment
from ..stores import Store
from ..tasks import name_in
from . import words
from .chart import Chart, draw, total

T = TypeVar("T", DeadLetter, Scheduled)

LISTED = 25
"""How many dead and how many scheduled tasks are shown unless more are asked for."""
MOST_LISTED = 200
FEW_QUEUES = 5
"""From more queues than these only the first few tasks of each are fetched."""
MOST_QUEUES = 25


class Look(NamedTuple):
    """What the reader wants to see: the address of the page."""

    queue: str = ""
    """The only queue whose tasks are listed; empty for all."""
    task: str = ""
    """The key of the task whose details are open."""
    limit: int = LISTED

    @classmethod
    def read(cls, query: str) -> "Look":
        """Read it out of a query; what is no good is as if it had not been there."""
        fields = read_fields(query)
        limit = fields.get("limit", "")
        is_number = limit.isascii() and limit.isdecimal() and len(limit) < 6
        return cls(
            fields.get("queue", ""),
            fields.get("task", ""),
            max(1, min(int(limit), MOST_LISTED)) if is_number else LISTED,
        )

    def link(self, **changes: Any) -> str:
        """Write the address of this page with *changes*."""
        other = self._replace(**changes)
        fields = {name: value for name, value in other._asdict().items() if value}
        if other.limit == LISTED:
            del fields["limit"]
        return f"?{urlencode(fields)}" if fields else "./"


class TaskRow(NamedTuple):
    """A dead or a scheduled task, as the page shows it."""

    key: str
    store: int
    queue: str
    task_id: str
    function: str
    seconds: float
    """How long ago it died, or in how long it is due."""
    moment: str
    reason: str = ""
    arguments: str = ""
    traceback: str = ""


class QueueRow(NamedTuple):
    """A queue, as the page shows it."""

    name: str
    store: int
    backend: str
    stats: Mapping[str, Any]
    chart: Chart | None

    def rate(self, what: str, span: str) -> float | None:
        """Return how often something happened per second, lately."""
        return _dig(self.stats, "rates", what, span)

    def took(self, what: str, percentile: str) -> float | None:
        """Return a percentile of ``run_time`` or ``latency``, in seconds."""
        return _dig(self.stats, what, percentile)


class View:
    """All that is on the page, of one moment.

    *document* is what `measure` said of *stores*. The lists of tasks are read from the stores here,
    which raises `BackendError`; payloads are written out only with *details*.
    """

    def __init__(
        self, stores: Sequence[Store], document: Mapping[str, Any], query: str, *, details: bool
    ) -> None:
        self.time = document["time"]
        self.details = details
        self.stores = document["stores"]
        self.queues = [
            QueueRow(queue["name"], number, store["backend"], queue, _chart([queue], "ready"))
            for number, store in enumerate(self.stores)
            for queue in store["queues"]
        ]
        self.counts = {state: sum(row.stats[state] for row in self.queues) for state in STATES}
        self.workers = [worker for store in self.stores for worker in store["workers"]]
        self.running = [
            {**_running(task, self.time), "worker": worker["name"]}
            for worker in self.workers
            for task in worker["running"]
        ]
        self._look(stores, Look.read(query))

    def _look(self, stores: Sequence[Store], look: Look) -> None:
        # Names that no queue has are forgotten here: nothing of the address is shown again.
        names = {row.name for row in self.queues}
        look = look._replace(queue=look.queue if look.queue in names else "")
        clients = [store.client for store in stores]
        dead = self._list("dead", look, lambda row, n: clients[row.store].dead_letters(row.name, n))
        dead.sort(key=lambda found: -found[1].died_at)
        scheduled = self._list(
            "scheduled", look, lambda row, n: clients[row.store].scheduled(row.name, n)
        )
        scheduled.sort(key=lambda found: found[1].due_in)
        self.dead = [self._row("dead", store, letter, look) for store, letter in dead[: look.limit]]
        self.scheduled = [
            self._row("scheduled", store, task, look) for store, task in scheduled[: look.limit]
        ]
        keys = {row.key for row in (*self.dead, *self.scheduled)}
        self.look = look._replace(task=look.task if look.task in keys else "")

    def _list(
        self, state: str, look: Look, fetch: Callable[[QueueRow, int], Iterable[T]]
    ) -> list[tuple[int, T]]:
        rows = [
            row
            for row in self.queues
            if row.stats[state] and (not look.queue or row.name == look.queue)
        ]
        each = look.limit if len(rows) <= FEW_QUEUES else min(look.limit, FEW_QUEUES)
        return [(row.store, task) for row in rows[:MOST_QUEUES] for task in fetch(row, each)]

    def _row(self, state: str, store: int, task: DeadLetter | Scheduled, look: Look) -> TaskRow:
        name = f"{state}\n{store}\n{task.queue_name}\n{task.task_id}"
        key = "t" + sha256(name.encode(errors="backslashreplace")).hexdigest()[:16]
        is_open = self.details and key == look.task
        now = _timestamp(self.time)
        if isinstance(task, DeadLetter):
            seconds, when = now - task.died_at, task.died_at
        else:
            seconds, when = task.due_in, now + task.due_in
        return TaskRow(
            key=key,
            store=store,
            queue=task.queue_name,
            task_id=task.task_id,
            function=name_in(task.data),
            seconds=seconds,
            moment=moment(when),
            reason=words.shorten(getattr(task, "reason", ""), 2_000),
            arguments=words.arguments(task.data) if is_open else "",
            traceback=words.shorten(getattr(task, "traceback", "")) if is_open else "",
        )

    def age(self, moment: str) -> float | None:
        """Return for how many seconds *moment* has been over."""
        return words.since(moment, self.time)

    @property
    def shown_dead(self) -> int:
        """How many dead there are in what is looked at."""
        return self._count("dead")

    @property
    def shown_scheduled(self) -> int:
        """How many scheduled tasks there are in what is looked at."""
        return self._count("scheduled")

    @property
    def bulk(self) -> QueueRow | None:
        """The queue whose dead can be dealt with all at once: the only one that is looked at."""
        rows = [
            row for row in self.queues if row.stats["dead"] and self.look.queue in ("", row.name)
        ]
        return rows[0] if len(rows) == 1 else None

    @property
    def depth(self) -> dict[str, Chart | None]:
        """The charts of all queues together, to one scale."""
        histories = [row.stats.get("history") or [] for row in self.queues]
        series = {state: total(histories, state) for state in ("ready", "leased")}
        top = max([0.0, *(value for values in series.values() for value in values)])
        return {state: draw(values, top) for state, values in series.items()}

    @property
    def history_began(self) -> float | None:
        """How many seconds ago the first sample of the charts was taken."""
        times = [row.stats["history"][0]["time"] for row in self.queues if row.stats.get("history")]
        return words.since(min(map(str, times)), self.time) if times else None

    def rate(self, what: str, span: str = "1m") -> float | None:
        """Return how often something happened per second, on all queues."""
        rates = [rate for row in self.queues if (rate := row.rate(what, span)) is not None]
        return sum(rates) if rates else None

    def counter(self, what: str) -> int:
        """Return a counter of all queues."""
        return sum(row.stats["counters"].get(what) or 0 for row in self.queues)

    @property
    def commits(self) -> Mapping[str, Any] | None:
        """What became of transactions, of the first store that says so."""
        return next((store["commits"] for store in self.stores if store.get("commits")), None)

    def _count(self, state: str) -> int:
        return sum(row.stats[state] for row in self.queues if self.look.queue in ("", row.name))


def _chart(queues: Iterable[Mapping[str, Any]], state: str) -> Chart | None:
    return draw(total([queue.get("history") or [] for queue in queues], state))


def _running(task: Any, now: str) -> dict[str, Any]:
    if isinstance(task, str):
        return {"function": task, "task_id": None, "seconds": None}
    return {
        "function": task["function"],
        "task_id": task["task_id"],
        "seconds": words.since(task["since"], now),
    }


def _dig(value: Any, *names: str) -> float | None:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
