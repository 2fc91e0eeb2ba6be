"""Alligator, used by its public names."""

import os
import time
from collections.abc import Callable

from alligator import Gator
from alligator.backends.base import Outcome
from alligator.monitoring.health import Health
from alligator.monitoring.stats import measure
from tests.benchmarks.peers import counting
from tests.benchmarks.peers.counting import REDIS, letter, mark, tick

gator = Gator(REDIS, "bench")

WORKER = ["-m", "tests.benchmarks.worker", REDIS]


def push(n: int) -> None:
    for _ in range(n):
        gator.task(tick)


def push_batches(n: int, size: int) -> None:
    names = os.environ.get("BENCH_FUNCTION", "tick").split(",")
    funcs = [getattr(counting, name) for name in names]
    for start in range(0, n, size):
        with gator.transaction():
            for number in range(start, min(start + size, n)):
                gator.task(funcs[number % len(funcs)])


def push_marks(n: int, pause: float) -> None:
    for _ in range(n):
        time.sleep(pause)
        gator.task(mark, time.monotonic())


def push_letters(n: int, text: str) -> None:
    for _ in range(n):
        gator.task(letter, text)


def enqueue(k: int) -> None:
    for _ in range(k):
        gator.task(tick)


async def enqueue_async(k: int) -> None:
    enqueue(k)


def with_waiting(crowd: int, calls: int) -> dict[str, float]:
    """Time pushes, steps, stats, probes and scrapes while about *crowd* tasks wait: µs of a call."""
    from alligator.monitoring.metrics import Metrics  # no worker and no site has to load it

    client = gator.client
    size = min(1_000, crowd)
    push_batches(crowd, size)
    push(10)
    pushed = _timed(calls, lambda: push(1))
    stepped = 0.0
    done: list[Outcome] = []
    for _ in range(calls // 10):
        start = time.perf_counter()
        step = client.step(["bench"], 10, outcomes=done)
        stepped += time.perf_counter() - start
        done = [Outcome("ack", lease) for lease in step.leases]
        push_batches(10, 10)  # not timed: as many wait as before
    client.step((), 0, outcomes=done)
    return {
        "push": pushed,
        "step": stepped / (calls // 10) * 1e6,
        "stats": _timed(calls // 10, lambda: client.stats("bench")),
        "health": _timed(max(1, calls // 100), Health(gator, fresh_for=0).verdict),
        "document": _timed(max(1, calls // 100), lambda: measure(gator)),
        "scrape": _timed(max(1, calls // 100), Metrics(gator, Health(gator, fresh_for=0)).write),
    }


def steps_of_one(crowd: int, calls: int, limited: bool) -> float:
    """Time steps that reserve one of about *crowd* tasks and ack the last one: µs of a call."""
    push_batches(crowd, min(1_000, crowd))
    if limited:
        gator.limit(at_once=100, per_minute=100_000)
    spent = 0.0
    done: list[Outcome] = []
    for _ in range(calls):
        start = time.perf_counter()
        step = gator.client.step(["bench"], 1, outcomes=done)
        spent += time.perf_counter() - start
        done = [Outcome("ack", lease) for lease in step.leases]
        push(1)  # not timed: as many wait as before
    return spent / calls * 1e6


def _timed(calls: int, call: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls * 1e6
