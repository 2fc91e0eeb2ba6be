"""The dispatcher reserves for both kinds, and reports many outcomes in one step."""

import asyncio
import time
from collections.abc import Sequence
from threading import Event
from typing import Any

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Outcome, Step
from alligator.backends.locmem_backend import Client as Locmem
from alligator.exceptions import BackendError, BackendUnavailable
from alligator.workers.backlog import Reserved
from alligator.workers.coroutines import CoroutineRunner
from tests.harness.programs import eventually
from tests.harness.workers import Shaky, burst, gates, note, ran, workers_running
from tests.workers.test_coroutines import note_later, wait_at_gate

UNKNOWN = (
    '{"task_id": "x", "retries": 0, "is_async": true, "module": "no_such_module", "callable": "f"}'
)


class Stepping(Locmem):
    """A store that notes its steps."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.steps: list[tuple[int, int]] = []

    def step(
        self,
        queue_names: Sequence[str],
        limit: int,
        *,
        outcomes: Sequence[Outcome] = (),
        **settings: Any,
    ) -> Step:
        self.steps.append((limit, len(outcomes)))
        return super().step(queue_names, limit, outcomes=outcomes, **settings)


async def sleep_together() -> None:
    await asyncio.sleep(0.2)


def test_one_step_reports_many_coroutines() -> None:
    gator = Gator("locmem://", backend_class=Stepping)
    for _ in range(100):
        gator.task(sleep_together)

    burst(gator)

    assert gator.stats().succeeded == 100
    assert len([1 for _, outcomes in gator.backend.steps if outcomes]) < 50


def test_burst_does_not_end_while_a_coroutine_is_about_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = CoroutineRunner._start

    def start_late(runner: CoroutineRunner, reserved: Reserved) -> None:
        time.sleep(0.2)  # as on a busy machine
        start(runner, reserved)

    monkeypatch.setattr(CoroutineRunner, "_start", start_late)
    gator = Gator("locmem://")
    gator.task(sleep_together)

    burst(gator)

    assert gator.stats().succeeded == 1


def test_no_more_is_reserved_than_there_are_places() -> None:
    gator = Gator("locmem://", backend_class=Stepping)
    gates["long"] = Event()
    for _ in range(50):
        gator.task(wait_at_gate, "long")

    with workers_running(Worker(gator, concurrency=20)):
        eventually(lambda: len(ran) == 20)
        assert gator.stats().leased <= 20
        gates["long"].set()
        eventually(lambda: gator.stats().succeeded == 50)


def test_tasks_of_a_kind_without_a_place_are_rarely_reserved() -> None:
    gator = Gator("locmem://", backend_class=Stepping)
    gates["long"] = Event()
    for _ in range(120):  # more than there are places for coroutines
        gator.task(wait_at_gate, "long")
    for number in range(20):
        gator.task(note, number)

    with workers_running(Worker(gator)):
        eventually(lambda: 19 in ran)

    assert len(gator.backend.steps) < 1000  # a step takes much less than a millisecond


def test_invalid_payload_among_coroutines_is_dead(gator: Gator) -> None:
    gator.task(note_later, 1)
    gator.client.push("all", "bad", "garbage")
    gator.task(note_later, 2)

    burst(gator)

    assert sorted(ran) == [1, 2]
    assert [letter.task_id for letter in gator.dead_letters()] == ["bad"]


def test_task_that_cannot_be_imported_is_released(gator: Gator) -> None:
    gator.task(note_later, 1)
    gator.client.push("all", "x", UNKNOWN)
    worker = Worker(gator)

    with workers_running(worker):
        eventually(lambda: gator.stats().scheduled == 1)

    assert list(worker.unrunnable) == ["no_such_module.f"]


def test_coroutines_survive_an_outage_of_the_store(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    store: Shaky = gator.backend
    gates["first"] = Event()
    for _ in range(80):
        gator.task(wait_at_gate, "first")

    with workers_running(Worker(gator)):
        eventually(lambda: len(ran) == 80)
        store.away.set()
        gates["first"].set()
        gator.task(note_later, "second")
        eventually(lambda: "gone fishing" in caplog.text)
        store.away.clear()
        eventually(lambda: gator.stats().succeeded == 81)

    assert len(ran) == 81
    assert "working again on" in caplog.text


def test_worker_with_coroutines_stops_during_an_outage() -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    store: Shaky = gator.backend
    gates["long"] = Event()
    gator.task(wait_at_gate, "long")

    with workers_running(Worker(gator, shutdown_timeout=1)):
        eventually(lambda: ran)
        store.away.set()

    assert gator.stats().leased == 1
    store.away.clear()  # ends the thread that still tries to report


class Refusing(Locmem):
    """A store that refuses one outcome."""

    def step(
        self,
        queue_names: Sequence[str],
        limit: int,
        *,
        outcomes: Sequence[Outcome] = (),
        **more: Any,
    ) -> Step:
        if any(outcome.lease.task_id == "refused" for outcome in outcomes):
            raise BackendError("this outcome is refused")
        return super().step(queue_names, limit, outcomes=outcomes, **more)


def test_outcome_that_the_store_refuses_blocks_no_other(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://", backend_class=Refusing)
    gator.options(task_id="refused").task(note_later, 0)
    for number in range(1, 10):
        gator.task(note_later, number)

    with workers_running(Worker(gator)):
        eventually(lambda: gator.stats().succeeded == 9)
        eventually(lambda: "dropped the outcome" in caplog.text)


class Frozen(Locmem):
    """A store whose reply to a wait arrives after the lease has ended."""

    late: Event

    def wait_then_step(self, *args: Any, **settings: Any) -> Step:
        step = super().wait_then_step(*args, **settings)
        if step.leases and not self.late.is_set():
            eventually(self.finish_elsewhere)
            self.late.set()
        return step

    def finish_elsewhere(self) -> bool:
        """Do what another worker does once the lease has ended."""
        leases = self.reserve("all")
        for each in leases:
            self.ack(each)
        return bool(leases)


def test_task_whose_lease_ended_before_it_started_is_not_run() -> None:
    gator = Gator("locmem://", backend_class=Frozen)
    gator.backend.late = Event()
    gator.task(note_later, "first")

    with workers_running(Worker(gator, lease_for=0.3)):
        eventually(lambda: ran == ["first"])
        eventually(lambda: gator.stats().succeeded == 1)
        gator.task(note_later, "frozen")
        eventually(lambda: gator.backend.late.is_set())
        gator.task(note_later, "next")
        eventually(lambda: "next" in ran)

    assert "frozen" not in ran
    assert gator.stats().succeeded == 3


def test_store_that_cannot_be_reached_at_first_is_awaited() -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    gator.backend.away.set()

    with workers_running(Worker(gator)):
        eventually(lambda: gator.backend.asked > 1)
        with pytest.raises(BackendUnavailable):
            gator.client.reserve("all")
        gator.backend.away.clear()
        gator.task(note_later, 1)
        gator.task(note, 2)
        eventually(lambda: sorted(ran) == [1, 2])
