"""The values that the dashboard shows, selected from the stats document and the stores."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from ...backends.base import DeadLetter, Scheduled
from ...backends.stats import STATES
from ...constants import MAX_TASKS
from ...exceptions import BackendError, BackendUnavailable
from ...monitoring.stats import format_utc
from ...monitoring.stores import Store
from ...payload.envelope import last_error_in, name_in
from . import formats
from .chart import SLOT_SECONDS, Chart, changes, draw, total
from .page_query import PageQuery

T = TypeVar("T", DeadLetter, Scheduled)
Number = TypeVar("Number", int, float)

SILENT_SECONDS = 30.0
"""A worker without a heartbeat for so long is shown as silent; it has missed two."""
FEW_QUEUES = 5
"""With more queues than this, only the first few tasks of each are fetched."""
MAX_QUEUES = 25
"""From how many queues tasks are fetched."""


class TaskRow(NamedTuple):
    """A dead or scheduled task on the page."""

    key: str
    store: int
    queue: str
    task_id: str
    function: str
    seconds: float
    """How long ago the task died, or in how many seconds it is due."""
    moment: str
    is_open: bool
    attempts: int | None
    reason: str = ""
    arguments: str = ""
    headers: str = ""
    traceback: str = ""

    @property
    def form_value(self) -> str:
        """The value of the task's checkbox in the form for several tasks."""
        target = {"store": self.store, "queue": self.queue, "task": self.task_id}
        return urlencode(target, errors="replace")


class RunningRow(NamedTuple):
    """A task that runs, on the page."""

    key: str
    store: int
    queue: str
    """Empty if its worker is of an older Alligator: then it cannot be canceled from here."""
    task_id: str
    function: str
    worker: str
    seconds: float | None
    """How long it has been running."""
    silent: float | None
    """Seconds since the last heartbeat of its worker, if it has missed some."""


class QueueRow(NamedTuple):
    """A queue on the page."""

    name: str
    store: int
    backend: str
    stats: Mapping[str, Any]
    chart: Chart | None

    @property
    def keys(self) -> Mapping[str, Any] | None:
        """The limit keys of the queue; None if the store has none."""
        found: Mapping[str, Any] | None = self.stats.get("limit_keys")
        return found

    def rate(self, what: str, span: str) -> float | None:
        """Return a rate per second over a window of `WINDOWS`, such as ``1m``."""
        return _dig(self.stats, "rates", what, span)

    def took(self, what: str, percentile: str) -> float | None:
        """Return a percentile of ``run_time`` or ``latency``, in seconds."""
        return _dig(self.stats, what, percentile)


class ScheduleRow(NamedTuple):
    """A schedule on the page."""

    store: int
    about: Mapping[str, Any]
    """Its member of the stats document."""
    next_in: float | None
    """Seconds until its next tick; below 0 if that is late, None if it is not known."""
    ran_ago: float | None
    """Seconds since the moment of its last tick."""
    is_here: bool
    """Whether this application can run it."""


