"""Answer a probe: can tasks be put on the queue, and is anybody working them off?

The shape is that of the draft for ``application/health+json``. Only a store that does not answer, or
a critical check of the project's own, is a ``fail``, for only that makes requests fail; what a web
process cannot mend by leaving rotation (a backlog, no worker, a store that would forget) is a ``warn``.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from .checks import Limits, ProjectProbe, StoreProbe
from .constants import FAIL, PASS, WARN
from .exceptions import ConfigurationError
from .gator import Gator
from .probe import Checks, Latest, Probe
from .stores import Store, find_stores

PING_SECONDS = 0.5
"""How long a store may take to answer: half of what Kubernetes gives a probe."""

FRESH_SECONDS = 1.0
"""For how long an answer stands for all who ask."""

BACKLOG_SECONDS = 300.0
"""How long a ready task may wait before somebody should look."""


class Verdict(NamedTuple):
    """What came of all checks."""

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
    """The health of the stores of *gators*, and of what else a project needs.

    Ex::

        health = Health(gator, backlog_after={"mail": 60}, backlog_depth=10_000)
        health.check("db", lambda: db.execute("SELECT 1"))

    It may be asked from any thread, as often as one likes: a store is asked by one thread at a
    time, and not again for *fresh_for* seconds. A store that has not answered within *timeout*
    seconds fails, also when the call that waits for it never returns; that call is then waited
    for, and no second one is made.

    A queue is a warning when its oldest ready task has waited for *backlog_after* seconds, or more
    than *backlog_depth* tasks are ready (None: however many): for all queues, or by queue.
    """

    def __init__(
        self,
        gators: Gator | Iterable[Gator],
        *,
        timeout: float = PING_SECONDS,
        fresh_for: float = FRESH_SECONDS,
        backlog_after: float | Mapping[str, float] = BACKLOG_SECONDS,
        backlog_depth: int | Mapping[str, int] | None = None,
    ) -> None:
        self.timeout = timeout
        self._fresh_for = fresh_for
        self._limits = Limits(
            _by_queue(backlog_after, BACKLOG_SECONDS), _by_queue(backlog_depth, None)
        )
        self._stores = [
            (store, Latest(partial(self._probe_store, store), fresh_for))
            for store in find_stores(gators)
        ]
        self._projects: dict[str, Latest[ProjectProbe]] = {}

    def check(
        self,
        name: str,
        call: Callable[[], object | Awaitable[object]],
        *,
        critical: bool = True,
    ) -> None:
        """Let *call*, sync or async, be asked as well: it fails when it raises or returns False.

        It is called in a thread, an async one in an event loop of its own, within the same time and
        as seldom as a store is asked. When it is not *critical* its failure is a warning.
        """
        if not name or name in self._projects:
            raise ConfigurationError(f"name: {name!r} is empty, or has a check already.")
        if not callable(call):
            raise ConfigurationError(f"call: {call!r:.80} cannot be called; a function is wanted.")
        make = partial(self._probe_project, name, call, critical)
        self._projects[name] = Latest(make, self._fresh_for)

    def _probe_store(self, store: Store) -> StoreProbe:
        return StoreProbe(store, self.timeout, self._limits)

    def _probe_project(
        self, name: str, call: Callable[[], object | Awaitable[object]], critical: bool
    ) -> ProjectProbe:
        return ProjectProbe(name, call, critical=critical, timeout=self.timeout)

    def verdict(self) -> Verdict:
        """Ask everybody, all at once, and judge: within *timeout*, and raising nothing."""
        notes = [
            f"Tasks for {', '.join(store.own_queues)} run in this process; "
            "their store is not needed, nor asked."
            for store, _ in self._stores
            if not store.is_needed
        ]
        probes: list[Probe] = [
            *(watch.probe() for store, watch in self._stores if store.is_needed),
            *(watch.probe() for watch in self._projects.values()),
        ]
        checks: Checks = {}
        for probe in probes:
            for key, entries in probe.findings().items():
                checks.setdefault(key, []).extend(entries)
        found = {entry["status"] for entries in checks.values() for entry in entries}
        status = FAIL if FAIL in found else WARN if WARN in found else PASS
        return Verdict(status, checks, notes)

    def answers(self) -> list[tuple[Store, float | None]]:
        """Tell how many seconds each store that is needed took to answer; None if it does not."""
        asked = [(store, watch.probe()) for store, watch in self._stores if store.is_needed]
        return [(store, probe.seconds()) for store, probe in asked]


def _by_queue(limit: Any, otherwise: Any) -> Callable[[str], Any]:
    if isinstance(limit, Mapping):
        return lambda name: limit.get(name, otherwise)
    return lambda name: limit
