"""The cost of an operation while many tasks wait."""

import time
from collections.abc import Callable
from typing import Final

from alligator import Gator
from alligator.backends.base import Outcome
from alligator.monitoring.health import Health
from alligator.monitoring.stats import measure
from tests.benchmarks.peers.counting import tick

AT_ONCE: Final = 100
"""How many tasks a push has: few, because it has two seconds, also on a busy machine."""


def with_waiting(gator: Gator, crowd: int, calls: int) -> dict[str, float]:
    """Time pushes, steps, stats, probes and scrapes while about *crowd* tasks wait: µs of a call."""
    from alligator.monitoring.metrics import Metrics  # no worker and no site has to load it

    client = gator.client
    _fill(gator, crowd)
    for _ in range(10):
        gator.task(tick)
    pushed = _timed(calls, lambda: gator.task(tick))
    stepped = 0.0
    done: list[Outcome] = []
    for _ in range(calls // 10):
        began = time.perf_counter()
        step = client.step(["bench"], 10, outcomes=done)
        stepped += time.perf_counter() - began
        done = [Outcome("ack", lease) for lease in step.leases]
        push(gator, 10)  # not timed: as many wait as before
    client.step((), 0, outcomes=done)
    return {
        "push": pushed,
        "step": stepped / (calls // 10) * 1e6,
        "stats": _timed(calls // 10, lambda: client.stats("bench")),
        "health": _timed(max(1, calls // 100), Health(gator, fresh_for=0).verdict),
        "document": _timed(max(1, calls // 100), lambda: measure(gator)),
        "scrape": _timed(max(1, calls // 100), Metrics(gator, Health(gator, fresh_for=0)).write),
    }


def _fill(gator: Gator, crowd: int) -> None:
    for start in range(0, crowd, AT_ONCE):
        push(gator, min(AT_ONCE, crowd - start))


def push(gator: Gator, n: int) -> None:
    """Push tasks in one transaction."""
    with gator.transaction():
        for _ in range(n):
            gator.task(tick)


def _timed(calls: int, call: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls * 1e6
