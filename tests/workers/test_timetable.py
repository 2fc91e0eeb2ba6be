"""A worker queues the ticks of its gator's schedules while it runs."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Message
from alligator.backends.locmem_backend import Client as Locmem
from tests.harness.contract import becomes
from tests.harness.workers import note, ran, workers_running


class Forgetful(Locmem):
    """A store that cannot recognise the ticks of other workers."""

    remembers_ticks = False

    def announce_schedules(self, schedules: Any, now: int) -> Any:
        return [None for _ in schedules]


def has_thread() -> bool:
    return any(thread.name == "alligator-schedules" for thread in threading.enumerate())


def with_schedule(make: Callable[[str], Locmem] = Locmem) -> Gator:
    gator = Gator("locmem://", backend_class=make)
    gator.every(1, note, "tick")
    return gator


def test_worker_runs_the_tasks_of_schedules() -> None:
    gator = with_schedule()

    with workers_running(Worker(gator)):
        assert becomes(lambda: "tick" in ran)
        assert [each.name for each in gator.client.schedules()] == ["note"]
    assert becomes(lambda: not has_thread())


def test_workers_of_one_store_run_each_tick_once() -> None:
    asked: list[int] = []
    queued: list[int] = []

    class Noting(Locmem):
        def push_tick(self, name: str, moment: int, message: Message) -> bool:
            asked.append(moment)
            is_new = super().push_tick(name, moment, message)
            if is_new:
                queued.append(moment)
            return is_new

    store = Noting("locmem://")
    gators = [with_schedule(lambda dsn: store) for _ in range(3)]

    with workers_running(*(Worker(gator) for gator in gators)):
        assert becomes(lambda: len(ran) >= 3 and len(asked) > len(queued))

    assert queued == [*range(queued[0], queued[-1] + 1)]
    assert store.stats("all").pushed == len(queued)


def test_worker_without_schedules_has_no_thread_for_them(gator: Gator) -> None:
    worker = Worker(gator)
    with workers_running(worker):
        assert becomes(lambda: bool(worker.threads))
        assert not has_thread()


@pytest.mark.parametrize("settings", [{"burst": True}, {"keep_schedules": False}])
def test_worker_may_leave_schedules_to_others(settings: dict[str, Any]) -> None:
    gator = with_schedule()
    worker = Worker(gator, max_tasks=1, **settings)
    gator.task(note, "task")

    worker.run_forever()

    assert ran == ["task"]
    assert gator.client.schedules() == []


def test_store_that_recognises_no_ticks_needs_a_decision(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gator = with_schedule(Forgetful)
    gator.task(note, "task")

    Worker(gator, max_tasks=1).run_forever()

    (line,) = [r.getMessage() for r in caplog.records if "schedules" in r.getMessage()]
    assert "Start exactly one worker with --schedules" in line
    assert ran == ["task"]


def test_one_worker_can_keep_the_schedules_of_such_a_store() -> None:
    gator = with_schedule(Forgetful)

    with workers_running(Worker(gator, keep_schedules=True)):
        assert becomes(lambda: "tick" in ran)
