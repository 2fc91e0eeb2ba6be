"""The stats document: queues, workers and commits of the stores as JSON, for operators."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import inf
from time import monotonic, time
from typing import Any, NamedTuple

from ..backends.base import Client, KeyStats, QueueStats, Sample, WorkerInfo
from ..backends.stats import COMMITS, COUNTERS, LATENCY, RUN, STATES
from ..commits.counters import CAUSES
from ..exceptions import BackendError, BackendUnavailable
from ..gator import Gator
from ..telemetry.histogram import Histogram
from .schedule_states import ScheduleState, find_schedules
from .stores import Store, find_stores

SCHEMA = 3
"""The version of the document; it increases with each release that adds, renames or removes a field."""

RATED = ("pushed", "succeeded", "failed")
"""The counters that are shown as rates per second."""

WINDOWS = {"1m": 60.0, "5m": 300.0, "15m": 900.0}
"""The windows of the rates, in seconds."""

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


MAX_QUEUES = 200
"""How many queues of a store are shown; measuring takes longer with each of them."""

CHOICE_SECONDS = 0.25
"""If there are more, for how many seconds queues are measured to choose those that are shown."""

FIRST_PART, LARGEST_PART = 10, 500
"""How many queues are measured in one round trip, at first and at most."""


class Snapshot(NamedTuple):
    """A store at one moment."""

    queues: list["QueueSnapshot"]
    workers: Sequence[WorkerInfo]
    commits: Mapping[str, int] | None
    """Tasks of transactions by outcome; None if the store does not count them."""
    known: int
    """How many queues the store has; *queues* holds at most `MAX_QUEUES` of them."""
    schedules: Sequence[ScheduleState] | None
    """None if the store keeps no schedules."""


class QueueSnapshot(NamedTuple):
    """A queue at one moment."""

    name: str
    stats: QueueStats | None
    """None if the store's record of this queue cannot be read."""
    run: Histogram | None
    latency: Histogram | None
    history: Sequence[Sample] | None
    """The samples, the oldest first. These three are None if the store does not keep them."""
    keys: KeyStats | None = None
    """The limit keys; None if the store has none, or cannot read them."""

    def numbers(self, reported: Iterable[str]) -> dict[str, float]:
        """Return the numbers by name, of those that the store has *reported* and can read."""
        if self.stats is None:
            return {}
        unreadable = self.stats.unreadable
        return {name: getattr(self.stats, name) for name in reported if name not in unreadable}


def measure(gators: Gator | Iterable[Gator]) -> dict[str, Any]:
    """Return the stats document of *gators*; raise `BackendError` if a store cannot be read.

    The document holds numbers, and the names of queues, workers and functions. It contains no DSN
    and no arguments of tasks. A value that a store does not know is None.
    """
    return {
        "schema": SCHEMA,
        "time": format_utc(),
        "stores": [_store(store, take_snapshot(store)) for store in find_stores(gators)],
    }


def take_snapshot(store: Store) -> Snapshot:
    """Read all that *store* knows, at a cost that does not grow with its backlog."""
    client = store.client
    with suppress(BackendError):  # counts of this process that the store does not have yet
        for gator in store.gators:
            gator.counters.flush()
    known = list(dict.fromkeys([*store.own_queues, *client.queue_names()]))
    names = _choose(store, known)
    keys = measure_keys(client, names)
    found = Snapshot(
        [_take_queue_snapshot(store, name)._replace(keys=keys[name]) for name in names],
        client.workers(),
        client.figures(COMMITS),
        len(known),
        find_schedules(store),
    )
    with suppress(BackendError):  # a full store cannot keep a sample, but can be read
        client.note({}, [queue.name for queue in found.queues if queue.stats is not None])
    return found


def measure_queues(
    client: Client, names: Sequence[str], first: int
) -> Iterator[list[tuple[str, QueueStats | BackendError]]]:
    """Yield queues and their stats, one part per round trip: *first* queues, then larger parts.

    The caller stops when its time is up. A queue whose record cannot be read comes with its error.
    """
    start, size = 0, max(1, first)
    while start < len(names):
        yield _measure_some(client, names[start : start + size])
        start += size
        size = min(LARGEST_PART, max(FIRST_PART, 2 * size))


def _measure_some(
    client: Client, names: Sequence[str]
) -> list[tuple[str, QueueStats | BackendError]]:
    try:
        return list(zip(names, client.stats_of(names), strict=True))
    except BackendError as error:
        if len(names) == 1 or isinstance(error, BackendUnavailable):
            return [(name, error) for name in names]
        return [each for name in names for each in _measure_some(client, [name])]


def measure_keys(client: Client, names: Sequence[str]) -> Mapping[str, KeyStats | None]:
    """Return the stats of the limit keys of these queues; None for those that cannot be read."""
    if not client.keeps_limit_keys or not names:
        return dict.fromkeys(names)
    try:
        return dict.fromkeys(names, KeyStats()) | client.key_stats(names)
    except BackendUnavailable:
        raise
    except BackendError:
        if len(names) == 1:
            return dict.fromkeys(names)
        return {name: measure_keys(client, [name])[name] for name in names}


def _choose(store: Store, names: Sequence[str]) -> Sequence[str]:
    """Return the queues to show: those of the gators, then those with the most tasks."""
    if len(names) <= MAX_QUEUES:
        return names
    began = monotonic()
    counts: dict[str, int] = {}
    for part in measure_queues(store.client, names, len(store.own_queues)):
        for name, stats in part:
            if isinstance(stats, QueueStats):
                counts[name] = stats.ready + stats.scheduled + stats.leased + stats.dead
        if monotonic() - began > CHOICE_SECONDS:
            break
    own = {*store.own_queues}
    ranked = sorted(names, key=lambda name: (name not in own, -counts.get(name, 0)))
    return ranked[:MAX_QUEUES]


