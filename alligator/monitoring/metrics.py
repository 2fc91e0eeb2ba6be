"""Metrics for Prometheus, read from the stores at the moment of the scrape.

Nothing is counted in this process, so that the processes of one site agree.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate
from logging import Logger, getLogger
from typing import NamedTuple

from ..backends.limits import MOST_KEYS
from ..backends.stats import STATES
from ..commits.counters import CAUSES
from ..exceptions import BackendError, MissingExtra
from ..gator import Gator
from ..telemetry.histogram import BOUNDS, Histogram
from .health import Health
from .stats import MAX_QUEUES, QueueSnapshot, Snapshot, take_snapshot
from .stores import Store

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import choose_encoder
except ModuleNotFoundError as _error:
    if _error.name != "prometheus_client":
        raise
    raise MissingExtra("/alligator/metrics needs: pip install 'alligator[metrics]'") from _error

log: Logger = getLogger("alligator")

OPENMETRICS = "application/openmetrics-text"

OUTCOMES = ("succeeded", "failed", "lost", "canceled", "dropped", "expired")
"""How an attempt ends, and how a task ends without one; each event has exactly one of them."""

COMMITS = ("committed", *CAUSES, "failed", "undone")


class ScrapedStore(NamedTuple):
    """A store at the moment of a scrape."""

    store: Store
    name: str
    seconds: float | None
    """How long the store took to answer; None if it did not."""
    snapshot: Snapshot | None


class Metrics:
    """The metrics of the stores of *gators*; a collector in the sense of ``prometheus_client``.

    A store that does not answer within the timeout of *health* has only ``alligator_backend_up`` 0;
    the other stores are complete.
    """

    def __init__(self, gators: Gator | Iterable[Gator], health: Health | None = None) -> None:
        gators = [gators] if isinstance(gators, Gator) else list(gators)
        self._health = health or Health(gators)

    def write(self, accept: str = "") -> tuple[str, bytes]:
        """Return the media type and the text of the metrics, for an ``Accept`` header."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        # Not the header itself, because the encoder copies parts of it into the media type.
        wanted = f"{OPENMETRICS}; version=1.0.0" if OPENMETRICS in accept else ""
        encode, media_type = choose_encoder(wanted)
        return media_type.replace("; escaping=underscores", ""), encode(registry)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the registry calls this at registration, and must not read the stores."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the stores and yield their metrics."""
        stores = list(self._scrape())
        queues = [
            (each, queue) for each in stores if each.snapshot for queue in each.snapshot.queues
        ]
        yield from _backend_metrics(stores)
        yield from _process_metrics(stores)
        yield from _queue_metrics(queues)
        yield from _key_metrics(queues)
        yield from _time_metrics(queues)
        yield from _worker_metrics(stores)
        yield from _commit_metrics(stores)
        yield from _schedule_metrics(stores)

    def _scrape(self) -> Iterator[ScrapedStore]:
        names: Counter[str] = Counter()
        for store, seconds in self._health.response_times():
            names[store.kind] += 1
            # Two stores of one kind get different names: no two series may have the same labels.
            name = store.kind if names[store.kind] == 1 else f"{store.kind}-{names[store.kind]}"
            snapshot = None
            try:
                snapshot = None if seconds is None else take_snapshot(store)
            except Exception as error:  # a custom store may raise anything; a scrape must succeed
                log.warning("cannot measure the %s store: %s", name, type(error).__name__)
                seconds = None
            yield ScrapedStore(store, name, seconds, snapshot)


def _backend_metrics(stores: list[ScrapedStore]) -> Iterator[Metric]:
    up = GaugeMetricFamily("alligator_backend_up", "Whether the store answers.", labels=["backend"])
    ping = GaugeMetricFamily(
        "alligator_backend_response_seconds",
        "How long the store took to answer a ping.",
        labels=["backend"],
        unit="seconds",
    )
    known = GaugeMetricFamily(
        "alligator_queues",
        f"Queues of the store; at most {MAX_QUEUES} of them have series.",
        labels=["backend"],
    )
    for each in stores:
        up.add_metric([each.name], each.seconds is not None)
        if each.seconds is not None:
            ping.add_metric([each.name], each.seconds)
        if each.snapshot is not None:
            known.add_metric([each.name], each.snapshot.known)
    yield from (up, ping, known)


