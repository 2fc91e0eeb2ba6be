"""Answer a probe: can tasks be put on the queue, and is anybody working them off?

The shape is that of the draft for ``application/health+json``. Only a store that does not answer is
a ``fail``, for only that makes requests fail; what a web process cannot mend by leaving rotation
(a backlog, no worker, a store that would forget) is a ``warn``.
"""

import os
from collections.abc import Callable, Iterable
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from .breaker import Breaker
from .constants import FAIL, PASS, WARN
from .exceptions import BackendError
from .gator import Gator
from .stats import moment
from .stores import Store, find_stores

if TYPE_CHECKING:
    from .spool import Spool

PING_SECONDS = 0.5
"""How long a store may take to answer: half of what Kubernetes gives a probe."""

FRESH_SECONDS = 1.0
"""For how long an answer stands for all who ask."""

BACKLOG_SECONDS = 300.0
"""How long a ready task may wait before somebody should look."""

Checks = dict[str, list[dict[str, Any]]]


class Verdict(NamedTuple):
    """What came of a check."""

    status: str
    """``pass``, ``warn`` or ``fail``."""
    checks: Checks
    """Findings by ``component:measurement``; not for strangers."""
    notes: list[str]

    def document(self) -> dict[str, Any]:
        """Make it the body of ``application/health+json``."""
        notes = {"notes": self.notes} if self.notes else {}
        return {"status": self.status, **notes, "checks": self.checks}


class Health:
    """The health of the stores of *gators*.

    It may be asked from any thread, as often as one likes: a store is asked by one thread at a
    time, and not again for *fresh_for* seconds. A store that has not answered within *timeout*
    seconds fails, also when the call that waits for it never returns; that call is then waited
    for, and no second one is made.
    """

    def __init__(
        self,
        gators: Gator | Iterable[Gator],
        *,
        timeout: float = PING_SECONDS,
        fresh_for: float = FRESH_SECONDS,
        backlog_after: float = BACKLOG_SECONDS,
    ) -> None:
        self._timeout = timeout
        self._watches = [
            _Watch(store, timeout, fresh_for, backlog_after) for store in find_stores(gators)
        ]

    def check(self) -> Verdict:
        """Ask the stores, all at once, and judge: within *timeout*, and raising nothing."""
        needed = [watch for watch in self._watches if watch.store.is_needed]
        notes = [
            f"Tasks for {', '.join(watch.store.own_queues)} run in this process; "
            "their store is not needed, nor asked."
            for watch in self._watches
            if watch not in needed
        ]
        checks: Checks = {}
        for probe in [watch.probe() for watch in needed]:
            for key, entries in probe.findings().items():
                checks.setdefault(key, []).extend(entries)
        found = {entry["status"] for entries in checks.values() for entry in entries}
        status = FAIL if FAIL in found else WARN if WARN in found else PASS
        return Verdict(status, checks, notes)


class _Watch:
    """The latest probe of one store."""

    def __init__(
        self, store: Store, timeout: float, fresh_for: float, backlog_after: float
    ) -> None:
        self.store = store
        self._timeout = timeout
        self._fresh_for = fresh_for
        self._backlog_after = backlog_after
        self._lock = Lock()
        self._latest: _Probe | None = None
        self._pid = os.getpid()

    def probe(self) -> "_Probe":
        """Return the probe that is under way or still fresh, or start one."""
        if self._pid != os.getpid():
            # After a fork: the parent's thread is not here, and may have held the lock.
            self._lock, self._latest, self._pid = Lock(), None, os.getpid()
        with self._lock:
            if self._latest is None or self._latest.is_older_than(self._fresh_for):
                self._latest = _Probe(self.store, self._timeout, self._backlog_after)
                self._latest.start()
            return self._latest


