"""Snooze, GiveUp, and which errors are retried: in threads, coroutines, processes and inline."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from alligator import DELAYED, FAILED, Gator, GiveUp, Snooze, Task, current_task
from alligator.exceptions import InvalidOption, TaskTimeout
from alligator.execution.inline import MAX_INLINE_SNOOZES
from alligator.payload.envelope import content_in
from alligator.tasks.decisions import is_retried, snooze_in
from alligator.testing import capture, drain, sync
from tests.harness import isolation, workers

HOUR = 3600.0

seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    seen.clear()
    yield
    seen.clear()


@pytest.fixture
def gator(tmp_path: Path) -> Gator:
    return Gator(f"sqlite://{tmp_path}/q.db")


def note_error(task: Task, error: BaseException) -> None:
    seen.append(("on_error", type(error).__name__, str(error)))


def wait_for_it(seconds: float) -> None:
    raise Snooze(seconds)


async def wait_for_it_later(seconds: float) -> None:
    await asyncio.sleep(0)
    raise Snooze(seconds)


async def wait_in_a_group(seconds: float) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(wait_for_it_later(seconds))


def give_up(reason: str) -> None:
    raise GiveUp(reason)


async def give_up_later(reason: str) -> None:
    await asyncio.sleep(0)
    raise GiveUp(reason)


async def give_up_in_a_group(reason: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(give_up_later(reason))


class Busy(OSError):
    """An error of the project."""


def raise_busy() -> None:
    raise Busy("try later")


async def raise_busy_later() -> None:
    await asyncio.sleep(0)
    raise Busy("try later")


Run = Callable[[Gator], Any]

RUNS: list[Any] = [
    pytest.param(workers.burst, wait_for_it, give_up, raise_busy, id="thread"),
    pytest.param(workers.burst, wait_for_it_later, give_up_later, raise_busy_later, id="loop"),
    pytest.param(isolation.burst, wait_for_it, give_up, raise_busy, id="process"),
    pytest.param(
        isolation.burst, wait_for_it_later, give_up_later, raise_busy_later, id="loop in a process"
    ),
    pytest.param(
        partial(drain, propagate=False), wait_for_it, give_up, raise_busy, id="in this process"
    ),
]
kinds = pytest.mark.parametrize(("run", "snoozes", "gives_up", "fails"), RUNS)


# Snooze.


@kinds
def test_snooze_schedules_the_task_and_counts_no_attempt(
    gator: Gator, run: Run, snoozes: Any, gives_up: Any, fails: Any
) -> None:
    gator.options(retries=2, on_error=note_error).task(snoozes, HOUR)

    run(gator)

    stats = gator.stats()
    assert (stats.scheduled, stats.failed, stats.retried, stats.dead) == (1, 0, 0, 0)
    [waiting] = gator.client.scheduled("all")
    assert HOUR - 600 < waiting.due_in <= HOUR
    content = content_in(waiting.data)
    assert content is not None
    assert content.attempt == 1
    assert json.loads(waiting.data)["retries"] == 2
    assert seen == []


def snooze_twice() -> str:
    """Snooze twice, then succeed."""
    task = current_task()
    assert task is not None
    seen.append(task.attempt)
    if len(seen) < 3:
        raise Snooze(0)
    return "done"


def test_snoozed_task_runs_again_as_the_same_attempt(gator: Gator) -> None:
    gator.task(snooze_twice)

    worker = workers.burst(gator)
    while gator.len():  # due a millisecond later, perhaps after the worker has ended
        workers.burst(gator)

    assert seen == [1, 1, 1]
    assert gator.stats().succeeded == 1
    assert worker.tasks_complete >= 1


def test_snooze_of_no_seconds_goes_behind_the_tasks_that_wait(gator: Gator) -> None:
    gator.task(wait_for_it, 0)
    gator.task(workers.note, 1)

    assert gator.pop() is not None
    [first] = gator.client.reserve("all")

    assert "note" in first.data


def test_snooze_in_a_task_group_is_a_snooze(gator: Gator) -> None:
    gator.task(wait_in_a_group, HOUR)

    workers.burst(gator)

    assert (gator.stats().scheduled, gator.stats().failed) == (1, 0)


def test_longest_snooze_of_a_group_counts() -> None:
    group = ExceptionGroup(
        "two", [Snooze(1), ExceptionGroup("one", [Snooze(timedelta(minutes=1))])]
    )

    found = snooze_in(group)

    assert found is not None
    assert found.seconds == 60


def test_group_with_another_error_is_no_snooze() -> None:
    assert snooze_in(ExceptionGroup("two", [Snooze(1), OSError()])) is None


def test_snooze_in_on_start_is_a_snooze(gator: Gator) -> None:
    gator.options(on_start=snooze_at_start).task(workers.note, 1)

    workers.burst(gator)

    assert (gator.stats().scheduled, seen) == (1, [])


def snooze_at_start(task: Task) -> None:
    raise Snooze(HOUR)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "5", True, 10**20])
def test_snooze_refuses_what_is_no_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(InvalidOption, match="Snooze is a number of seconds"):
        Snooze(seconds)


def snooze_wrongly() -> None:
    raise Snooze(-1)


def test_invalid_snooze_fails_the_attempt(gator: Gator) -> None:
    gator.options(on_error=note_error).task(snooze_wrongly)

    workers.burst(gator)

    [letter] = gator.dead_letters()
    assert "InvalidOption: Snooze is a number of seconds" in letter.reason
    assert [name for _, name, _ in seen] == ["InvalidOption"]


def test_snooze_is_logged_without_a_traceback(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    gator.task(wait_for_it, 60)

    with caplog.at_level(logging.INFO, logger="alligator"):
        workers.burst(gator)

    [line] = [record for record in caplog.records if "snoozed" in record.getMessage()]
    assert line.getMessage().startswith("snoozed for 60 s: ")
    assert (line.levelno, line.exc_info) == (logging.INFO, None)


def test_popped_task_that_snoozes_is_returned(gator: Gator) -> None:
    gator.task(wait_for_it, HOUR)

    task = gator.pop()

    assert task is not None
    assert task.status == DELAYED
    assert gator.stats().scheduled == 1


# Snooze in this process.


def snooze_many_times(most: int) -> int:
    """Snooze *most* times, then return how often this ran."""
    seen.append(len(seen))
    if len(seen) <= most:
        raise Snooze(HOUR)
    return len(seen)


def test_inline_run_repeats_a_snoozed_task_at_once() -> None:
    gator = Gator("locmem://", is_async=False)

    task = gator.task(snooze_many_times, 3)

    assert (task.result, task.attempt) == (4, 1)


def test_inline_run_raises_the_snooze_of_a_task_without_end() -> None:
    gator = Gator("locmem://", is_async=False)

    with pytest.raises(Snooze) as caught:
        gator.task(snooze_many_times, 10 * MAX_INLINE_SNOOZES)

    assert len(seen) == MAX_INLINE_SNOOZES + 1
    assert "has raised Snooze 101 times" in caught.value.__notes__[0]


def test_test_helpers_repeat_a_snoozed_task_at_once(gator: Gator) -> None:
    with sync():
        assert gator.task(snooze_many_times, 2).result == 3
    seen.clear()
    with capture() as tasks:
        gator.task(snooze_many_times, 2)
        assert [task.result for task in tasks.run()] == [3]


# GiveUp.


@kinds
def test_give_up_buries_the_task_at_once(
    gator: Gator, run: Run, snoozes: Any, gives_up: Any, fails: Any
) -> None:
    gator.options(retries=5).task(gives_up, "no such order")

    run(gator)

    [letter] = gator.dead_letters()
    assert letter.reason == "GiveUp: no such order"
    assert (gator.stats().failed, gator.stats().retried) == (1, 0)


def test_give_up_is_a_failure_for_the_error_hook(gator: Gator) -> None:
    gator.options(retries=5, on_error=note_error).task(give_up, "no such order")

    workers.burst(gator)

    assert seen == [("on_error", "GiveUp", "no such order")]


def test_give_up_in_a_task_group_buries_the_task(gator: Gator) -> None:
    gator.options(retries=5).task(give_up_in_a_group, "no such order")

    workers.burst(gator)

    assert (gator.stats().dead, gator.stats().retried) == (1, 0)


def test_give_up_without_a_reason_says_so() -> None:
    assert str(GiveUp()) == "no reason was given"


def test_inline_run_raises_give_up_at_once() -> None:
    gator = Gator("locmem://", is_async=False)
    task = Task(retries=5)

    with pytest.raises(GiveUp, match="no such order"):
        gator.push(task, give_up, "no such order")

    assert (task.status, task.attempt) == (FAILED, 1)


# Which errors are retried.


@kinds
@pytest.mark.parametrize(
    ("options", "is_retried_then"),
    [
        ({"retry_on": OSError}, True),
        ({"retry_on": (KeyError, "builtins.OSError")}, True),
        ({"retry_on": KeyError}, False),
        ({"retry_on": ()}, False),
        ({"give_up_on": Busy}, False),
        ({"give_up_on": [KeyError]}, True),
        ({"retry_on": OSError, "give_up_on": Busy}, False),
    ],
)
def test_options_decide_which_errors_are_retried(
    gator: Gator,
    run: Run,
    snoozes: Any,
    gives_up: Any,
    fails: Any,
    options: Any,
    is_retried_then: bool,
) -> None:
    gator.options(retries=1, backoff=HOUR, **options).task(fails)

    run(gator)

    # `drain` makes the second attempt, too.
    assert gator.stats().retried == is_retried_then
    assert gator.stats().scheduled + gator.stats().dead == 1


def test_inline_run_retries_only_the_errors_of_its_options() -> None:
    gator = Gator("locmem://", is_async=False)
    task = Task(retries=3, retry_on=KeyError)

    with pytest.raises(Busy):
        gator.push(task, raise_busy)

    assert task.attempt == 1


def test_timeout_can_be_given_up(gator: Gator) -> None:
    gator.options(retries=3, timeout=0.01, give_up_on=TaskTimeout).task(spin)

    workers.burst(gator)

    assert gator.stats().dead == 1


def spin() -> None:
    """Run until the timeout."""
    while True:
        pass


def test_group_is_retried_if_each_of_its_errors_is() -> None:
    names = ["builtins.OSError"]
    alike = ExceptionGroup("two", [OSError(), Busy()])
    mixed = ExceptionGroup("two", [OSError(), KeyError()])

    assert is_retried(alike, names, None)
    assert not is_retried(mixed, names, None)
    assert not is_retried(mixed, None, names)


def test_options_of_errors_travel_with_the_retries(gator: Gator) -> None:
    task = Task(retries=2, retry_on=(Busy, KeyError), give_up_on="shop.errors.Fatal")
    task.to_call(raise_busy)

    again = Task.deserialize(Task.deserialize(task.serialize()).for_retry(2).serialize())

    assert again.retry_on == [f"{Busy.__module__}.Busy", "builtins.KeyError"]
    assert again.give_up_on == ["shop.errors.Fatal"]


@pytest.mark.parametrize("value", [int, 3, "Busy", [OSError, "x"], Busy(), {"a": 1}, b"a.b"])
def test_option_of_errors_refuses_what_is_no_exception(gator: Gator, value: Any) -> None:
    with pytest.raises(InvalidOption, match="retry_on is an exception class, its name as"):
        gator.options(retry_on=value)
