"""A worker that was frozen for longer than a lease does not start what it had reserved before."""

import logging
import time
from collections.abc import Sequence
from threading import Event
from typing import Any

import pytest

from alligator import Gator, Lease, Worker
from alligator.backends.base import Message, Step
from alligator.backends.locmem_backend import Client as Locmem
from alligator.constants import LEASE_SECONDS
from alligator.exceptions import BackendUnavailable
from alligator.execution import heartbeat, lease_ends
from alligator.workers import reservations
from alligator.workers.threads import WorkerThread
from tests.harness.programs import eventually
from tests.harness.workers import burst, gates, note, ran, workers_running
from tests.workers.test_coroutines import note_later, wait_at_gate


class Clock:
    """The clock of leases, which a test moves forward as if the process had been frozen."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    for module in (lease_ends, heartbeat, reservations):
        monkeypatch.setattr(module, "clock", fake)
    Freezing.clock = fake
    return fake


class Freezing(Locmem):
    """A store whose reply reaches a worker after another one has run its tasks.

    This happens to the tasks that are called ``frozen``.
    """

    clock: Clock

    def step(self, *args: Any, **settings: Any) -> Step:
        step = super().step(*args, **settings)
        if any("frozen" in lease.data for lease in step.leases):
            for lease in step.leases:
                self.ack(lease)
            self.clock.ahead += 2 * LEASE_SECONDS
        return step


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://", backend_class=Freezing)


def test_plain_batch_is_not_started(gator: Gator, caplog: pytest.LogCaptureFixture) -> None:
    gator.task(note, 1)
    with gator.transaction():
        for number in range(3):
            gator.task(note, f"frozen {number}")

    with caplog.at_level(logging.WARNING):
        worker = burst(gator)

    assert ran == [1]
    assert worker.lease_ends.skipped == 3
    assert worker.tasks_complete == 1
    assert "not started, because its lease has ended" in caplog.text
    assert (gator.stats().succeeded, gator.stats().ready, gator.stats().leased) == (4, 0, 0)


def test_coroutines_are_not_started(gator: Gator) -> None:
    with workers_running(worker := Worker(gator)):
        gator.task(note_later, 1)
        eventually(lambda: ran == [1])
        with gator.transaction():
            for number in range(3):
                gator.task(note_later, f"frozen {number}")
        eventually(lambda: worker.lease_ends.skipped == 3)
        gator.task(note_later, 2)
        eventually(lambda: gator.stats().succeeded == 5)

    assert ran == [1, 2]
    assert (gator.stats().ready, gator.stats().leased) == (0, 0)


def test_first_coroutines_of_a_worker_are_not_started(gator: Gator) -> None:
    for number in range(3):
        gator.task(note_later, f"frozen {number}")

    burst(gator)

    assert ran == []


def test_plain_tasks_beside_coroutines_are_not_started(gator: Gator) -> None:
    gates["long"] = Event()
    with workers_running(worker := Worker(gator)):
        gator.task(wait_at_gate, "long")
        eventually(lambda: ran == ["long"])
        gator.task(note, "frozen")
        eventually(lambda: worker.lease_ends.skipped == 1)
        gator.task(note, 2)
        eventually(lambda: 2 in ran)
        gates["long"].set()

    assert ran == ["long", 2]


def test_task_of_a_program_that_runs_one_by_one_is_not_started(gator: Gator) -> None:
    gator.task(note, "frozen")
    gator.task(note, 2)
    worker = Worker(gator)

    assert [worker.check_and_run_task(), worker.check_and_run_task()] == [False, True]
    assert ran == [2]


def test_task_that_no_other_worker_has_taken_is_released(clock: Clock) -> None:
    gator = Gator("locmem://")
    gator.task(note, 1)
    thread = WorkerThread(gator, ["all"], LEASE_SECONDS, 5)
    lease = thread.next(1)
    assert lease is not None
    clock.ahead += LEASE_SECONDS

    assert thread.run(lease) is None
    thread.report_outcomes()

    assert ran == []
    assert (gator.stats().ready, gator.stats().lost) == (1, 0)


def test_task_is_left_alone_if_the_store_does_not_guard_releases(clock: Clock) -> None:
    class Careless(Locmem):
        guards_releases = False

    gator = Gator("locmem://", backend_class=Careless)
    gator.task(note, 1)
    thread = WorkerThread(gator, ["all"], LEASE_SECONDS, 5)
    lease = thread.next(1)
    assert lease is not None
    clock.ahead += LEASE_SECONDS

    thread.run(lease)
    thread.report_outcomes()

    assert ran == []
    assert gator.stats().leased == 1


def test_task_whose_lease_was_extended_is_started(clock: Clock) -> None:
    gator = Gator("locmem://")
    gator.task(note, 1)
    thread = WorkerThread(gator, ["all"], LEASE_SECONDS, 5)
    lease = thread.next(1)
    assert lease is not None
    clock.ahead += LEASE_SECONDS
    thread.lease_ends.note_extension([lease], [], clock())

    assert thread.run(lease) is not None
    assert ran == [1]


class Forgetful(Locmem):
    """A store that has lost the leases that are to be extended, or is away."""

    is_away = False
    extended = 0

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        self.extended += 1
        if self.is_away:
            raise BackendUnavailable("gone fishing")
        return [*leases]


def reserved(gator: Gator, lease_for: float) -> tuple[Worker, WorkerThread, Lease]:
    """Return a task that the thread of a worker has reserved."""
    worker = Worker(gator, lease_for=lease_for)
    thread = worker.this_thread()
    lease = thread.next(1)
    assert lease is not None
    thread._batch.appendleft(lease)  # as if it waited behind another task
    return worker, thread, lease


@pytest.mark.parametrize("is_away", [False, True])
def test_task_whose_extension_failed_is_not_started(is_away: bool, clock: Clock) -> None:
    gator = Gator("locmem://", backend_class=Forgetful)
    gator.backend.is_away = is_away
    gator.task(note, 1)
    worker, thread, lease = reserved(gator, 0.4)
    beats = heartbeat.Heartbeat(gator.client, worker._leases, 0.4, lease_ends=worker.lease_ends)
    beats.start()
    eventually(lambda: gator.backend.extended > (4 if is_away else 1))
    beats.stop()

    assert thread.run(lease) is None
    assert ran == []


def test_frozen_wait_at_the_store_is_noticed(gator: Gator, clock: Clock) -> None:
    class Waiting(Locmem):
        def wait_then_step(self, *args: Any, **settings: Any) -> Step:
            self.push_many([message])
            step = super().wait_then_step(*args, **settings)
            clock.ahead += LEASE_SECONDS
            return step

    gator = Gator("locmem://", backend_class=Waiting)
    task = gator.task_class("a")
    task.to_call(note, 1)
    message = Message("all", "a", gator.guard.write(task, "all"))
    thread = WorkerThread(gator, ["all"], LEASE_SECONDS, 5)
    thread.next(1)

    thread.wait(5)
    lease = thread.next(1)
    assert lease is not None
    thread.run(lease)

    assert ran == []
