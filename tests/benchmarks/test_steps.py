"""The steps of hot paths, which the performance page times."""

from contextvars import copy_context

from alligator import Gator
from tests.benchmarks.steps import Steps, of_a_request, of_a_task


def test_steps_can_be_taken_one_by_one() -> None:
    gator = Gator("locmem://")

    def take(steps: Steps) -> None:
        for step in steps.values():
            step()

    copy_context().run(lambda: take(of_a_task(gator)))
    take(of_a_request(gator))

    assert gator.client.len("all") == 0
