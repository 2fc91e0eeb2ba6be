"""Tell Prometheus what is on the queues, as their stores know it at the moment of the scrape.

Nothing is counted in this process, so that several of one site do not contradict each other.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from logging import Logger, getLogger
from typing import NamedTuple

from .backends.figures import STATES
from .exceptions import MissingExtra
from .gator import Gator
from .health import Health
from .histogram import BOUNDS, Histogram
from .stats import QueueSurvey, Survey, survey
from .stores import Store
from .tally import CAUSES

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

OUTCOMES = ("succeeded", "failed", "lost", "canceled", "dropped")
"""How an attempt ends, and how a task goes without one: no two of them are the same event."""

COMMITS = ("committed", *CAUSES, "failed")


class Found(NamedTuple):
    """A store at the moment of a scrape."""

    store: Store
    name: str
    seconds: float | None
    """How long it took to answer; None when it does not."""
    survey: Survey | None


class Metrics:
    """The metrics of the stores of *gators*; a collector in the sense of ``prometheus_client``.

    A store that does not answer within the time that *health* gives it has ``alligator_backend_up`` 0,
    and nothing else; the others are told all the same.
    """

    def __init__(self, gators: Gator | Iterable[Gator], health: Health | None = None) -> None:
        gators = [gators] if isinstance(gators, Gator) else list(gators)
        self._health = health or Health(gators)

    def write(self, accept: str = "") -> tuple[str, bytes]:
        """Write them for a caller that accepts *accept*; return the media type and the text."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        # Not the header itself, for the type that is chosen would repeat what stands in it.
        wanted = f"{OPENMETRICS}; version=1.0.0" if OPENMETRICS in accept else ""
        encode, media_type = choose_encoder(wanted)
        return media_type.replace("; escaping=underscores", ""), encode(registry)

    def describe(self) -> Iterable[Metric]:
        """Ask no store when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ask the stores, and tell."""
        found = list(self._ask())
        queues = [(each, queue) for each in found if each.survey for queue in each.survey.queues]
        yield from _of_backends(found)
        yield from _of_queues(queues)
        yield from _of_times(queues)
        yield from _of_workers(found)
        yield from _of_commits(found)

    def _ask(self) -> Iterator[Found]:
        names: Counter[str] = Counter()
        for store, seconds in self._health.answers():
            names[store.kind] += 1
            # Two of a kind are told apart, for no two series may have the same labels.
            name = store.kind if names[store.kind] == 1 else f"{store.kind}-{names[store.kind]}"
            try:
                yield Found(store, name, seconds, None if seconds is None else survey(store))
            except Exception as error:  # a store may be anybody's, and a scrape is owed an answer
                log.warning("the store cannot be measured: %s", type(error).__name__)
                yield Found(store, name, None, None)


def _of_backends(found: list[Found]) -> Iterator[Metric]:
    up = GaugeMetricFamily("alligator_backend_up", "Whether the store answers.", labels=["backend"])
    ping = GaugeMetricFamily(
        "alligator_backend_response_seconds",
        "How long the store took to answer a ping.",
        labels=["backend"],
        unit="seconds",
    )
    for each in found:
        up.add_metric([each.name], each.seconds is not None)
        if each.seconds is not None:
            ping.add_metric([each.name], each.seconds)
    yield up
    yield ping


def _of_queues(queues: list[tuple[Found, QueueSurvey]]) -> Iterator[Metric]:
    of = ["backend", "queue"]
    depth = GaugeMetricFamily(
        "alligator_queue_tasks", "Tasks on the queue, by state.", labels=[*of, "state"]
    )
    oldest = GaugeMetricFamily(
        "alligator_queue_oldest_task_age_seconds",
        "For how long the oldest ready task has been waiting.",
        labels=of,
        unit="seconds",
    )
    ends = CounterMetricFamily(
        "alligator_tasks",
        "Attempts that succeeded, failed or were lost, and tasks that were canceled or dropped.",
        labels=[*of, "outcome"],
    )
    single = {
        "pushed": CounterMetricFamily(
            "alligator_tasks_pushed", "Tasks put on the queue.", labels=of
        ),
        "retried": CounterMetricFamily(
            "alligator_tasks_retried",
            "Failed attempts after which the task was put back.",
            labels=of,
        ),
        "died": CounterMetricFamily(
            "alligator_tasks_died", "Tasks that became dead letters.", labels=of
        ),
    }
    for found, queue in queues:
        labels = [found.name, queue.name]
        for name in found.store.client.tells:
            number = getattr(queue.stats, name)
            if name in STATES:
                depth.add_metric([*labels, name], number)
            elif name in OUTCOMES:
                ends.add_metric([*labels, name], number)
            elif name in single:
                single[name].add_metric(labels, number)
            else:
                oldest.add_metric(labels, number)
    yield from (depth, oldest, ends, *single.values())


def _of_times(queues: list[tuple[Found, QueueSurvey]]) -> Iterator[Metric]:
    said = {
        "duration": "How long attempts ran.",
        "latency": "For how long tasks were due before they were begun.",
    }
    for name, documentation in said.items():
        family = HistogramMetricFamily(
            f"alligator_task_{name}_seconds",
            documentation,
            labels=["backend", "queue"],
            unit="seconds",
        )
        for found, queue in queues:
            times = queue.run if name == "duration" else queue.latency
            if times is not None:
                family.add_metric([found.name, queue.name], _buckets(times), times.seconds)
        yield family


def _of_workers(stores: list[Found]) -> Iterator[Metric]:
    workers = GaugeMetricFamily(
        "alligator_workers", "Workers that have been heard of.", labels=["backend"]
    )
    serving = GaugeMetricFamily(
        "alligator_queue_workers", "Workers that take from the queue.", labels=["backend", "queue"]
    )
    running = GaugeMetricFamily(
        "alligator_worker_tasks", "Tasks that workers said they run.", labels=["backend"]
    )
    for found in stores:
        if found.survey is not None and found.store.client.sees_workers:
            alive = found.survey.workers
            workers.add_metric([found.name], len(alive))
            running.add_metric([found.name], sum(len(worker.running) for worker in alive))
            counts = Counter(name for worker in alive for name in set(worker.queues))
            for name in dict.fromkeys([*(queue.name for queue in found.survey.queues), *counts]):
                serving.add_metric([found.name, name], counts[name])
    yield from (workers, serving, running)


def _of_commits(stores: list[Found]) -> Iterator[Metric]:
    commits = CounterMetricFamily(
        "alligator_deferred_tasks",
        "Tasks that transactions held, by what became of them.",
        labels=["backend", "outcome"],
    )
    for found in stores:
        if found.survey is not None and found.survey.commits is not None:
            for outcome in COMMITS:
                commits.add_metric([found.name, outcome], found.survey.commits.get(outcome, 0))
    yield commits


def _buckets(times: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, BOUNDS), "+Inf"]
    return list(zip(bounds, accumulate(times.buckets), strict=True))
