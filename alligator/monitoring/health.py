"""Health of the stores: whether tasks can be queued, and whether workers run them.

The document has the format of the draft for ``application/health+json``. Only a store that does not
answer, or a critical check of the project's own, is a ``fail``, because only these make requests
fail. Problems that remain when a web process leaves the load balancer's rotation are a ``warn``: a
backlog, no worker, a store that is not durable.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from math import isnan
from typing import Any, NamedTuple

from .._runtime.predicates import Predicate
from ..constants import FAIL, MAX_TIMEOUT, PASS, WARN
from ..exceptions import ConfigurationError
from ..gator import Gator
from ..options import Seconds, check_seconds
from .custom_probe import CustomProbe
from .entries import Checks
from .probe import Probe, ProbeCache
from .queue_checks import Limits
from .stats import format_utc
from .store_probe import StoreProbe
from .stores import Store, find_stores

PING_SECONDS = 0.5
"""How long a store may take to answer: half of what Kubernetes gives a probe."""

FRESH_SECONDS = 1.0
"""How long a result is reused."""

BACKLOG_SECONDS = 300.0
"""How long a ready task may wait before it is a warning."""


class Verdict(NamedTuple):
    """The result of all checks."""

    status: str
    """``pass``, ``warn`` or ``fail``."""
    checks: Checks
    """The entries by ``component:measurement``; not for unauthenticated visitors."""
    notes: list[str]

    def document(self) -> dict[str, Any]:
        """Return the body of an ``application/health+json`` response."""
        notes = {"notes": self.notes} if self.notes else {}
        return {"status": self.status, **notes, "checks": self.checks}


class Health:
    """The health of the stores of *gators*, and the project's own checks.

    Ex::

        health = Health(gator, backlog_after={"mail": 60}, backlog_depth=10_000)
        health.check("db", ask_database)

    It may be used from any thread and as often as needed: one thread at a time asks a store, and
    its answer is reused for *fresh_for* seconds. A store that has not answered within *timeout*
    seconds fails, even if the call to it never returns; no second call is made before the first
    one has returned.

    All queues of a store are checked. A queue warns when its oldest ready task has waited for
    *backlog_after* seconds, or when more than *backlog_depth* tasks are ready (None: any number).
    Each is one number for all queues, or a dict with a number for some. A queue also warns when it
    has tasks that no worker takes, more than 10,000 dead tasks, or tasks that were dropped in the
    last 15 minutes. A name in the two limits that no queue has is a warning, too.
    """

    def __init__(
        self,
        gators: Gator | Iterable[Gator],
        *,
        timeout: Seconds = PING_SECONDS,
        fresh_for: Seconds = FRESH_SECONDS,
        backlog_after: Seconds | Mapping[str, Seconds] = BACKLOG_SECONDS,
        backlog_depth: int | Mapping[str, int] | None = None,
    ) -> None:
        self.timeout: float = check_seconds("timeout", timeout, most=MAX_TIMEOUT)
        self._fresh_for = check_seconds("fresh_for", fresh_for, most=MAX_TIMEOUT)
        self._limits = Limits(
            _by_queue("backlog_after", backlog_after, BACKLOG_SECONDS),
            _by_queue("backlog_depth", backlog_depth, None),
            {
                name
                for limit in (backlog_after, backlog_depth)
                if isinstance(limit, Mapping)
                for name in limit
            },
        )
        self._stores = [
            (store, ProbeCache(partial(self._probe_store, store), self._fresh_for))
            for store in find_stores(gators)
        ]
        self._custom: dict[str, ProbeCache[CustomProbe]] = {}

    @property
    def stores(self) -> list[Store]:
        """The stores whose gators queue their tasks; those that run tasks inline need none."""
        return [store for store, _ in self._stores if store.is_needed]

    def check(
        self,
        name: str,
        call: Callable[[], object | Awaitable[object]],
        *,
        critical: bool = True,
    ) -> None:
        """Add the check *call*, a plain or a coroutine function: True or None passes.

        It fails when it raises or returns anything else. It is called in a thread, a coroutine
        function in an event loop of its own, with the timeout of a store and as rarely. Unless it
        is *critical*, its failure is a warning.
        """
        if not name or name in self._custom:
            raise ConfigurationError(f"name: {name!r} is empty, or already has a check.")
        predicate = Predicate(f"the check {name!r}", call, awaits=True)
        make = partial(self._probe_custom, name, predicate, critical)
        self._custom[name] = ProbeCache(make, self._fresh_for)

    def _probe_store(self, store: Store) -> StoreProbe:
        return StoreProbe(store, self.timeout, self._limits)

    def _probe_custom(self, name: str, call: Predicate, critical: bool) -> CustomProbe:
        return CustomProbe(name, call, critical=critical, timeout=self.timeout)

    def verdict(self) -> Verdict:
        """Return the result of all checks, which run at the same time; takes at most *timeout*.

        Raises nothing.
        """
        notes = [
            f"Tasks for {', '.join(store.own_queues)} run in this process; "
            "their store is not needed and was not checked."
            for store, _ in self._stores
            if not store.is_needed
        ]
        probes: list[Probe] = [
            *(cache.probe() for store, cache in self._stores if store.is_needed),
            *(cache.probe() for cache in self._custom.values()),
        ]
        checks: Checks = {}
        for probe in probes:
            for key, entries in probe.findings().items():
                checks.setdefault(key, []).extend(entries)
        checks |= self._check_limit_names(probes)
        found = {entry["status"] for entries in checks.values() for entry in entries}
        status = FAIL if FAIL in found else WARN if WARN in found else PASS
        return Verdict(status, checks, notes)

    def _check_limit_names(self, probes: Iterable[Probe]) -> Checks:
        """Warn of limits for queues that do not exist: the name may be mistyped."""
        names = [probe.names for probe in probes if isinstance(probe, StoreProbe)]
        if not names or None in names:  # a store that did not answer may have the queue
            return {}
        known = {name for some in names for name in some or ()}
        output = "has a limit here, but no store has such a queue: check the spelling"
        return {
            f"queue/{name}:depth": [
                {"status": WARN, "output": f"{name} {output}", "time": format_utc()}
            ]
            for name in sorted({*self._limits.names} - known)
        }

    def response_times(self) -> list[tuple[Store, float | None]]:
        """Return each needed store and the seconds its ping took; None if it did not answer."""
        probes = [(store, cache.probe()) for store, cache in self._stores if store.is_needed]
        return [(store, probe.seconds()) for store, probe in probes]


def _by_queue(argument: str, limit: Any, otherwise: Any) -> Callable[[str], Any]:
    """Return a function that returns the limit of a queue, given its name."""
    limits = dict(limit) if isinstance(limit, Mapping) else {"": limit}
    for name, value in limits.items():
        if argument == "backlog_depth" and value is None:
            continue
        if argument == "backlog_after" and isinstance(value, timedelta):
            limits[name] = value = value.total_seconds()
        if (
            not isinstance(name, str)
            or not isinstance(value, int | float)
            or isinstance(value, bool)
            or isnan(value)
        ):
            raise ConfigurationError(
                f"{argument}: {limit!r:.80} is neither a number nor a dict of a number for each "
                "queue, such as {'mail': 60}."
            )
    if isinstance(limit, Mapping):
        return lambda name: limits.get(name, otherwise)
    return lambda name: limits[""]
