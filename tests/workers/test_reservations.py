"""What a worker reserves: outcomes are reported until the store knows them, or refuses them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from alligator import Gator, Task
from alligator.workers.reservations import can_run_on_loop
from alligator.workers.threads import WorkerThread
from tests.harness.sample_tasks import add, add_later
from tests.harness.workers import Shaky, note


class OwnTask(Task):
    """A task that runs in its own way."""

    def run(self) -> Any:
        return super().run()


class OwnGator(Gator):
    """A gator that runs tasks in its own way."""

    def run(self, task: Task) -> Task:
        return super().run(task)


class Callee:
    """A callable object."""

    async def __call__(self) -> None: ...

    async def method(self) -> None: ...


def called(func: Callable[..., Any], kind: type[Task] = Task) -> Task:
    task = kind()
    task.func = func
    return task


@pytest.mark.parametrize("func", [add_later, partial(add_later, 1), Callee(), Callee().method])
def test_coroutine_functions_run_on_the_loop(gator: Gator, func: Callable[..., Any]) -> None:
    assert can_run_on_loop(gator, called(func))


def test_other_functions_run_in_threads(gator: Gator) -> None:
    for func in (add, partial(add, 1), Callee, print, lambda: add_later(1, 2)):
        assert not can_run_on_loop(gator, called(func))


def test_subclasses_that_run_tasks_themselves_do_so_in_threads(gator: Gator) -> None:
    assert not can_run_on_loop(OwnGator("locmem://"), called(add_later))
    assert not can_run_on_loop(gator, called(add_later, OwnTask))


def test_outcomes_are_kept_while_the_store_is_away() -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    gator.task(note, 1)
    thread = WorkerThread(gator, ["all"], 60.0, 5)
    lease = thread.next(1)
    assert lease is not None
    thread.run(lease)
    gator.backend.away.set()
    with pytest.raises(Exception, match="gone fishing"):
        thread.report_outcomes()
    gator.backend.away.clear()

    thread.report_outcomes()

    assert gator.stats().succeeded == 1