class _Probe:
    """One question to one store, asked by a thread of its own."""

    def __init__(self, store: Store, timeout: float, backlog_after: float) -> None:
        self._store = store
        self._timeout = timeout
        self._backlog_after = backlog_after
        self._began = monotonic()
        self._time = moment()
        self._ended: float | None = None
        self._done = Event()
        self._late = 0.0
        """When the answer came, in seconds since the question: the thread had to start, too."""
        self._answered: float | None = None
        """How long the store took to answer."""
        self._error = ""
        self._details: Checks | None = None
        self._commits: Checks = {}
        self._is_spooled = False
        """Whether tasks can be accepted without the store, for a while."""

    def start(self) -> None:
        """Ask, without waiting for the answer."""
        try:
            Thread(target=self._run, name="alligator-health", daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is going down
            self._error = "no thread could be started to ask the store"
            self._end()

    def is_older_than(self, seconds: float) -> bool:
        """Whether it ended, and that long ago."""
        return self._ended is not None and monotonic() - self._ended >= seconds

    def findings(self) -> Checks:
        """Wait for the answer as long as it may take, and say what was found."""
        self._done.wait(max(0.0, self._began + self._timeout - monotonic()))
        milliseconds = f"{self._timeout * 1000:.0f} ms"
        answered, details = self._answered, self._details
        away = WARN if self._is_spooled else FAIL
        if answered is None:
            output = self._error or f"no answer within {milliseconds}"
            return self._response(away, output) | self._commits
        if self._late > self._timeout:
            return self._response(away, f"the answer took {self._late:.1f} s") | self._commits
        checks = self._response(PASS) | self._commits
        if details is None:
            output = self._error or f"it answers, but did not say how it is within {milliseconds}"
            return checks | {"backend:details": [self._entry(WARN, output=output)]}
        return checks | details

    def _response(self, status: str, output: str = "") -> Checks:
        observed = {}
        if self._answered is not None:
            observed = {
                "observedValue": round(self._answered * 1000, 3),
                "observedUnit": "ms",
            }
        entry = self._entry(status, output=output, componentType="datastore", **observed)
        return {"backend:responseTime": [entry]}

    def _run(self) -> None:
        try:
            self._commits = self._look_at_commits()
            asked = monotonic()
            self._store.client.ping()
            answered = monotonic()
            self._late = answered - self._began
            self._answered = answered - asked
            self._details = self._look_closer()
        except BaseException as error:
            self._error = _explain(error)
        finally:
            self._end()

    def _end(self) -> None:
        self._ended = monotonic()
        self._done.set()

    def _look_at_commits(self) -> Checks:
        """Look at what stands before the store in this process: it is there when the store is not."""
        checks: Checks = {}
        for breaker in [gator.breaker for gator in self._store.gators]:
            if breaker is not None:
                checks.setdefault("commits:breaker", []).append(self._breaker(breaker))
        spools = {gator.spool.path: gator.spool for gator in self._store.gators if gator.spool}
        usable = [self._spool(spool, checks) for spool in spools.values()]
        self._is_spooled = all(usable) and all(gator.spool for gator in self._store.gators)
        return checks

    def _breaker(self, breaker: Breaker) -> dict[str, Any]:
        if not breaker.is_open:
            return self._entry(PASS, observedValue="closed")
        output = (
            f"pushes fail at once for {breaker.retry_after:.0f} s more, then one tries the store"
        )
        return self._entry(WARN, observedValue="open", output=output)

    def _spool(self, spool: "Spool", checks: Checks) -> bool:
        """Look at one, and tell whether it takes tasks."""
        depth, age = checks.setdefault("spool:depth", []), checks.setdefault("spool:oldestAge", [])
        try:
            spool.wake()
            content, troubles = spool.content(), spool.warnings()
        except BackendError as error:
            depth.append(self._entry(WARN, output=_explain(error)))
            return False
        full = spool.why_full(content)
        waiting = "tasks wait on this machine for their store" if content.tasks else ""
        output = " ".join(filter(None, [full or waiting, *troubles]))
        status = WARN if output else PASS
        depth.append(
            self._entry(status, output=output, observedValue=content.tasks, observedUnit="tasks")
        )
        age.append(self._entry(PASS, observedValue=round(content.age, 3), observedUnit="s"))
        return not full

    def _look_closer(self) -> Checks:
        checks: Checks = {
            "delivery": [self._entry(PASS, observedValue=self._store.client.delivery)],
            "durability": self._ask(self._durability),
        }
        if limits := self._store.client.limits:
            checks["limits"] = [self._entry(PASS, output=text) for text in limits]
        if self._store.client.sees_workers:
            checks["workers:connections"] = self._ask(self._workers)
        for name in self._store.own_queues:
            depth, age = self._queue(name)
            checks[f"queue/{name}:depth"] = [depth]
            checks[f"queue/{name}:oldestAge"] = [age]
        return checks

    def _ask(self, look: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Look at one thing; what cannot be seen is no reason not to see the others."""
        try:
            return look()
        except BackendError as error:
            return [self._entry(WARN, output=_explain(error))]

    def _durability(self) -> list[dict[str, Any]]:
        warnings = self._store.client.warnings()
        return [self._entry(WARN, output=text) for text in warnings] or [self._entry(PASS)]

    def _workers(self) -> list[dict[str, Any]]:
        queues = self._store.own_queues
        served = [set(worker.queues) & set(queues) for worker in self._store.client.workers()]
        idle = sorted(set(queues).difference(*served))
        output = f"no worker takes tasks from {', '.join(idle)}: start latergator" if idle else ""
        count = sum(1 for common in served if common)
        return [
            self._entry(
                WARN if idle else PASS,
                output=output,
                componentType="component",
                observedValue=count,
                observedUnit="workers",
            )
        ]

    def _queue(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            stats = self._store.client.stats(name)
        except BackendError as error:
            entry = self._entry(WARN, output=_explain(error))
            return entry, entry
        late = stats.oldest > self._backlog_after
        output = f"the longest-waiting task is ready for {stats.oldest:.0f} s" if late else ""
        return (
            self._entry(PASS, observedValue=stats.ready, observedUnit="tasks"),
            self._entry(
                WARN if late else PASS,
                output=output,
                observedValue=round(stats.oldest, 3),
                observedUnit="s",
            ),
        )

    def _entry(self, status: str, *, output: str = "", **fields: Any) -> dict[str, Any]:
        said = {"output": output} if output else {}
        return {
            "componentId": self._store.kind,
            **fields,
            "status": status,
            **said,
            "time": self._time,
        }


def _explain(error: BaseException) -> str:
    # Our own errors hold no secrets; what is in those of others is not known.
    return str(error) if isinstance(error, BackendError) else f"{type(error).__name__} was raised"
