"""Faults of the workers of a queue whose tenants have limits: they are killed while they hold places."""

import signal
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, count, cycle
from statistics import median
from time import monotonic
from typing import Any

from alligator.backends.limits import EACH
from alligator.exceptions import BackendError
from tests.faults import catalogue, tasks
from tests.faults.audit import Answer, Pause, Run
from tests.faults.cases.limits import LIMIT_SECONDS, WORKERS, watching
from tests.faults.cases.soak import BREAK, Action, kill_worker, stop_worker
from tests.faults.cases.workers import begun, let_go
from tests.faults.catalogue import fault
from tests.faults.harness import LEASE_SECONDS, Broken, Harness, eventually
from tests.faults.stores import ERRORS

KINDS = ("sqlite", "redis-always", "postgres")

LARGE, OWN = "large", "own"
SMALL = [f"small-{number}" for number in range(20)]
"""The tenants: one with many tasks, one with a limit of its own, and others."""

AT_ONCE, OWN_AT_ONCE = 2, 4
"""How many tasks of a tenant may run at once."""

BACKLOG = 10_000
"""How many tasks of the large tenant wait."""

LARGE_SECONDS = 180.0
"""How long they may take at the end, when they have no limit any more, on a busy machine."""

TRANSACTION = 250
"""How many of them are started in one transaction."""

MOST_BEFORE = BACKLOG // 2
"""How many tasks of the large tenant may begin while one of another tenant waits: a killed worker holds
the places of that tenant for a lease. Without turns, it would wait for all of them."""

PLACES = 4
"""How many tasks a worker runs at once."""