class View:
    """The content of the page at one moment.

    *document* is the stats document of *stores*. The constructor reads the lists of tasks from the
    stores and raises `BackendError` if that fails. Arguments and tracebacks are included only with
    *details*. The task whose details are open is searched among up to `MAX_TASKS` of its queue.
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
        self.keyed: list[QueueRow] = [row for row in self.queues if any((row.keys or {}).values())]
        """The queues with limit keys that have ready tasks or limits."""
        self.counts: dict[str, int | None] = {
            state: _sum(row.stats[state] for row in self.queues) for state in STATES
        }
        self.queues_known: int = sum(
            store.get("queues_known", len(store["queues"])) for store in self.stores
        )
        rates = [self.rate(what) for what in ("succeeded", "failed")]
        self.unit: str = "s" if max((rate for rate in rates if rate), default=0.0) >= 1 else "min"
        """The unit of all rates on the page: per minute if no rate reaches one per second."""
        self.workers: list[Mapping[str, Any]] = [
            worker for store in self.stores for worker in store["workers"] or ()
        ]
        self.running: list[RunningRow] = [
            _running(number, task, worker, self.time)
            for number, store in enumerate(self.stores)
            for worker in store["workers"] or ()
            for task in worker["running"]
        ]
        # The longest first, because a task that hangs is the most interesting one.
        self.running.sort(key=lambda task: -(task.seconds or 0.0))
        self.schedules: list[ScheduleRow] = [
            self._schedule(number, schedule, stores[number])
            for number, store in enumerate(self.stores)
            for schedule in store["schedules"] or ()
        ]
        self._list_tasks(stores, PageQuery.parse(query))

    def _schedule(self, number: int, about: Mapping[str, Any], store: Store) -> ScheduleRow:
        last, due = (
            None if about[name] is None else formats.since(about[name], self.time)
            for name in ("last", "next")
        )
        is_here = any(about["name"] in gator.schedules for gator in store.gators)
        return ScheduleRow(number, about, None if due is None else -due, last, is_here)

    def _list_tasks(self, stores: Sequence[Store], query: PageQuery) -> None:
        # A name that no queue has is dropped, so that the page repeats nothing of its address.
        names = {row.name for row in self.queues}
        query = query._replace(queue=query.queue if query.queue in names else "", done="")
        clients = [store.client for store in stores]
        self.dead: list[TaskRow] = self._list(
            "dead",
            query,
            lambda row, n: clients[row.store].dead_letters(row.name, n),
            lambda letter: -letter.died_at,
        )
        self.scheduled: list[TaskRow] = self._list(
            "scheduled",
            query,
            lambda row, n: clients[row.store].scheduled(row.name, n),
            lambda task: task.due_in,
        )
        is_found = any(row.is_open for row in (*self.dead, *self.scheduled))
        self.is_not_found: bool = bool(query.task) and not is_found
        """Whether the address names a task that is not there any more."""
        self.query: PageQuery = query if is_found else query._replace(task="", of="")

    def _list(
        self,
        state: str,
        query: PageQuery,
        fetch: Callable[[QueueRow, int], Iterable[T]],
        order: Callable[[T], float],
    ) -> list[TaskRow]:
        # A count of None is unknown, so such a queue may have tasks.
        queues = [row for row in self._select_queues(query) if row.stats[state] != 0]
        each = query.limit if len(queues) <= FEW_QUEUES else min(query.limit, FEW_QUEUES)
        found = [
            (row.store, task) for row in queues[:MAX_QUEUES] for task in _fetch(fetch, row, each)
        ]
        found.sort(key=lambda pair: order(pair[1]))
        rows = [self._row(state, store, task, query) for store, task in found[: query.limit]]
        if not query.task.startswith(state) or any(row.is_open for row in rows):
            return rows
        queues = [row for row in self.queues if row.name == query.of]
        found = [(row.store, task) for row in queues for task in _fetch(fetch, row, MAX_TASKS)]
        opened = [
            self._row(state, store, task, query)
            for store, task in found
            if _key(state, store, task.queue_name, task.task_id) == query.task
        ]
        return opened + rows

    def _row(
        self, state: str, store: int, task: DeadLetter | Scheduled, query: PageQuery
    ) -> TaskRow:
        key = _key(state, store, task.queue_name, task.task_id)
        is_open = key == query.task
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
            moment=format_utc(when),
            is_open=is_open,
            attempts=formats.attempts(task.data),
            reason=formats.shorten(getattr(task, "reason", last_error_in(task.data)), 2_000),
            arguments=formats.arguments(task.data) if shows else "",
            headers=formats.headers(task.data) if shows else "",
            traceback=formats.shorten(getattr(task, "traceback", "")) if shows else "",
        )

    def age(self, moment: str) -> float | None:
        """Return how many seconds ago *moment* was."""
        return formats.since(moment, self.time)

    def count(self, state: str) -> int | None:
        """Return the number of tasks in a state on the selected queues; None if unknown."""
        return _sum(row.stats[state] for row in self._select_queues(self.query))

    @property
    def bulk(self) -> QueueRow | None:
        """The queue for "Retry all" and "Drop all": the only selected one with dead tasks."""
        rows = [row for row in self._select_queues(self.query) if row.stats["dead"]]
        return rows[0] if len(rows) == 1 else None

    @property
    def depth(self) -> dict[str, Chart | None]:
        """The charts of ready and leased tasks of all queues together, to one scale.

        They end with the current counts, which the tiles and the key show, too.
        """
        histories = {state: self._history(state) for state in ("ready", "leased")}
        return _draw(
            {
                state: [*history, self.counts[state] or 0] if history else []
                for state, history in histories.items()
            }
        )

    @property
    def pace(self) -> dict[str, Chart | None]:
        """The charts of successes and failures per second, to one scale."""
        return _draw({what: changes(self._history(what)) for what in ("succeeded", "failed")})

    @property
    def seconds_charted(self) -> float:
        """The length of the charts, in seconds."""
        return max(1, len(self._history("ready")) - 1) * SLOT_SECONDS

    def _history(self, key: str) -> list[float]:
        return total((row.stats.get("history") for row in self.queues), key)

    def rate(self, what: str, span: str = "1m") -> float | None:
        """Return a rate per second, of all queues together."""
        return _sum(row.rate(what, span) for row in self.queues)

    def counter(self, what: str) -> int | None:
        """Return a counter, of all queues together."""
        return _sum(row.stats["counters"].get(what) for row in self.queues)

    @property
    def commits(self) -> Mapping[str, Any] | None:
        """The outcomes of transactions, of the first store that counts them."""
        return next((store["commits"] for store in self.stores if store.get("commits")), None)

    def _select_queues(self, query: PageQuery) -> list[QueueRow]:
        return [row for row in self.queues if query.queue in ("", row.name)]


def _fetch(fetch: Callable[[QueueRow, int], Iterable[T]], row: QueueRow, limit: int) -> Iterable[T]:
    try:
        return fetch(row, limit)
    except BackendUnavailable:
        raise
    except BackendError:  # the record of this queue is damaged; the others may be readable
        return ()


def _key(state: str, store: int, queue_name: str, task_id: str) -> str:
    """Return the key of a task in the address and as an element's id."""
    name = f"{store}\n{queue_name}\n{task_id}"
    return state + sha256(name.encode(errors="backslashreplace")).hexdigest()[:16]


def _sum(values: Iterable[Number | None]) -> Number | None:
    """Return the sum of the known values; None if all are unknown."""
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None


def _chart(queue: Mapping[str, Any]) -> Chart | None:
    history = total([queue.get("history")], "ready")
    return draw([*history, queue["ready"] or 0]) if history else None


def _draw(series: Mapping[str, Sequence[float]]) -> dict[str, Chart | None]:
    top = max((value for values in series.values() for value in values), default=0)
    return {name: draw(values, top) for name, values in series.items()}


def _running(
    store: int, task: Mapping[str, Any], worker: Mapping[str, Any], now: str
) -> RunningRow:
    queue, task_id = task.get("queue") or "", task["task_id"]
    return RunningRow(
        key=_key("running", store, queue, task_id),
        store=store,
        queue=queue,
        task_id=task_id,
        function=task["function"],
        worker=worker["name"],
        seconds=formats.since(task["since"], now),
        silent=worker["seen_ago"] if worker["seen_ago"] > SILENT_SECONDS else None,
    )


def _dig(value: Any, *names: str) -> float | None:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