def format_utc(timestamp: float | None = None) -> str:
    """Return a Unix *timestamp*, or the current time, as ISO 8601 in UTC.

    >>> format_utc(0)
    '1970-01-01T00:00:00.000Z'
    """
    try:
        when = datetime.now(UTC) if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
    except (OverflowError, ValueError, OSError):  # a record may contain any number
        when = datetime.fromtimestamp(0, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _take_queue_snapshot(store: Store, name: str) -> QueueSnapshot:
    client = store.client
    try:
        # The history first: counters only grow, so no rate can be negative.
        history, figures = client.history(name), client.figures(name)
        stats = client.stats(name)
    except BackendUnavailable:
        raise
    except BackendError:  # the record of this queue is damaged; the others may be readable
        return QueueSnapshot(name, None, None, None, None)
    if figures is None:
        return QueueSnapshot(name, stats, None, None, history)
    run, latency = Histogram.read(RUN, figures), Histogram.read(LATENCY, figures)
    return QueueSnapshot(name, stats, run, latency, history)


def _store(store: Store, found: Snapshot) -> dict[str, Any]:
    client = store.client
    return {
        "backend": store.kind,
        "delivery": client.delivery,
        "queues": [_queue(queue, client.known_stats) for queue in found.queues],
        "queues_known": found.known,
        "workers": [_worker(worker) for worker in found.workers] if client.lists_workers else None,
        "commits": _commits(found.commits),
        "schedules": None if found.schedules is None else [*map(_schedule, found.schedules)],
    }


def _queue(queue: QueueSnapshot, reported: Iterable[str]) -> dict[str, Any]:
    stats = queue.numbers(reported)
    oldest, paused = stats.get("oldest"), stats.get("paused")
    return {
        "name": queue.name,
        **{state: stats.get(state) for state in STATES},
        "oldest_age": oldest if oldest is None else round(oldest, 3),
        "paused": None if paused is None else paused > 0,
        "resumes_in": round(paused, 3) if paused and paused < inf else None,
        "limit": _limit(queue.stats),
        "limited": stats.get("limited"),
        "limit_keys": _keys(queue.keys),
        "counters": {counter: stats.get(counter) for counter in COUNTERS},
        "rates": {name: _rates(name, stats.get(name), queue.history) for name in RATED},
        "run_time": _times(queue.run),
        "latency": _times(queue.latency),
        "history": None if queue.history is None else [_sample(each) for each in queue.history],
    }


def _limit(stats: QueueStats | None) -> dict[str, float | None] | None:
    return None if stats is None or stats.limit is None else stats.limit._asdict()


def _keys(keys: KeyStats | None) -> dict[str, Any] | None:
    return keys and {
        "waiting": keys.waiting,
        "limited": keys.limited,
        "limited_keys": list(keys.names),
        "limits": {key: limit._asdict() for key, limit in keys.limits.items()},
        "limits_known": keys.limits_known,
    }


def _rates(
    name: str, count: float | None, history: Sequence[Sample] | None
) -> dict[str, float | None]:
    rates: dict[str, float | None] = {}
    for window, seconds in WINDOWS.items():
        rates[window] = None
        if count is not None and history:
            since = min(history, key=lambda sample: abs(sample.age - seconds))
            # Less than a second is too short for a rate.
            if since.age >= 1:
                rates[window] = round(max(0, count - getattr(since, name)) / since.age, 3)
    return rates


def _times(times: Histogram | None) -> dict[str, float | None] | None:
    if times is None:
        return None
    found = {"mean": times.mean} | {name: times.quantile(q) for name, q in QUANTILES.items()}
    rounded = {name: None if took is None else round(took, 6) for name, took in found.items()}
    return {"count": times.count, **rounded}


def _sample(sample: Sample) -> dict[str, Any]:
    figures = sample._asdict()
    return {"time": format_utc(time() - figures.pop("age")), **figures}


def _worker(worker: WorkerInfo) -> dict[str, Any]:
    return {
        "name": worker.name,
        "host": worker.host,
        "pid": worker.pid,
        "queues": list(worker.queues),
        "started": format_utc(worker.started_at),
        "seen_ago": round(worker.seen_ago, 3),
        "running": [
            {
                "task_id": each.task_id,
                "function": each.function,
                "queue": each.queue_name or None,
                "since": format_utc(each.since),
            }
            for each in worker.running
        ],
        "memory": worker.memory,
        "concurrency": worker.concurrency,
        "loop_lag": None if worker.loop_lag is None else round(worker.loop_lag, 3),
        "unrunnable": sorted(worker.unrunnable),
    }


def _schedule(state: ScheduleState) -> dict[str, Any]:
    return {
        "name": state.name,
        "definition": state.definition,
        "timezone": state.zone,
        "function": state.function,
        "queue": state.queue,
        "catch_up": state.catch_up,
        "last": None if state.ran is None else format_utc(state.ran),
        "next": None if state.due is None else format_utc(state.due),
        "seen_ago": None if state.seen_ago is None else round(state.seen_ago, 3),
    }


def _commits(figures: Mapping[str, int] | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "committed": figures.get("committed", 0),
        "discarded": {cause: figures.get(cause, 0) for cause in CAUSES},
        "failed": figures.get("failed", 0),
        "undone": figures.get("undone", 0),
    }
