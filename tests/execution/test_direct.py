"""Runs of tasks directly in this process: pop, get and execute."""

import time

import pytest

from alligator import (
    FAILED,
    RETRYING,
    SUCCESS,
    Gator,
    Task,
    current_task,
)
from tests.harness.sample_tasks import add, fail


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


attempts: list[int] = []


@pytest.fixture(autouse=True)
def no_attempts() -> None:
    attempts.clear()


def fail_twice() -> str:
    """Succeed at the third attempt."""
    task = current_task()
    assert task is not None
    attempts.append(task.attempt)
    if len(attempts) < 3:
        raise RuntimeError("not yet")
    return "done"


def test_retries_follow_at_once() -> None:
    gator = Gator("locmem://", is_async=False)
    start = time.monotonic()

    task = gator.options(retries=5, backoff=60).task(fail_twice)

    assert (task.result, task.status, attempts) == ("done", SUCCESS, [1, 2, 3])
    assert time.monotonic() - start < 30  # of the minutes that a worker would let pass


def test_exception_of_the_last_attempt_is_raised() -> None:
    gator = Gator("locmem://", is_async=False)
    task = Task(retries=1, is_async=False)

    with pytest.raises(RuntimeError, match="not yet"):
        gator.push(task, fail_twice)

    assert (attempts, task.status) == ([1, 2], FAILED)


def test_pop_runs_the_next_task(gator: Gator) -> None:
    first, second = gator.task(add, 1, 2), gator.task(add, 3, 4)

    popped = [gator.pop(), gator.pop()]

    assert [(task.task_id, task.result) for task in popped if task] == [
        (first.task_id, 3),
        (second.task_id, 7),
    ]
    assert gator.pop() is None
    assert gator.stats().succeeded == 2


def test_popped_task_that_fails_is_dead_and_raises(gator: Gator) -> None:
    gator.task(fail, "no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        gator.pop()

    assert gator.stats().dead == 1


def test_popped_task_with_retries_goes_back_to_the_queue(gator: Gator) -> None:
    gator.options(retries=1, backoff=0).task(fail, "no luck")

    task = gator.pop()

    assert task is not None
    assert (task.status, gator.len()) == (RETRYING, 1)
    with pytest.raises(RuntimeError):
        gator.pop()


def test_get_runs_a_task_before_its_time(gator: Gator) -> None:
    gator.task(add, 1, 2)
    later = gator.options(delay_by=60).task(add, 3, 4)

    task = gator.get(later.task_id)

    assert task is not None
    assert (task.result, gator.len()) == (7, 1)
    assert gator.get(later.task_id) is None
    assert gator.get("no such task") is None
