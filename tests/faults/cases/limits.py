"""Faults of the workers of a queue that has a limit: they are killed while they hold its places."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import NamedTuple

from alligator.backends.base import Limit
from tests.faults import tasks
from tests.faults.catalogue import fault
from tests.faults.harness import Broken, Harness

LIMIT_SECONDS = float(os.environ.get("LIMIT_SECONDS", "10"))
"""How long workers are killed."""

WORKERS = 6
LIMIT = Limit(at_once=3, starts=24, seconds=3.0)
JUDGED = 2.0
"""For how many seconds the starts are counted: a start is seen later than it is decided, when its
transaction has ended."""
LEASE = 2.0
"""The length of a lease, in seconds."""


class Sample(NamedTuple):
    """What the store said of the queue, at a moment between *asked* and *told*."""

    asked: float
    told: float
    leased: int
    begun: int
    """How many leases it had given."""


@contextmanager
def watching(look: Callable[[], object], seconds: float) -> Iterator[None]:
    """Call *look* again and again during the block, with pauses of so many seconds."""
    ended = Event()

    def watch() -> None:
        while not ended.wait(seconds):
            look()

    thread = Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Samples:
    """How many tasks of a queue have run, and have begun, by the store."""

    def __init__(self, harness: Harness) -> None:
        self.samples: list[Sample] = []
        self._harness = harness

    def look(self) -> None:
        """Ask the store."""
        asked = monotonic()
        stats = self._harness.gator.stats()
        begun = stats.succeeded + stats.lost + stats.leased
        self.samples.append(Sample(asked, monotonic(), stats.leased, begun))

    def most_leased(self) -> int:
        """Return how many tasks were leased at one time at most."""
        return max(sample.leased for sample in self.samples)

    def most_begun(self, seconds: float) -> int:
        """Return how many tasks have begun within so many seconds at most."""
        most, first = 0, 0
        for last in self.samples:
            while last.told - self.samples[first].asked > seconds:
                first += 1
            most = max(most, last.begun - self.samples[first].begun)
        return most


@fault("sqlite", "redis-always", "postgres")
def limits_held(harness: Harness) -> None:
    """Kill workers of a queue with a limit while they hold its places: the store never leases more at
    once, nor more in a time, and no task is lost.
    """
    harness.environ["LEASE_SECONDS"] = str(LEASE)
    harness.gator.client.limit("all", LIMIT)
    for number in range(int(8 * LIMIT_SECONDS)):
        func = tasks.work if number % 3 else tasks.doze
        harness.extra.add(harness.gator.task(func).task_id)
    samples = Samples(harness)
    with watching(samples.look, 0.01):
        for _ in range(WORKERS):
            harness.worker()
        end = monotonic() + LIMIT_SECONDS
        while monotonic() < end:
            harness.pause(0.5, 1.5)
            victim = harness.workers.pop(harness.random.randrange(len(harness.workers)))
            harness.signal_worker(victim, signal.SIGKILL)
            harness.worker()
        harness.drain()
    check(harness, samples)


def check(harness: Harness, samples: Samples) -> None:
    """Check that the store has kept the limit."""
    leased, begun = samples.most_leased(), samples.most_begun(JUDGED)
    if leased > (LIMIT.at_once or 0):
        raise Broken(f"I1: {leased} tasks were leased at once; the limit is {LIMIT}")
    if harness.audit_log.ledger.with_suffix(".pauses").exists():
        harness.notes.append(
            "a worker was late: its acks may count twice, so starts are not judged"
        )
    elif begun > (LIMIT.starts or 0):
        raise Broken(f"I1: {begun} tasks began in {JUDGED:g} s; the limit is {LIMIT}")
    harness.notes.append(f"at most {leased} at once, {begun} in {JUDGED:g} s; the limit is {LIMIT}")