class Tenants:
    """Tenants who start tasks on one queue under their keys, and what the store has leased of these."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.started: dict[str, float] = {}
        """When a task was on the queue, by its id."""
        self.leased: Counter[str] = Counter()
        """How many tasks of a tenant are leased."""
        self.most: Counter[str] = Counter()
        """How many were at once at most."""
        self.freezes: list[Pause] = []
        self._numbers = count()

    def start(self, tenant: str, func: Callable[[], Any], number: int = 1) -> list[str]:
        """Start tasks of a tenant in one transaction; return their ids."""
        names = [f"{tenant}:{next(self._numbers)}" for _ in range(number)]
        began, status = monotonic(), 201
        try:
            with self.harness.gator.transaction(limit_key=tenant):
                for name in names:
                    with self.harness.gator.options(task_id=name) as options:
                        options.task(func)
        except BackendError:
            status = 503
        now = monotonic()
        self.harness.audit_log.answers.append(Answer(tuple(names), status, now - began, began))
        if status == 201:
            self.started |= dict.fromkeys(names, now)
        return names

    def fill(self) -> None:
        """Start tasks of the large tenant until enough of them wait."""
        for _ in range(self.harness.gator.len(), BACKLOG, TRANSACTION):
            self.start(LARGE, tasks.work, TRANSACTION)

    def go_on(self) -> None:
        """Start tasks of all kinds of tenants."""
        random = self.harness.random
        self.fill()
        self.start(OWN, tasks.doze, 5)
        for tenant in random.sample(SMALL, 8):
            func = random.choice([tasks.record, tasks.work, tasks.doze])
            self.start(tenant, func, random.randint(1, 3))

    def look(self) -> None:
        """Ask the store which tasks are leased."""
        with suppress(*ERRORS):  # it may be down
            self.leased = Counter(map(tenant_of, self.harness.store.leased()))
            self.most |= self.leased

    def are_served(self) -> bool:
        """Return whether all tasks have ended, except those of the large tenant."""
        ended = self.harness.audit_log.ended()
        return all(name in ended or tenant_of(name) == LARGE for name in self.started)

    def freeze_worker(self, harness: Harness) -> None:
        """Freeze a worker for longer than a lease."""
        victim = harness.random.choice(harness.workers)
        since = monotonic()
        harness.signal_worker(victim, signal.SIGSTOP)
        harness.pause(1.2 * LEASE_SECONDS, 2 * LEASE_SECONDS)
        harness.signal_worker(victim, signal.SIGCONT)
        self.freezes.append(Pause(victim.pid, since, monotonic()))

    def change_limit(self, harness: Harness) -> None:
        """Change the limit of the tenant that has its own."""
        harness.gator.limit(limit_key=OWN, at_once=harness.random.randint(1, OWN_AT_ONCE))


def tenant_of(task_id: str) -> str:
    """Return the tenant of a task."""
    return task_id.partition(":")[0]


def limit_of(tenant: str) -> int:
    """Return how many tasks of a tenant may run at once."""
    return OWN_AT_ONCE if tenant == OWN else AT_ONCE


@fault(*KINDS)
def limit_keys_held(harness: Harness) -> None:
    """Kill and freeze workers of a queue whose tenants have limits, and the store: no tenant has more
    tasks at once, all get their places back, and none waits for the many tasks of another one.
    """
    tenants = Tenants(harness)
    fixed = [kill_worker, tenants.freeze_worker, BREAK[harness.kind], kill_worker]
    hold_limits(tenants, LIMIT_SECONDS, cycle(fixed))


@fault(*KINDS)
def limits_soak(harness: Harness) -> None:
    """Do the same at random, for any length of time, while workers stop and a limit changes."""
    tenants = Tenants(harness)
    actions: list[Action] = [kill_worker, stop_worker, BREAK[harness.kind]]
    actions += [tenants.freeze_worker, tenants.change_limit]
    at_random = iter(lambda: harness.random.choice(actions), None)
    hold_limits(tenants, catalogue.SOAK_SECONDS, at_random)


def hold_limits(tenants: Tenants, seconds: float, actions: Iterator[Action]) -> None:
    """Do this with the workers of the tenants, and check their limits."""
    harness, gator = tenants.harness, tenants.harness.gator
    harness.environ["PLACES"] = str(PLACES)
    harness.forgets_reports = harness.kind == "postgres"
    gator.limit(limit_key=EACH, at_once=AT_ONCE)
    gator.limit(limit_key=OWN, at_once=OWN_AT_ONCE)
    tenants.fill()
    with watching(tenants.look, 0.05):
        for _ in range(WORKERS):
            harness.worker()
        begun(harness)
        end = monotonic() + seconds
        while monotonic() < end:
            tenants.go_on()
            harness.pause(0.2, 0.8)
            next(actions)(harness)
        eventually(tenants.are_served, "the tasks of all but the large tenant have run")
        harness.recovered()
        check_turns(tenants)
        check_places(tenants)
    until = monotonic()
    gator.unlimit(limit_key=EACH)
    eventually(lambda: gator.len() == 0, "the tasks of the large tenant have begun", LARGE_SECONDS)
    harness.drain()
    check_limits(tenants, until)


def check_turns(tenants: Tenants) -> None:
    """Check that no task of another tenant has waited for the many tasks of the large one."""
    runs = tenants.harness.audit_log.runs()
    before = waited_for(tenants.started, {name: each[0].began for name, each in runs.items()})
    if max(before) > MOST_BEFORE:
        raise Broken(f"I5: a task has waited for {max(before)} tasks of a tenant with {BACKLOG}")
    tenants.harness.notes.append(
        f"{len(before)} tasks have waited for {median(before):g} tasks of a tenant with {BACKLOG}, "
        f"{max(before)} at most"
    )


def waited_for(started: Mapping[str, float], begun: Mapping[str, float]) -> list[int]:
    """Return how many tasks of the large tenant have begun while each task of another one waited."""
    large = sorted(moment for name, moment in begun.items() if tenant_of(name) == LARGE)
    return [
        max(0, bisect(large, begun[name]) - bisect(large, moment))
        for name, moment in started.items()
        if tenant_of(name) != LARGE
    ]


def check_places(tenants: Tenants) -> None:
    """Check that as many tasks of a tenant run at once as may: lost workers keep no place."""
    tenants.harness.gator.limit(limit_key=OWN, at_once=OWN_AT_ONCE)
    some = [OWN, *SMALL[:3]]
    names = [name for each in some for name in tenants.start(each, tasks.hold, limit_of(each) + 1)]
    eventually(
        lambda: all(tenants.leased[tenant] >= limit_of(tenant) for tenant in some),
        "as many tasks of a tenant run at once as may",
    )
    for name in names:
        let_go(tenants.harness, name)
    eventually(tenants.are_served, "the last tasks of the tenants have run")


def check_limits(tenants: Tenants, until: float) -> None:
    """Check that no more tasks of a tenant were leased at once, nor ran at once, before *until*."""
    harness = tenants.harness
    audit_log = harness.audit_log
    pauses = [*audit_log.pauses(), *audit_log.last_leases(), *tenants.freezes]
    crashes = [(start, end + LEASE_SECONDS) for start, end in harness.outage_times]
    runs: defaultdict[str, list[Run]] = defaultdict(list)
    for name, each in audit_log.runs().items():
        runs[tenant_of(name)] += [run for run in to_first_end(each) if run.began < until]
    for tenant in (LARGE, OWN, *SMALL):
        limit, leased = limit_of(tenant), tenants.most[tenant]
        if leased > limit:
            raise Broken(
                f"I1: {leased} tasks of {tenant} were leased at once; the limit is {limit}"
            )
        ran = ran_at_once(runs[tenant], pauses, crashes if harness.forgets_reports else ())
        if ran > limit:
            raise Broken(f"I1: {ran} tasks of {tenant} ran at once; the limit is {limit}")
    most = max(tenants.most[tenant] for tenant in (LARGE, *SMALL))
    if most < AT_ONCE:
        raise Broken(f"I1: no tenant has ever had {AT_ONCE} tasks at once")
    harness.notes.append(
        f"at most {most} at once of a tenant, {tenants.most[OWN]} of that with {OWN_AT_ONCE}"
    )


def to_first_end(runs: Sequence[Run]) -> Sequence[Run]:
    """Return the *runs* of a task up to the first one that ended.

    When its worker reports that, also if it is late, the task is done: another run that has begun
    meanwhile has no lease any more.
    """
    ends = [number for number, run in enumerate(runs, 1) if run.ended is not None]
    return runs[: ends[0]] if ends else runs


def ran_at_once(
    runs: Iterable[Run], pauses: Sequence[Pause], crashes: Sequence[tuple[float, float]] = ()
) -> int:
    """Return how many of *runs* were in progress at once at most.

    Without those during which the store may have leased others in their place: their worker was frozen
    or late, or was killed; or the store has crashed (start, end) and may have forgotten their leases.
    """
    moments: list[tuple[float, int]] = []
    for run in runs:
        spans = [(each.start, each.end) for each in pauses if each.pid == run.pid]
        ended = run.ended
        if ended is not None and not any(
            run.began <= end and ended >= start for start, end in (*spans, *crashes)
        ):
            moments += [(run.began, 1), (ended, -1)]
    return max(accumulate(change for _, change in sorted(moments)), default=0)
