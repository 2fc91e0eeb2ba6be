"""Stores, and what a test puts into them, for the tests of health."""

from collections.abc import Callable
from threading import Event

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import Message, WorkerInfo
from alligator.monitoring.health import Verdict


class Durable(locmem_backend.Client):
    """A store without warnings."""

    def warnings(self) -> list[str]:
        return []


class Frozen(Durable):
    """A store whose ping does not return before the store is thawed."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.thawed = Event()
        self.pings = 0

    def ping(self) -> None:
        self.pings += 1
        self.thawed.wait(30)


def with_worker(gator: Gator) -> Gator:
    """Add a worker for the queue of *gator*."""
    gator.client.beat(WorkerInfo(name="host:1:ab", queues=[gator.queue_name]), 60)
    return gator


def gator_on(make_client: Callable[[str], locmem_backend.Client]) -> Gator:
    """Return a gator with a worker, on a store that *make_client* returns."""
    return with_worker(Gator("locmem://", backend_class=make_client))


def work_on(gator: Gator, *queues: str) -> None:
    """Add a worker for *queues*."""
    gator.client.beat(WorkerInfo(name=f"host:{queues}", queues=queues), 60)


def push(gator: Gator, queue: str, count: int = 1, delay: float = 0.0) -> None:
    """Push *count* tasks."""
    gator.client.push_many(
        [Message(queue, f"{queue}-{number}", "{}", delay) for number in range(count)]
    )


def bury(gator: Gator, queue: str, count: int) -> None:
    """Push *count* tasks that are dead."""
    push(gator, queue, count)
    for lease in gator.client.reserve(queue, limit=count):
        gator.client.dead_letter(lease, reason="no luck")


def outputs(verdict: Verdict) -> list[str]:
    """Return the outputs of all entries that do not pass."""
    return [
        entry["output"]
        for entries in verdict.checks.values()
        for entry in entries
        if entry["status"] != "pass"
    ]
