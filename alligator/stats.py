"""Tell an operator, as one JSON document, what is on the queues and who works on them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from .backends.base import QueueStats, WorkerInfo
from .gator import Gator
from .stores import Store, find_stores

SCHEMA = 1
"""The version of the document; it grows when something in it is renamed or taken away."""

STATES = ("ready", "scheduled", "leased", "dead")
COUNTERS = ("pushed", "succeeded", "retried", "lost", "canceled", "dropped")


def measure(gators: Gator | Iterable[Gator]) -> dict[str, Any]:
    """Measure the stores of *gators*; raise `BackendError` when one of them cannot be asked.

    The document holds numbers, and the names of queues, workers and functions: no DSN, and
    nothing of what a task was given.
    """
    return {
        "schema": SCHEMA,
        "time": moment(),
        "stores": [_store(store) for store in find_stores(gators)],
    }


def moment(timestamp: float | None = None) -> str:
    """Write a Unix *timestamp*, or now, as ISO 8601 in UTC.

    >>> moment(0)
    '1970-01-01T00:00:00.000Z'
    """
    when = datetime.now(UTC) if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _store(store: Store) -> dict[str, Any]:
    client = store.client
    names = dict.fromkeys([*store.own_queues, *client.queue_names()])
    return {
        "backend": store.kind,
        "delivery": client.delivery,
        "queues": [_queue(name, client.stats(name)) for name in names],
        "workers": [_worker(worker) for worker in client.workers()],
    }


def _queue(name: str, stats: QueueStats) -> dict[str, Any]:
    return {
        "name": name,
        **{state: getattr(stats, state) for state in STATES},
        "oldest_age": round(stats.oldest, 3),
        "counters": {counter: getattr(stats, counter) for counter in COUNTERS},
    }


def _worker(worker: WorkerInfo) -> dict[str, Any]:
    return {
        "name": worker.name,
        "queues": list(worker.queues),
        "started": moment(worker.started_at),
        "seen_ago": round(worker.seen_ago, 3),
        "running": list(worker.running),
    }