def _process_metrics(stores: list[ScrapedStore]) -> Iterator[Metric]:
    """Yield the metrics of this process: its breakers and spools; all others are of the stores."""
    labels = ["backend"]
    breaker = GaugeMetricFamily(
        "alligator_breaker_open",
        "Whether pushes of this process fail at once, because the store did not answer.",
        labels=labels,
    )
    depth = GaugeMetricFamily(
        "alligator_spool_tasks",
        "Tasks in the spool of this machine, waiting for their store.",
        labels=labels,
    )
    age = GaugeMetricFamily(
        "alligator_spool_oldest_task_age_seconds",
        "Age of the oldest task in the spool of this machine.",
        labels=labels,
        unit="seconds",
    )
    failing = GaugeMetricFamily(
        "alligator_spool_failing_commits",
        "Commits in the spool of this machine that their store refuses, although it answers.",
        labels=labels,
    )
    for each in stores:
        breakers = [gator.breaker for gator in each.store.gators if gator.breaker is not None]
        if breakers:
            breaker.add_metric([each.name], any(one.is_open for one in breakers))
        spools = {gator.spool.path: gator.spool for gator in each.store.gators if gator.spool}
        with suppress(BackendError):  # the file cannot be read; health reports why
            contents = [spool.content() for spool in spools.values()]
            if contents:
                depth.add_metric([each.name], sum(content.tasks for content in contents))
                age.add_metric([each.name], max(content.age for content in contents))
                failing.add_metric([each.name], sum(content.failing for content in contents))
    yield from (breaker, depth, age, failing)


def _queue_metrics(queues: list[tuple[ScrapedStore, QueueSnapshot]]) -> Iterator[Metric]:
    of = ["backend", "queue"]
    depth = GaugeMetricFamily(
        "alligator_queue_tasks", "Tasks on the queue, by state.", labels=[*of, "state"]
    )
    oldest = GaugeMetricFamily(
        "alligator_queue_oldest_task_age_seconds",
        "Age of the oldest ready task.",
        labels=of,
        unit="seconds",
    )
    paused = GaugeMetricFamily(
        "alligator_queue_paused", "Whether the queue is paused: 1, or 0.", labels=of
    )
    limited = GaugeMetricFamily(
        "alligator_queue_limited_tasks",
        "Ready tasks that wait for the limit of the queue.",
        labels=of,
    )
    ends = CounterMetricFamily(
        "alligator_tasks",
        "Attempts that succeeded, failed or were lost; tasks that were canceled, dropped or expired.",
        labels=[*of, "outcome"],
    )
    pushed = CounterMetricFamily("alligator_tasks_pushed", "Tasks put on the queue.", labels=of)
    retried = CounterMetricFamily(
        "alligator_tasks_retried", "Failed attempts after which the task was put back.", labels=of
    )
    died = CounterMetricFamily("alligator_tasks_died", "Tasks that became dead letters.", labels=of)
    # By the name of a number: its family, and its label there besides those of the queue.
    places: dict[str, tuple[GaugeMetricFamily | CounterMetricFamily, list[str]]] = {
        **{name: (depth, [name]) for name in STATES},
        **{name: (ends, [name]) for name in OUTCOMES},
        "oldest": (oldest, []),
        "paused": (paused, []),
        "limited": (limited, []),
        "pushed": (pushed, []),
        "retried": (retried, []),
        "died": (died, []),
    }
    for each, queue in queues:
        labels = [each.name, _label(queue.name)]
        for name, number in queue.numbers(each.store.client.known_stats).items():
            family, label = places[name]
            family.add_metric([*labels, *label], number > 0 if name == "paused" else number)
    yield from (depth, oldest, paused, limited, ends, pushed, retried, died)


