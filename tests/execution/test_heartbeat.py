"""The heartbeat keeps leases and announces the worker."""

from collections.abc import Iterator, Sequence
from threading import Event

import pytest

from alligator import Gator, Lease, Worker
from alligator.backends.locmem_backend import Client as Locmem
from alligator.constants import LEASE_SECONDS
from tests.harness.programs import eventually
from tests.harness.workers import (
    gates,
    note_and_wait,
    note_pause,
    ran,
    traces_cleaned,
    workers_running,
)


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


@pytest.fixture(autouse=True)
def clean_traces() -> Iterator[None]:
    with traces_cleaned():
        yield


def test_heartbeat_keeps_the_lease_of_a_long_task(gator: Gator) -> None:
    gator.task(note_pause, "long", 1.2)

    with workers_running(Worker(gator, lease_for=0.3), Worker(gator, lease_for=0.3)):
        eventually(lambda: ran)
        eventually(lambda: gator.stats().succeeded)

    assert ran == ["long"]
    assert gator.stats().lost == 0


def test_heartbeat_continues_after_an_error_of_the_store() -> None:
    gator = Gator("locmem://", backend_class=Hiccuping)
    gator.task(note_pause, "long", 0.8)

    with workers_running(Worker(gator, lease_for=0.4)):
        eventually(lambda: gator.stats().succeeded)

    assert gator.backend.hiccups > 1
    assert ran == ["long"]


class Hiccuping(Locmem):
    """A store that fails at every second extension, with an unexpected error."""

    hiccups = 0

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        self.hiccups += 1
        if self.hiccups % 2:
            raise ZeroDivisionError
        return super().extend(leases, lease_for)


def test_heartbeat_announces_the_worker_until_it_stops(gator: Gator) -> None:
    worker = Worker(gator)

    with workers_running(worker):
        eventually(lambda: gator.client.workers())
        [info] = gator.client.workers()
    after = gator.client.workers()

    assert (info.name, list(info.queues)) == (worker.name, ["all"])
    assert after == []


def test_heartbeat_announces_a_long_task_early(gator: Gator) -> None:
    def shown() -> list[str]:
        return [each.function for info in gator.client.workers() for each in info.running]

    gates["long"] = Event()

    with workers_running(Worker(gator)):
        eventually(lambda: gator.client.workers())
        gator.task(note_and_wait, "long")
        eventually(shown, seconds=4)
        assert shown()[0].endswith("note_and_wait")
        gates["long"].set()
        eventually(lambda: not shown(), seconds=4)
