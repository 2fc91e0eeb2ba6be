"""The heartbeat keeps leases and announces the worker."""

import time
from collections.abc import Iterator, Sequence
from threading import Event

import pytest

from alligator import Gator, Lease, Worker
from alligator.backends.locmem_backend import Client as Locmem
from alligator.constants import LEASE_SECONDS
from alligator.exceptions import BackendUnavailable
from alligator.execution import heartbeat
from alligator.execution.heartbeat import Heartbeat
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


class Asking(Locmem):
    """A store that notes what it is asked, and fails at first."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.asked: list[int] = []

    def canceled(self, leases: Sequence[Lease]) -> list[Lease]:
        self.asked.append(len(leases))
        if len(self.asked) == 1:
            raise BackendUnavailable("gone fishing")
        return super().canceled(leases)


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Gator:
    monkeypatch.setattr(heartbeat, "CHECK_SECONDS", 0.02)
    return Gator("locmem://", backend_class=Asking)


def test_heartbeat_ends_canceled_tasks_until_they_have_ended(
    asking: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    asking.task(note_and_wait, "a")
    asking.task(note_and_wait, "b")
    leases = list(asking.client.reserve("all", limit=2))
    ended: list[Lease] = []
    beats = Heartbeat(asking.client, lambda: leases, 0.4, end=ended.extend)
    beats.start()

    asking.cancel(leases[0].task_id)

    eventually(lambda: len(ended) > 20)  # so that the lease would have been extended
    assert set(ended) == {leases[0]}
    assert "expired before it was done" not in caplog.text
    del leases[0]
    asked = len(asking.backend.asked)
    eventually(lambda: len(asking.backend.asked) > asked + 2)
    number = len(ended)
    eventually(lambda: len(asking.backend.asked) > asked + 4)
    assert len(ended) == number
    beats.stop()


def test_idle_worker_does_not_ask_what_was_canceled(asking: Gator) -> None:
    worker = Worker(asking)

    with workers_running(worker):
        eventually(lambda: asking.client.workers())
        time.sleep(0.2)

    assert asking.backend.asked == []