def _key_metrics(queues: list[tuple[ScrapedStore, QueueSnapshot]]) -> Iterator[Metric]:
    """Yield the numbers of limit keys; a series for each key could be any number of series."""
    of = ["backend", "queue"]
    waiting = GaugeMetricFamily(
        "alligator_queue_keys",
        f"Limit keys with ready tasks; {MOST_KEYS} means that many or more.",
        labels=of,
    )
    limited = GaugeMetricFamily(
        "alligator_queue_limited_keys",
        f"Limit keys whose tasks wait for the limit of their key; {MOST_KEYS} means that many or more.",
        labels=of,
    )
    limits = GaugeMetricFamily(
        "alligator_queue_key_limits",
        f"Limits of keys that are set; {MOST_KEYS} means that many or more.",
        labels=of,
    )
    for each, queue in queues:
        if queue.keys is not None:
            labels = [each.name, _label(queue.name)]
            waiting.add_metric(labels, queue.keys.waiting)
            limited.add_metric(labels, queue.keys.limited)
            limits.add_metric(labels, queue.keys.limits_known)
    yield from (waiting, limited, limits)


def _time_metrics(queues: list[tuple[ScrapedStore, QueueSnapshot]]) -> Iterator[Metric]:
    documentations = {
        "duration": "How long attempts ran.",
        "latency": "How long tasks were due before they started.",
    }
    for name, documentation in documentations.items():
        family = HistogramMetricFamily(
            f"alligator_task_{name}_seconds",
            documentation,
            labels=["backend", "queue"],
            unit="seconds",
        )
        for each, queue in queues:
            times = queue.run if name == "duration" else queue.latency
            if times is not None:
                family.add_metric([each.name, _label(queue.name)], _buckets(times), times.seconds)
        yield family


def _worker_metrics(stores: list[ScrapedStore]) -> Iterator[Metric]:
    workers = GaugeMetricFamily(
        "alligator_workers", "Workers with a recent heartbeat.", labels=["backend"]
    )
    serving = GaugeMetricFamily(
        "alligator_queue_workers", "Workers that serve the queue.", labels=["backend", "queue"]
    )
    running = GaugeMetricFamily(
        "alligator_worker_tasks", "Tasks that workers reported as running.", labels=["backend"]
    )
    lag = GaugeMetricFamily(
        "alligator_worker_loop_lag_seconds",
        "Longest time for which a coroutine blocked the event loop of a worker lately.",
        labels=["backend"],
    )
    for each in stores:
        if each.snapshot is not None and each.store.client.lists_workers:
            alive = each.snapshot.workers
            workers.add_metric([each.name], len(alive))
            running.add_metric([each.name], sum(len(worker.running) for worker in alive))
            lags = [worker.loop_lag for worker in alive if worker.loop_lag is not None]
            if lags:
                lag.add_metric([each.name], max(lags))
            counts = Counter(name for worker in alive for name in set(worker.queues))
            for name in dict.fromkeys([*(queue.name for queue in each.snapshot.queues), *counts]):
                serving.add_metric([each.name, _label(name)], counts[name])
    yield from (workers, serving, running, lag)


def _commit_metrics(stores: list[ScrapedStore]) -> Iterator[Metric]:
    commits = CounterMetricFamily(
        "alligator_deferred_tasks",
        "Tasks that transactions held, by outcome.",
        labels=["backend", "outcome"],
    )
    for each in stores:
        if each.snapshot is not None and each.snapshot.commits is not None:
            for outcome in COMMITS:
                commits.add_metric([each.name, outcome], each.snapshot.commits.get(outcome, 0))
    yield commits


def _schedule_metrics(stores: list[ScrapedStore]) -> Iterator[Metric]:
    labels = ["backend", "schedule"]
    last = GaugeMetricFamily(
        "alligator_schedule_last_tick_timestamp_seconds",
        "The moment of the last tick that was queued.",
        labels=labels,
        unit="seconds",
    )
    due = GaugeMetricFamily(
        "alligator_schedule_next_tick_timestamp_seconds",
        "The moment of the next tick; in the past if that is late.",
        labels=labels,
        unit="seconds",
    )
    for each in stores:
        for state in (each.snapshot and each.snapshot.schedules) or ():
            if state.ran is not None:
                last.add_metric([each.name, _label(state.name)], state.ran)
            if state.due is not None:
                due.add_metric([each.name, _label(state.name)], state.due)
    yield from (last, due)


def _label(name: str) -> str:
    """Return the name of a queue in a form that UTF-8 can encode."""
    return name.encode(errors="backslashreplace").decode()


def _buckets(times: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, BOUNDS), "+Inf"]
    return list(zip(bounds, accumulate(times.buckets), strict=True))
