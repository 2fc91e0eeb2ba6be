"""A worker runs as many tasks as `max_tasks` allows."""

from itertools import count

import pytest

from alligator import Gator, Worker
from tests.harness.programs import eventually
from tests.harness.sample_tasks import (
    fail,
)
from tests.harness.workers import Counting, note, note_pause, ran, workers_running


def test_worker_stops_at_its_task_limit(gator: Gator) -> None:
    for number in range(10):
        gator.task(note, number)

    worker = Worker(gator, max_tasks=4)
    worker.run_forever()

    assert (ran, worker.tasks_complete) == ([0, 1, 2, 3], 4)
    assert (gator.stats().ready, gator.stats().leased) == (6, 0)


def test_worker_with_threads_stops_at_its_task_limit(gator: Gator) -> None:
    for number in range(30):
        gator.task(note_pause, str(number), 0.02)

    worker = Worker(gator, max_tasks=6, concurrency=4)
    worker.run_forever()

    assert (len(ran), worker.tasks_complete) == (6, 6)
    assert (gator.stats().ready, gator.stats().leased) == (24, 0)


def test_worker_continues_below_its_task_limit(gator: Gator) -> None:
    with workers_running(Worker(gator, max_tasks=3, concurrency=4)):
        gator.task(note, 1)
        eventually(lambda: ran == [1])
        gator.task(note, 2)
        eventually(lambda: ran == [1, 2])


def test_failed_tasks_count_towards_the_task_limit(gator: Gator) -> None:
    for _ in range(5):
        gator.task(fail)

    Worker(gator, max_tasks=2).run_forever()

    assert (gator.stats().dead, gator.stats().ready) == (2, 3)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_worker_with_a_limit_reserves_in_batches_and_no_more(
    concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a clock of its own: on a busy machine a short task may take long, and goes alone then.
    ticks = count()
    monkeypatch.setattr("alligator.workers.threads.perf_counter", lambda: next(ticks) * 2e-5)
    gator = Gator("locmem://", backend_class=Counting)
    for number in range(500):
        gator.task(note, number)

    worker = Worker(gator, max_tasks=400, concurrency=concurrency)
    worker.run_forever()

    assert len(ran) == worker.tasks_complete == 400
    assert (gator.stats().ready, gator.stats().leased) == (100, 0)
    assert len(gator.backend.asked) < 40 * concurrency
