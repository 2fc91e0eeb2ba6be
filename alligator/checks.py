"""Look at what health is asked about: a store and what belongs to it, or a thing of the project's."""

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from .breaker import Breaker
from .constants import FAIL, PASS, WARN
from .exceptions import BackendError
from .probe import Checks, Probe, explain
from .stores import Store

if TYPE_CHECKING:
    from .spool import Spool

TROUBLE_SECONDS = 60.0
"""For how long tasks that a store did not take are a reason to look."""

MAX_WORKERS = 100
"""How many workers are listed one by one."""


class Limits(NamedTuple):
    """How full a queue may be before somebody should look; both are asked with its name."""

    seconds: Callable[[str], float]
    tasks: Callable[[str], int | None]


class ProjectProbe(Probe):
    """A question that a project has of its own."""

    def __init__(
        self,
        name: str,
        call: Callable[[], object | Awaitable[object]],
        *,
        critical: bool,
        timeout: float,
    ) -> None:
        super().__init__(timeout)
        self._name = name
        self._call = call
        self._bad = FAIL if critical else WARN
        self._took: float | None = None
        self._passes = False

    def ask(self) -> None:
        answer = self._call()
        if isawaitable(answer):
            from asyncio import run  # who checks nothing with coroutines does not pay for it

            answer = run(_wait_for(answer))
        self._took = monotonic() - self.began
        self._passes = answer is not False

    def findings(self) -> Checks:
        entry: dict[str, Any] = {"componentId": self._name, "componentType": "component"}
        if self.wait() and self._took is not None and self._took <= self.timeout:
            entry |= {"observedValue": round(self._took * 1000, 3), "observedUnit": "ms"}
            output = "" if self._passes else "it says no"
        else:
            output = self.error or f"no answer within {self.timeout * 1000:.0f} ms"
        said = {"output": output} if output else {}
        status = {"status": self._bad if output else PASS}
        return {f"{self._name}:responseTime": [{**entry, **status, **said, "time": self.time}]}


async def _wait_for(answer: Awaitable[object]) -> object:
    return await answer


class StoreProbe(Probe):
    """One question to one store."""

    def __init__(self, store: Store, timeout: float, limits: Limits) -> None:
        super().__init__(timeout)
        self._store = store
        self._limits = limits
        self._late = 0.0
        """When the answer came, in seconds since the question: the thread had to start, too."""
        self._answered: float | None = None
        """How long the store took to answer."""
        self._details: Checks | None = None
        self._commits: Checks = {}
        self._is_spooled = False
        """Whether tasks can be accepted without the store, for a while."""

    def seconds(self) -> float | None:
        """Wait for the answer as long as it may take, and say how long it took; None if none came."""
        self.wait()
        return self._answered if self._late <= self.timeout else None

    def findings(self) -> Checks:
        self.wait()
        milliseconds = f"{self.timeout * 1000:.0f} ms"
        answered, details = self._answered, self._details
        away = WARN if self._is_spooled else FAIL
        if answered is None:
            output = self.error or f"no answer within {milliseconds}"
            return self._response(away, output) | self._commits
        if self._late > self.timeout:
            return self._response(away, f"the answer took {self._late:.1f} s") | self._commits
        checks = self._response(PASS) | self._commits
        if details is None:
            output = self.error or f"it answers, but did not say how it is within {milliseconds}"
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

    def ask(self) -> None:
        self._commits = self._look_at_commits()
        asked = monotonic()
        self._store.client.ping()
        answered = monotonic()
        self._late = answered - self.began
        self._answered = answered - asked
        self._details = self._look_closer()

    def _look_at_commits(self) -> Checks:
        """Look at what stands before the store in this process: it is there when the store is not."""
        checks: Checks = {}
        for breaker in [gator.breaker for gator in self._store.gators]:
            if breaker is not None:
                checks.setdefault("commits:breaker", []).append(self._breaker(breaker))
        checks["commits:failed"] = [self._failures()]
        spools = {gator.spool.path: gator.spool for gator in self._store.gators if gator.spool}
        usable = [self._spool(spool, checks) for spool in spools.values()]
        self._is_spooled = all(usable) and all(gator.spool for gator in self._store.gators)
        return checks

    def _failures(self) -> dict[str, Any]:
        """Look at whether the store has refused tasks of this process lately."""
        failed = [gator.tally.failed_at for gator in self._store.gators]
        ago = monotonic() - max((at for at in failed if at is not None), default=float("-inf"))
        if ago > TROUBLE_SECONDS:
            return self._entry(PASS)
        return self._entry(WARN, output=f"tasks could not be queued {ago:.0f} s ago")

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
            depth.append(self._entry(WARN, output=explain(error)))
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
            try:
                checks |= self._workers()
            except BackendError as error:
                checks["workers:connections"] = [self._entry(WARN, output=explain(error))]
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
            return [self._entry(WARN, output=explain(error))]

    def _durability(self) -> list[dict[str, Any]]:
        warnings = self._store.client.warnings()
        return [self._entry(WARN, output=text) for text in warnings] or [self._entry(PASS)]

    def _workers(self) -> Checks:
        queues = set(self._store.own_queues)
        mine = [worker for worker in self._store.client.workers() if queues & {*worker.queues}]
        idle = sorted(queues.difference(*(worker.queues for worker in mine)))
        output = f"no worker takes tasks from {', '.join(idle)}: start latergator" if idle else ""
        count = self._entry(
            WARN if idle else PASS,
            output=output,
            componentType="component",
            observedValue=len(mine),
            observedUnit="workers",
        )
        seen = [
            {
                **self._entry(
                    PASS,
                    componentType="component",
                    observedValue=round(worker.seen_ago, 3),
                    observedUnit="s",
                ),
                "componentId": worker.name,
            }
            for worker in mine[:MAX_WORKERS]
        ]
        return {"workers:connections": [count], "workers:lastSeen": seen}

    def _queue(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            stats = self._store.client.stats(name)
        except BackendError as error:
            entry = self._entry(WARN, output=explain(error))
            return entry, entry
        seconds, tasks = self._limits.seconds(name), self._limits.tasks(name)
        late = stats.oldest > seconds
        waited = f"the longest-waiting task is ready for {stats.oldest:.0f} s" if late else ""
        full = tasks is not None and stats.ready > tasks
        crowd = f"more than {tasks} tasks are ready" if full else ""
        depth, age = (WARN if full else PASS), (WARN if late else PASS)
        return (
            self._entry(depth, output=crowd, observedValue=stats.ready, observedUnit="tasks"),
            self._entry(age, output=waited, observedValue=round(stats.oldest, 3), observedUnit="s"),
        )

    def _entry(self, status: str, *, output: str = "", **fields: Any) -> dict[str, Any]:
        said = {"output": output} if output else {}
        return {
            "componentId": self._store.kind,
            **fields,
            "status": status,
            **said,
            "time": self.time,
        }
