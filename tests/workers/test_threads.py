"""The threads of a worker reserve tasks, and release those that they do not start."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread
from typing import Any

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Message, Step
from alligator.backends.locmem_backend import Client as Locmem
from alligator.workers.threads import WorkerThread
from tests.harness.programs import eventually
from tests.harness.workers import (
    Counting,
    burst,
    gates,
    note,
    note_and_wait,
    note_pause,
    ran,
    workers_running,
)


def test_reserved_tasks_do_not_wait_behind_a_long_one() -> None:
    gators = [Gator("locmem://prefetch"), Gator("locmem://prefetch")]
    gates["long"] = Event()
    for number in range(200):
        gators[0].task(note, number)
    gators[0].task(note_and_wait, "long")
    for number in range(200, 210):
        gators[0].task(note, number)

    with workers_running(Worker(gators[0])):
        eventually(lambda: "long" in ran)
        with running_only(Worker(gators[1])):
            eventually(lambda: len(ran) == 211)

    assert {name for name in ran if name != "long"} == set(range(210))
    assert len(ran) == 211


@contextmanager
def running_only(worker: Worker) -> Iterator[None]:
    """Run one worker in a thread, leaving all gates as they are."""
    thread = Thread(target=worker.run_forever)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(10)


def test_short_tasks_are_reserved_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a clock of its own: on a busy machine a short task may take long, and goes alone then.
    ticks = count()
    monkeypatch.setattr("alligator.workers.threads.perf_counter", lambda: next(ticks) * 2e-5)
    gator = Gator("locmem://", backend_class=Counting)
    for number in range(400):
        gator.task(note, number)

    burst(gator)

    assert len(ran) == 400
    assert len(gator.backend.asked) < 40


def test_long_tasks_are_reserved_one_by_one() -> None:
    gator = Gator("locmem://", backend_class=Counting)
    for number in range(4):
        gator.task(note_pause, f"{number}", 0.05)

    burst(gator)

    assert set(gator.backend.asked) == {1}


def test_tasks_that_become_long_are_reserved_one_by_one() -> None:
    gator = Gator("locmem://", backend_class=Counting)
    for number in range(200):
        gator.task(note, number)
    for number in range(130):
        gator.task(note_pause, f"{number}", 0.01)

    burst(gator)

    assert max(gator.backend.asked) > 1
    assert set(gator.backend.asked[-20:]) == {1}


def test_released_tasks_keep_their_order() -> None:
    gator = Gator("locmem://")
    gates["long"] = Event()
    for number in range(200):
        gator.task(note, number)
    gator.task(note_and_wait, "long")
    for number in range(200, 260):
        gator.task(note, number)

    with workers_running(Worker(gator)):
        eventually(lambda: "long" in ran)
        eventually(lambda: gator.stats().leased == 1)
        gates["long"].set()
        eventually(lambda: len(ran) == 261)

    assert [number for number in ran if number != "long"] == list(range(260))


def test_worker_thread_and_supervisor_may_take_tasks_at_once() -> None:
    # Its batch is taken from two sides: nothing may run twice or be lost on the way.
    gator = Gator("locmem://")
    for number in range(1000):
        gator.task(note, number)
    worker_thread = WorkerThread(gator, ["all"], 60.0, 5)
    ended = Event()

    def watch() -> None:
        while not ended.is_set():
            worker_thread.leases()
            worker_thread.release_reserved()

    thread = Thread(target=watch)
    thread.start()
    while len(ran) < 1000:
        lease = worker_thread.next(50)
        if lease is not None:
            worker_thread.run(lease)
    ended.set()
    thread.join()
    worker_thread.report_outcomes()

    assert sorted(ran) == list(range(1000))
    assert gator.stats().succeeded == 1000


def test_worker_thread_starts_no_task_whose_lease_expired_during_sleep() -> None:
    class Slow(Locmem):
        """A store whose reply waits while its worker is frozen and another one does the work."""

        def wait_then_step(self, *args: Any, **options: Any) -> Step:
            self.push_many(messages)
            step = super().wait_then_step(*args, **options)
            time.sleep(2 * options["lease_for"])
            for lease in self.reserve("all"):
                self.ack(lease)
            return step

    gator = Gator("locmem://", backend_class=Slow)
    task = gator.task_class("a")
    task.to_call(note, 1)
    messages = [Message("all", "a", gator.guard.write(task, "all"))]
    worker_thread = WorkerThread(gator, ["all"], 0.05, 5)
    worker_thread.next(1)

    worker_thread.wait(5)
    lease = worker_thread.next(1)
    assert lease is not None
    worker_thread.run(lease)
    worker_thread.report_outcomes()

    assert ran == []
    assert gator.stats().lost == gator.stats().succeeded == 1
