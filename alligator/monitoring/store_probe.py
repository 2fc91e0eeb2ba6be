"""Probe that pings one store, and then measures its queues and workers."""

from collections.abc import Collection, Mapping, Sequence
from time import monotonic
from typing import Any

from ..backends.base import KeyStats, QueueStats, WorkerInfo
from ..constants import FAIL, PASS, WARN
from ..exceptions import BackendError
from .commit_checks import check_commits
from .entries import Checks, Entries
from .probe import Probe, explain
from .queue_checks import Limits, MeasuredQueue, check_queues
from .schedule_checks import check_schedules
from .stats import measure_keys, measure_queues
from .stores import Store
from .worker_checks import check_workers


class StoreProbe(Probe):
    """One ping of one store, and its details as far as the time allows."""

    def __init__(self, store: Store, timeout: float, limits: Limits) -> None:
        super().__init__(timeout)
        self._store = store
        self._limits = limits
        self._entries = Entries(store.kind, self.time)
        self._late = 0.0
        """When the ping returned, in seconds since the probe began; starting its thread counts."""
        self._answered: float | None = None
        """How long the ping took."""
        self._details: Checks | None = None
        self._commits: Checks = {}
        self.names: Collection[str] | None = None
        """The queues that the store or one of its workers knows; None before it answered."""
        self._is_spooled = False
        """Whether tasks can be accepted without the store, for a while."""

    def seconds(self) -> float | None:
        """Return how long the ping took; None if it did not return in time. Waits for it."""
        self.wait()
        return self._answered if self._late <= self.timeout else None

    def findings(self) -> Checks:
        self.wait()
        milliseconds = f"{self.timeout * 1000:.0f} ms"
        answered, details = self._answered, self._details
        unreachable = WARN if self._is_spooled else FAIL
        if answered is None:
            output = self.error or f"no answer within {milliseconds}"
            return self._response(unreachable, output) | self._commits
        if self._late > self.timeout:
            output = f"the answer took {self._late:.1f} s"
            return self._response(unreachable, output) | self._commits
        checks = self._response(PASS) | self._commits
        if details is None:
            output = self.error or f"the store answers, but gave no details within {milliseconds}"
            return checks | {"backend:details": [self._entries.make(WARN, output)]}
        return checks | details

    def _response(self, status: str, output: str = "") -> Checks:
        observed: dict[str, Any] = {}
        if self._answered is not None:
            observed = {
                "observedValue": round(self._answered * 1000, 3),
                "observedUnit": "ms",
            }
        entry = self._entries.make(status, output, componentType="datastore", **observed)
        return {"backend:responseTime": [entry]}

    def run(self) -> None:
        self._commits, self._is_spooled = check_commits(self._store.gators, self._entries)
        self._store.client.register_queues(self._store.own_queues)
        asked = monotonic()
        self._store.client.ping()
        answered = monotonic()
        self._late = answered - self.began
        self._answered = answered - asked
        self._check_details()

    def _check_details(self) -> None:
        client = self._store.client
        checks: Checks = {
            "delivery": [self._entries.make(PASS, observedValue=client.delivery)],
            "durability": self._check_durability(),
        }
        if limits := client.limitations:
            checks["limits"] = [self._entries.make(PASS, text) for text in limits]
        self._check_schedules(checks)
        workers = self._find_workers(checks)
        names = self._find_names(checks)
        self.names = {*names, *(name for worker in workers or () for name in worker.queues)}
        queues: list[MeasuredQueue] = []
        unreadable: Checks = {}

        def summary() -> Checks:
            found = checks | unreadable
            if workers is not None:
                found |= check_workers(self._store, workers, queues, self._entries)
            known = len(names) - len(unreadable)
            return found | check_queues(self._store, queues, known, self._limits, self._entries)

        for part in measure_queues(client, names, len(self._store.own_queues)):
            keys = self._measure_keys(part)
            for name, stats in part:
                if isinstance(stats, QueueStats):
                    dropped = self._count_dropped(name, stats)
                    queues.append(MeasuredQueue(name, stats, dropped, keys.get(name)))
                else:
                    entry = self._entries.make(WARN, f"{name}: {explain(stats)}")
                    unreadable[f"queue/{name}:depth"] = [entry]
            # The first part is available in time, even if the others take too long.
            if self._details is None:
                self._details = summary()
            if monotonic() - self.began > self.timeout / 2:
                break
        self._details = summary()

    def _check_durability(self) -> list[dict[str, Any]]:
        try:
            warnings = self._store.client.warnings()
        except BackendError as error:
            warnings = [explain(error)]
        return [self._entries.make(WARN, text) for text in warnings] or [self._entries.make(PASS)]

    def _check_schedules(self, checks: Checks) -> None:
        try:
            checks |= check_schedules(self._store, self._entries)
        except BackendError as error:
            checks["schedules:late"] = [self._entries.make(WARN, explain(error))]

    def _find_workers(self, checks: Checks) -> Sequence[WorkerInfo] | None:
        """Return the workers, or None if the store does not know them; add an error to *checks*."""
        if not self._store.client.lists_workers:
            return None
        try:
            return self._store.client.workers()
        except BackendError as error:
            checks["workers:connections"] = [self._entries.make(WARN, explain(error))]
            return None

    def _find_names(self, checks: Checks) -> list[str]:
        """Return the queues: first those of the gators, then those with limits, then all others.

        Add an error to *checks*.
        """
        own = self._store.own_queues
        try:
            found = self._store.client.queue_names()
        except BackendError as error:
            checks["queues:measured"] = [self._entries.make(WARN, explain(error))]
            return own
        limited = sorted({*self._limits.names}.intersection(found))
        return list(dict.fromkeys([*own, *limited, *found]))

    def _measure_keys(
        self, part: Sequence[tuple[str, QueueStats | BackendError]]
    ) -> Mapping[str, KeyStats | None]:
        """Return the limit keys of the queues whose oldest ready task has waited for too long."""
        slow = [
            name
            for name, stats in part
            if isinstance(stats, QueueStats) and stats.oldest > self._limits.seconds(name)
        ]
        try:
            return measure_keys(self._store.client, slow)
        except BackendError:  # the numbers of the queues are known, and matter more
            return {}

    def _count_dropped(self, name: str, stats: QueueStats) -> int:
        """Return how many tasks were dropped since the oldest sample, at most 15 minutes ago."""
        if not stats.dropped:
            return 0
        history = self._store.client.history(name) or ()
        before = [sample.dropped for sample in history if sample.dropped is not None]
        return stats.dropped - min(before, default=stats.dropped)
