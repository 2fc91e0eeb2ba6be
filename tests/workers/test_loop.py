"""The loop of a worker: bursts, threads, subclasses and outages."""

import time
from threading import Barrier, Event
from typing import Any

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Step
from alligator.backends.locmem_backend import Client as Locmem
from alligator.workers.loop import WorkLoop
from tests.harness.programs import eventually
from tests.harness.sample_tasks import (
    fail,
)
from tests.harness.workers import Shaky, burst, gates, note, note_and_wait, ran, workers_running


def test_burst_runs_all_tasks_in_order_and_ends(gator: Gator) -> None:
    for number in range(250):
        gator.task(note, number)

    worker = Worker(gator, burst=True)

    assert worker.run_forever() == 0
    assert ran == list(range(250))
    assert worker.tasks_complete == 250
    assert gator.stats().succeeded == 250


def test_threads_run_tasks_at_the_same_time(gator: Gator) -> None:
    names = ["a", "b", "c"]
    gates.update({name: Event() for name in names})
    for name in names:
        gator.task(note_and_wait, name)

    with workers_running(Worker(gator, concurrency=3)):
        eventually(lambda: sorted(ran) == names)

    assert gator.stats().succeeded == 3


def test_burst_with_threads_runs_each_task_once(gator: Gator) -> None:
    for number in range(500):
        gator.task(note, number)

    worker = burst(gator, concurrency=8)

    assert sorted(ran) == list(range(500))
    assert worker.tasks_complete == 500


def test_scheduled_task_runs_at_its_time(gator: Gator) -> None:
    with gator.options(delay_by=0.15) as opts:
        opts.task(note, "later")
    start = time.monotonic()

    with workers_running(Worker(gator)):
        eventually(lambda: ran)

    assert 0.1 < time.monotonic() - start < 10


def test_waiting_worker_takes_a_new_task_at_once(gator: Gator) -> None:
    with workers_running(Worker(gator)):
        eventually(lambda: gator.client.workers())
        time.sleep(0.1)  # let it go to sleep
        took = []
        for n in range(3):
            start = time.monotonic()
            gator.task(note, n)
            eventually(lambda: ran)
            took.append(time.monotonic() - start)
            ran.clear()
            time.sleep(0.1)

    assert min(took) < 0.5  # other work of the machine can only add to it


class Popping(Worker):
    """A worker with its own way to reserve tasks."""

    def check_and_run_task(self) -> bool:
        if not self.gator.len():
            return False
        self.gator.pop()
        return True


def test_loop_counts_tasks_that_a_subclass_takes_itself(gator: Gator) -> None:
    for number in range(3):
        gator.task(note, number)

    worker = Popping(gator, max_tasks=2)
    worker.run_forever()

    assert (ran, worker.tasks_complete) == ([0, 1], 2)


def test_loop_continues_when_a_subclass_raises(gator: Gator) -> None:
    gator.task(fail)
    gator.task(note, "next")

    with workers_running(Popping(gator)):
        eventually(lambda: ran)

    assert gator.stats().dead == 1


class Resultless(Worker):
    """A worker whose `result` method raises."""

    def result(self, result: Any) -> None:
        raise KeyError(result)


def test_loop_repeats_no_task_when_result_raises(gator: Gator) -> None:
    for number in range(3):
        gator.task(note, number)

    burst(gator)
    Resultless(gator, burst=True).run_forever()

    assert ran == [0, 1, 2]
    assert gator.stats().succeeded == 3


def make_four(dsn: str) -> None:
    """Start tasks that have to run at the same time."""
    time.sleep(0.2)
    for number in range(4):
        Gator(dsn).task(meet, number)


party = Barrier(4)


def meet(number: int) -> None:
    """Wait for the others."""
    party.wait(20)
    ran.append(number)


@pytest.mark.parametrize("store", ["sqlite", "valkey"])
def test_burst_keeps_threads_while_a_task_may_start_others(
    store: str, dsn: str, request: pytest.FixtureRequest
) -> None:
    party.reset()
    if store == "valkey":
        dsn = f"{request.getfixturevalue('valkey')}?ns=burst"
    gator = Gator(dsn)
    gator.task(make_four, dsn)

    worker = burst(gator, concurrency=4)

    assert sorted(ran) == [0, 1, 2, 3]
    assert worker.tasks_complete == 5


class LateReply(Locmem):
    """A store that gives a task to the first thread that waits, and replies late."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.interrupted = Event()
        self.is_first = True

    def wait_then_step(self, *args: Any, **kwargs: Any) -> Step:
        if not self.is_first:
            return super().wait_then_step(*args, **kwargs)
        self.is_first = False
        Gator("locmem://late").task(start_two, "locmem://late")
        step = super().wait_then_step(*args, **kwargs)
        gates["busy"].set()
        self.interrupted.wait(20)  # until the other thread has found that both are idle
        return step

    def interrupt(self) -> None:
        self.interrupted.set()
        super().interrupt()


def start_two(dsn: str) -> None:
    """Start two tasks that have to run at the same time."""
    for number in range(2):
        Gator(dsn).task(meet_one, number)


pair = Barrier(2)


def meet_one(number: int) -> None:
    """Wait for the other one."""
    pair.wait(20)
    ran.append(number)


def test_burst_keeps_threads_while_a_reply_with_a_task_is_late() -> None:
    pair.reset()
    gates["busy"] = Event()
    gator = Gator("locmem://late", backend_class=LateReply)
    gator.task(note_and_wait, "busy")

    burst(gator, concurrency=2)

    assert sorted(ran, key=str) == [0, 1, "busy"]


def test_burst_with_a_limit_ends_when_no_task_is_left(
    gator: Gator,
) -> None:
    for number in range(10):
        gator.task(note, number)

    burst(gator, concurrency=3, max_tasks=5)

    assert len(ran) == 5


def test_worker_survives_an_outage_of_its_store(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    store: Shaky = gator.backend
    gates["first"] = Event()
    gator.task(note_and_wait, "first")

    with workers_running(Worker(gator)):
        eventually(lambda: ran == ["first"])
        store.away.set()
        gates["first"].set()
        gator.task(note, "second")
        time.sleep(0.5)
        asked = store.asked
        store.away.clear()
        eventually(lambda: ran == ["first", "second"])
        eventually(lambda: gator.stats().succeeded == 2)

    assert 1 < asked < 8
    assert caplog.text.count("gone fishing") == 1
    assert "working again on" in caplog.text


def test_long_outage_keeps_the_pauses_short(gator: Gator, monkeypatch: pytest.MonkeyPatch) -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    store: Shaky = gator.backend
    store.away.set()
    gator.task(note, "morning")
    pauses: list[float] = []

    def sleep(self: WorkLoop, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5000:
            store.away.clear()

    monkeypatch.setattr(WorkLoop, "_sleep", sleep)
    burst(gator)

    assert ran == ["morning"]
    assert max(pauses) == 5


def test_worker_stops_during_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    store: Shaky = gator.backend
    gates["long"] = Event()
    gator.task(note_and_wait, "long")

    with workers_running(Worker(gator)):
        eventually(lambda: ran)
        store.away.set()

    assert "gone fishing" in caplog.text
    assert gator.stats().leased == 1
