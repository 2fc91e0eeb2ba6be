"""The steps of hot paths, which the performance page times."""

from contextvars import copy_context

from alligator import Gator
from tests.benchmarks.steps import CALLS, Steps, of_a_request, of_a_run, of_a_task


def test_steps_can_be_taken_one_by_one() -> None:
    gator = Gator("locmem://")

    def take(steps: Steps) -> None:
        for step in steps.values():
            step()

    copy_context().run(lambda: take(of_a_task(gator)))
    take(of_a_request(gator))

    assert gator.client.len("all") == 0


def test_worker_reserves_a_hundred_tasks_in_a_hundred_calls() -> None:
    gator = Gator("locmem://")
    steps = of_a_run(gator)
    waiting = gator.client.len("all")

    for step in steps.values():
        for _ in range(CALLS):
            step()

    assert gator.client.len("all") == waiting - CALLS
