"""Tasks that expire: who does not begin, and what becomes of them."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import time
from typing import Any

import pytest

from alligator import CANCELED, Gator, Snooze, Task, current_task
from alligator.exceptions import InvalidOption, TaskExpired
from alligator.execution.attempt import attempt
from alligator.testing import drain
from tests.harness import isolation, workers
from tests.harness.sample_tasks import add, add_later

HOUR = 3600.0
PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(params=[None, "secret"], ids=["unsigned", "signed"])
def gator(request: pytest.FixtureRequest, tmp_path: Path) -> Gator:
    return Gator(f"sqlite://{tmp_path}/q.db", secret=request.param)


@pytest.fixture(autouse=True)
def traces() -> Iterator[None]:
    with workers.traces_cleaned():
        yield


def run_burst(gator: Gator) -> Any:
    return workers.burst(gator)


def run_isolated(gator: Gator) -> Any:
    return isolation.burst(gator)


def run_drain(gator: Gator) -> Any:
    return drain(gator, propagate=False)


RUNS = pytest.mark.parametrize(
    ("run", "func"),
    [
        pytest.param(run_burst, add, id="thread"),
        pytest.param(run_burst, add_later, id="loop"),
        pytest.param(run_isolated, add, id="process"),
        pytest.param(run_isolated, add_later, id="loop in a process"),
        pytest.param(run_drain, add, id="in this process"),
    ],
)


@RUNS
def test_expired_task_is_a_dead_letter_and_is_counted(gator: Gator, run: Any, func: Any) -> None:
    gator.options(expires=PAST, retries=3).task(func, 1, 2)
    gator.options(expires=HOUR).task(func, 1, 2)

    run(gator)

    stats = gator.stats()
    assert (stats.succeeded, stats.expired, stats.dead, stats.died) == (1, 1, 1, 1)
    assert (stats.failed, stats.retried) == (0, 0)
    [letter] = gator.dead_letters()
    assert letter.reason == "expired: it had not begun by 2020-01-01T00:00:00+00:00"


@RUNS
def test_dead_letter_of_an_expired_task_runs_if_it_is_retried(
    gator: Gator, run: Any, func: Any
) -> None:
    gator.options(expires=PAST, task_id="x", timeout=30).task(func, 1, 2)
    run(gator)

    assert gator.retry_dead("x")
    run(gator)

    assert (gator.stats().succeeded, gator.stats().dead) == (1, 0)


def fail_once() -> None:
    """Let the time of expiry pass, and fail at the first attempt."""
    task = current_task()
    assert task is not None
    workers.ran.append((task.attempt, task.expires))
    if task.attempt == 1:
        raise OSError("not yet")


def test_task_that_has_begun_is_retried_after_its_expiry(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    gator.options(expires=HOUR, retries=1, backoff=0).task(fail_once)
    gator.pop()
    monkeypatch.setattr("alligator.execution.attempt.time", lambda: time() + 2 * HOUR)

    workers.burst(gator)

    assert [attempt for attempt, _ in workers.ran] == [1, 2]
    assert workers.ran[1][1] is None
    assert gator.stats().succeeded == 1


def snooze_once() -> None:
    workers.ran.append("ran")
    if len(workers.ran) == 1:
        raise Snooze(0)


def test_task_that_has_snoozed_does_not_expire(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    gator.options(expires=HOUR).task(snooze_once)
    gator.pop()
    monkeypatch.setattr("alligator.execution.attempt.time", lambda: time() + 2 * HOUR)

    while gator.len():
        workers.burst(gator)

    assert gator.stats().succeeded == 1


def test_task_that_was_lost_with_its_worker_does_not_expire(gator: Gator) -> None:
    gator.options(expires=PAST).task(add, 1, 2)
    gator.client.reserve("all", lease_for=0.0)

    workers.burst(gator)

    assert (gator.stats().succeeded, gator.stats().expired) == (1, 0)


def test_task_that_waits_in_a_worker_expires_there(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the moment at which it would begin, not that of its reservation."""
    gator.options(expires=HOUR).task(add, 1, 2)
    [lease] = gator.client.reserve("all")
    monkeypatch.setattr("alligator.execution.attempt.time", lambda: time() + 2 * HOUR)

    done = attempt(gator, lease)

    assert done.outcome.verdict == "expired"


def test_expired_task_of_pop_raises(gator: Gator) -> None:
    gator.options(expires=PAST).task(add, 1, 2)

    with pytest.raises(TaskExpired, match="it had not begun by 2020"):
        gator.pop()

    assert gator.stats().expired == 1


def test_expiry_is_a_warning_in_the_log(gator: Gator, caplog: pytest.LogCaptureFixture) -> None:
    gator.options(expires=PAST).task(add, 1, 2)

    with caplog.at_level(logging.INFO, logger="alligator"):
        workers.burst(gator)

    [line] = [each for each in caplog.records if "expired" in each.getMessage()]
    assert (line.levelno, line.exc_info) == (logging.WARNING, None)
    assert line.getMessage().startswith("expired before it began; moved to the dead letters: ")


def test_expired_task_is_canceled_for_its_code(gator: Gator) -> None:
    task = Task(expires=PAST)
    task.to_call(add, 1, 2)
    gator.push(task, add, 1, 2)
    [lease] = gator.client.reserve("all")

    done = attempt(gator, lease)

    assert done.task is not None
    assert done.task.status == CANCELED


def test_inline_run_does_not_expire() -> None:
    gator = Gator("locmem://", is_async=False)

    assert gator.options(expires=PAST).task(add, 1, 2).result == 3


# The option.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (lambda: 60, 60.0),
        (lambda: timedelta(minutes=1), 60.0),
        (lambda: datetime.now(UTC) + timedelta(hours=1), HOUR),
        (lambda: date.today() + timedelta(days=400), None),
    ],
    ids=["number", "timedelta", "datetime", "date"],
)
def test_expiry_is_seconds_from_the_call_or_a_moment(
    value: Callable[[], Any], expected: float | None
) -> None:
    before = time()
    task = Task(expires=value())
    task.to_call(add, 1, 2)

    read = Task.deserialize(task.serialize())

    assert read.expires == task.expires
    assert task.expires is not None
    if expected is not None:
        assert before + expected - 1 < task.expires < time() + expected + 1


@pytest.mark.parametrize("value", [0, -1, float("nan"), "5", True, 10**20])
def test_expiry_refuses_what_is_neither(value: Any) -> None:
    with pytest.raises(InvalidOption, match="expires is a number of seconds"):
        Gator("locmem://").options(expires=value)


def test_expiry_before_the_task_is_due_is_an_error_at_the_call() -> None:
    gator = Gator("locmem://")

    with (
        pytest.raises(InvalidOption, match="the task is due only later"),
        gator.transaction(expires=60),
    ):
        gator.options(delay_by=HOUR).task(add, 1, 2)
