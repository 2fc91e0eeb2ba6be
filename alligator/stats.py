"""Tell an operator, as one JSON document, what is on the queues and who works on them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import time
from typing import Any, NamedTuple

from .backends.base import QueueStats, Sample, WorkerInfo
from .backends.figures import COMMITS, COUNTERS, LATENCY, RUN, STATES
from .exceptions import BackendError
from .gator import Gator
from .histogram import Histogram
from .stores import Store, find_stores
from .tally import CAUSES

SCHEMA = 2
"""The version of the document; it grows when something in it is renamed or taken away."""

RATED = ("pushed", "succeeded", "failed")
WINDOWS = {"1m": 60.0, "5m": 300.0, "15m": 900.0}
"""What is told per second, over how many seconds."""

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Survey(NamedTuple):
    """A store as it was found."""

    queues: list["QueueSurvey"]
    workers: Sequence[WorkerInfo]
    commits: Mapping[str, int] | None
    """How many tasks of transactions came to which end; None from a store that cannot tell."""


class QueueSurvey(NamedTuple):
    """A queue as it was found."""

    name: str
    stats: QueueStats
    run: Histogram | None
    latency: Histogram | None
    history: Sequence[Sample] | None
    """The samples, the oldest first. These three are None from a store that keeps none."""


def measure(gators: Gator | Iterable[Gator]) -> dict[str, Any]:
    """Measure the stores of *gators*; raise `BackendError` when one of them cannot be asked.

    The document holds numbers, and the names of queues, workers and functions: no DSN, and
    nothing of what a task was given. What a store cannot tell is None.
    """
    return {
        "schema": SCHEMA,
        "time": moment(),
        "stores": [_store(store, survey(store)) for store in find_stores(gators)],
    }


def survey(store: Store) -> Survey:
    """Ask *store* for all it can tell, at a cost that does not grow with its backlog."""
    client = store.client
    with suppress(BackendError):  # what this process knows, and the store does not yet
        for gator in store.gators:
            gator.tally.flush()
    names = list(dict.fromkeys([*store.own_queues, *client.queue_names()]))
    found = Survey(
        [_survey_queue(store, name) for name in names],
        client.workers(),
        client.figures(COMMITS),
    )
    with suppress(BackendError):  # a store that is full tells all the same
        client.note({}, names)
    return found


def moment(timestamp: float | None = None) -> str:
    """Write a Unix *timestamp*, or now, as ISO 8601 in UTC.

    >>> moment(0)
    '1970-01-01T00:00:00.000Z'
    """
    when = datetime.now(UTC) if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _survey_queue(store: Store, name: str) -> QueueSurvey:
    # In this order: what ended between two questions is in the later one, so no rate is negative.
    history, figures = store.client.history(name), store.client.figures(name)
    stats = store.client.stats(name)
    if figures is None:
        return QueueSurvey(name, stats, None, None, history)
    run, latency = Histogram.read(RUN, figures), Histogram.read(LATENCY, figures)
    return QueueSurvey(name, stats, run, latency, history)


def _store(store: Store, found: Survey) -> dict[str, Any]:
    client = store.client
    return {
        "backend": store.kind,
        "delivery": client.delivery,
        "queues": [_queue(queue, client.tells) for queue in found.queues],
        "workers": [_worker(worker) for worker in found.workers] if client.sees_workers else None,
        "commits": _commits(found.commits),
    }


def _queue(queue: QueueSurvey, tells: Iterable[str]) -> dict[str, Any]:
    stats = {name: getattr(queue.stats, name) for name in tells}
    oldest = stats.get("oldest")
    return {
        "name": queue.name,
        **{state: stats.get(state) for state in STATES},
        "oldest_age": oldest if oldest is None else round(oldest, 3),
        "counters": {counter: stats.get(counter) for counter in COUNTERS},
        "rates": {name: _rates(name, stats.get(name), queue.history) for name in RATED},
        "run_time": _times(queue.run),
        "latency": _times(queue.latency),
        "history": None if queue.history is None else [_sample(each) for each in queue.history],
    }


def _rates(
    name: str, count: int | None, history: Sequence[Sample] | None
) -> dict[str, float | None]:
    rates: dict[str, float | None] = {}
    for window, seconds in WINDOWS.items():
        rates[window] = None
        if count is not None and history:
            since = min(history, key=lambda sample: abs(sample.age - seconds))
            # Of a shorter time than a second nothing can be said.
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
    return {"time": moment(time() - figures.pop("age")), **figures}


def _worker(worker: WorkerInfo) -> dict[str, Any]:
    return {
        "name": worker.name,
        "host": worker.host,
        "pid": worker.pid,
        "queues": list(worker.queues),
        "started": moment(worker.started_at),
        "seen_ago": round(worker.seen_ago, 3),
        "running": [
            {"task_id": each.task_id, "function": each.function, "since": moment(each.since)}
            for each in worker.running
        ],
        "memory": worker.memory,
        "concurrency": worker.concurrency,
    }


def _commits(figures: Mapping[str, int] | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "committed": figures.get("committed", 0),
        "discarded": {cause: figures.get(cause, 0) for cause in CAUSES},
        "failed": figures.get("failed", 0),
    }
