"""The counting of functions that a task passes."""

from collections.abc import Awaitable

from alligator import Gator
from tests.benchmarks.paths import asteps_of, steps_of
from tests.harness.sample_tasks import add


def test_functions_are_counted_once_and_calls_each_time() -> None:
    gator = Gator("locmem://")

    one, two = (
        steps_of(lambda number=number: [gator.task(add, 1, 2) for _ in range(number)])  # type: ignore[misc]
        for number in (1, 2)
    )

    assert "alligator/gator.py: Gator.task" in one.names
    assert (two.functions, two.files) == (one.functions, one.files)
    assert two.calls == 2 * one.calls


def test_coroutine_that_waits_is_one_call() -> None:
    gator = Gator("locmem://")

    async def push() -> None:
        async with gator.transaction():
            gator.task(add, 1, 2)

    def call() -> Awaitable[None]:
        return push()

    steps = asteps_of(call)

    assert steps.functions <= steps.calls < 2 * steps.functions
