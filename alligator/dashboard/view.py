"""Choose what the dashboard shows, out of what the stores say."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from ..backends.base import DeadLetter, Scheduled
from ..backends.figures import STATES
from ..constants import MAX_TASKS
from ..http import read_fields
from ..stats import moment
from ..stores import Store
from ..tasks import name_in
from . import words
from .chart import SLOT_SECONDS, Chart, changes, draw, total

T = TypeVar("T", DeadLetter, Scheduled)
Number = TypeVar("Number", int, float)

LISTED = 25
"""How many dead, scheduled or running tasks are shown unless more are asked for."""
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
    of: str = ""
    """The queue of that task, which is looked for there if it is not among those that are listed."""
    limit: int = LISTED
    done: str = ""
    """What a button has done, as a word of `DONE`."""

    @classmethod
    def read(cls, query: str) -> "Look":
        """Read it out of a query; what is no good is as if it had not been there."""
        fields = read_fields(query)
        limit = fields.get("limit", "")
        is_number = limit.isascii() and limit.isdecimal() and len(limit) < 6
        return cls(
            fields.get("queue", ""),
            fields.get("task", ""),
            fields.get("of", ""),
            max(1, min(int(limit), MOST_LISTED)) if is_number else LISTED,
            fields.get("done", ""),
        )

    @property
    def query(self) -> str:
        """What of an address says all of this; empty if it need not say anything."""
        fields = {name: value for name, value in self._asdict().items() if value}
        if self.limit == LISTED:
            del fields["limit"]
        return f"?{urlencode(fields, errors='replace')}" if fields else ""

    def link(self, **changes: Any) -> str:
        """Write the address of this page with *changes*."""
        return self._replace(**changes).query or "./"


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
    is_open: bool
    attempts: int | None
    reason: str = ""
    arguments: str = ""
    headers: str = ""
    traceback: str = ""

    @property
    def place(self) -> str:
        """Where it is, as a form says it that is about several."""
        place = {"store": self.store, "queue": self.queue, "task": self.task_id}
        return urlencode(place, errors="replace")


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
    which raises `BackendError`; payloads are written out only with *details*. A task whose details
    are wanted is looked for among up to `MAX_TASKS` of its queue, and all else among those listed.
    """

    def __init__(
        self, stores: Sequence[Store], document: Mapping[str, Any], query: str, *, details: bool
    ) -> None:
        self.time: str = document["time"]
        self.details = details
        self.stores: Sequence[Mapping[str, Any]] = document["stores"]
        self.queues: list[QueueRow] = [
            QueueRow(queue["name"], number, store["backend"], queue, _chart(queue))
            for number, store in enumerate(self.stores)
            for queue in store["queues"]
        ]
        self.counts: dict[str, int | None] = {
            state: _sum(row.stats[state] for row in self.queues) for state in STATES
        }
        self.workers: list[Mapping[str, Any]] = [
            worker for store in self.stores for worker in store["workers"] or ()
        ]
        self.running: list[dict[str, Any]] = [
            _running(task, worker, self.time)
            for worker in self.workers
            for task in worker["running"]
        ]
        # What hangs is seen first.
        self.running.sort(key=lambda task: -(task["seconds"] or 0.0))
        self._look(stores, Look.read(query))

    def _look(self, stores: Sequence[Store], look: Look) -> None:
        # Names that no queue has are forgotten here: nothing of the address is shown again.
        names = {row.name for row in self.queues}
        look = look._replace(queue=look.queue if look.queue in names else "", done="")
        clients = [store.client for store in stores]
        self.dead: list[TaskRow] = self._list(
            "dead",
            look,
            lambda row, n: clients[row.store].dead_letters(row.name, n),
            lambda letter: -letter.died_at,
        )
        self.scheduled: list[TaskRow] = self._list(
            "scheduled",
            look,
            lambda row, n: clients[row.store].scheduled(row.name, n),
            lambda task: task.due_in,
        )
        is_found = any(row.is_open for row in (*self.dead, *self.scheduled))
        self.is_lost: bool = bool(look.task) and not is_found
        self.look: Look = look if is_found else look._replace(task="", of="")

    def _list(
        self,
        state: str,
        look: Look,
        fetch: Callable[[QueueRow, int], Iterable[T]],
        order: Callable[[T], float],
    ) -> list[TaskRow]:
        # What is not known is asked for.
        queues = [row for row in self._looked_at(look) if row.stats[state] != 0]
        each = look.limit if len(queues) <= FEW_QUEUES else min(look.limit, FEW_QUEUES)
        found = [(row.store, task) for row in queues[:MOST_QUEUES] for task in fetch(row, each)]
        found.sort(key=lambda one: order(one[1]))
        rows = [self._row(state, store, task, look) for store, task in found[: look.limit]]
        if not look.task.startswith(state) or any(row.is_open for row in rows):
            return rows
        queues = [row for row in self.queues if row.name == look.of]
        found = [(row.store, task) for row in queues for task in fetch(row, MAX_TASKS)]
        opened = [
            self._row(state, store, task, look)
            for store, task in found
            if _key(state, store, task) == look.task
        ]
        return opened + rows

    def _row(self, state: str, store: int, task: DeadLetter | Scheduled, look: Look) -> TaskRow:
        key = _key(state, store, task)
        is_open = key == look.task
        shows = is_open and self.details
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
            is_open=is_open,
            attempts=words.attempts(task.data),
            reason=words.shorten(getattr(task, "reason", ""), 2_000),
            arguments=words.arguments(task.data) if shows else "",
            headers=words.headers(task.data) if shows else "",
            traceback=words.shorten(getattr(task, "traceback", "")) if shows else "",
        )

    def age(self, moment: str) -> float | None:
        """Return for how many seconds *moment* has been over."""
        return words.since(moment, self.time)

    def count(self, state: str) -> int | None:
        """Count the tasks of that state on the queues that are looked at; None if nobody knows."""
        return _sum(row.stats[state] for row in self._looked_at(self.look))

    @property
    def bulk(self) -> QueueRow | None:
        """The queue whose dead can be dealt with all at once: the only one that is looked at."""
        rows = [row for row in self._looked_at(self.look) if row.stats["dead"]]
        return rows[0] if len(rows) == 1 else None

    @property
    def depth(self) -> dict[str, Chart | None]:
        """The charts of ready and leased tasks of all queues together, to one scale."""
        return _draw({state: self._history(state) for state in ("ready", "leased")})

    @property
    def pace(self) -> dict[str, Chart | None]:
        """The charts of how many tasks succeeded and failed per second, to one scale."""
        return _draw({what: changes(self._history(what)) for what in ("succeeded", "failed")})

    @property
    def seconds_charted(self) -> float:
        """How long ago the charts begin."""
        return max(1, len(self._history("ready")) - 1) * SLOT_SECONDS

    def _history(self, key: str) -> list[float]:
        return total((row.stats.get("history") for row in self.queues), key)

    def rate(self, what: str, span: str = "1m") -> float | None:
        """Return how often something happened per second, on all queues."""
        return _sum(row.rate(what, span) for row in self.queues)

    def counter(self, what: str) -> int | None:
        """Return a counter of all queues."""
        return _sum(row.stats["counters"].get(what) for row in self.queues)

    @property
    def commits(self) -> Mapping[str, Any] | None:
        """What became of transactions, of the first store that says so."""
        return next((store["commits"] for store in self.stores if store.get("commits")), None)

    def _looked_at(self, look: Look) -> list[QueueRow]:
        return [row for row in self.queues if look.queue in ("", row.name)]


def _key(state: str, store: int, task: DeadLetter | Scheduled) -> str:
    """Name a task in an address, and in the page."""
    name = f"{store}\n{task.queue_name}\n{task.task_id}"
    return state + sha256(name.encode(errors="backslashreplace")).hexdigest()[:16]


def _sum(values: Iterable[Number | None]) -> Number | None:
    """Add up what is known."""
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None


def _chart(queue: Mapping[str, Any]) -> Chart | None:
    return draw(total([queue.get("history")], "ready"))


def _draw(series: Mapping[str, Sequence[float]]) -> dict[str, Chart | None]:
    top = max((value for values in series.values() for value in values), default=0)
    return {name: draw(values, top) for name, values in series.items()}


def _running(task: Mapping[str, Any], worker: Mapping[str, Any], now: str) -> dict[str, Any]:
    # What a worker runs is known as of its last sign of life; a short task has ended since.
    age, seen_ago = words.since(task["since"], now), worker["seen_ago"]
    return {
        "function": task["function"],
        "worker": worker["name"],
        "seconds": None if age is None else age - seen_ago,
        "seen_ago": seen_ago,
    }


def _dig(value: Any, *names: str) -> float | None:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
