"""A worker runs the tasks of its queues, and stops gracefully."""

import logging
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from threading import Event, Thread
from typing import Any

import pytest

from alligator import FAILED, Gator, Task, Worker
from alligator.exceptions import InvalidOption
from tests.harness.programs import SLACK, eventually
from tests.harness.sample_tasks import (
    add,
    fail,
    sleep_later,
    spin,
)
from tests.harness.workers import (
    burst,
    gates,
    note,
    note_and_wait,
    note_pause,
    ran,
    workers_running,
)

# What the tasks of these tests do, and what they leave behind.


class Unspeakable(Exception):
    """An error that breaks when it is asked what happened."""

    def __str__(self) -> str:
        raise ValueError


def raise_unspeakable() -> None:
    """Raise an error that cannot be formatted."""
    raise Unspeakable


def raise_unstorable() -> None:
    """Raise an error about a file whose name is not UTF-8."""
    raise FileNotFoundError("\udcff")


def exit_program() -> None:
    """Raise SystemExit."""
    sys.exit(3)


def spoil_retries(task: Task, error: BaseException) -> None:
    """A hook that sets an invalid value."""
    task.retries = "many"  # type: ignore[assignment]


def spoil_backoff(task: Task, error: BaseException) -> None:
    """A hook that sets an invalid value."""
    task.backoff = object()  # type: ignore[assignment]


def try_once_more(task: Task, error: BaseException) -> None:
    """A hook that grants one more attempt, once."""
    if task.attempt == 1:
        task.retries = 1


# What it runs, and in which order.


def test_first_queue_goes_before_the_second() -> None:
    high, low = Gator("locmem://both", "high"), Gator("locmem://both", "low")
    for number in range(30):
        low.task(note, f"low {number}")
    for number in range(30):
        high.task(note, f"high {number}")

    burst(low, to_consume=["high", "all"])

    assert ran == [f"high {number}" for number in range(30)] + [
        f"low {number}" for number in range(30)
    ]


def test_new_task_of_the_first_queue_goes_before_the_second_queue(gator: Gator) -> None:
    gates["first"] = Event()
    with gator.options(queue_name="low") as low:
        low.task(note_and_wait, "first")
        low.task(note, "low")

    with workers_running(Worker(gator, to_consume=["high", "low"])):
        eventually(lambda: ran == ["first"])
        gator.options(queue_name="high").task(note, "high")
        gates["first"].set()
        eventually(lambda: len(ran) == 3)

    assert ran == ["first", "high", "low"]


def test_queue_all_is_the_queue_of_the_gator() -> None:
    gator = Gator("locmem://", "mail")

    assert Worker(gator).queue_names == ["mail"]
    assert Worker(gator, to_consume="other").queue_names == ["other"]
    assert Worker(gator, to_consume=("first", "all")).queue_names == ["first", "mail"]


def test_worker_rejects_an_invalid_concurrency(gator: Gator) -> None:
    with pytest.raises(InvalidOption, match="concurrency"):
        Worker(gator, concurrency=0)


def test_check_and_run_task_reports_its_outcome_at_once(gator: Gator) -> None:
    gator.task(note, 1)
    gator.task(fail)
    worker = Worker(gator)

    returned = [worker.check_and_run_task() for _ in range(3)]

    assert returned == [True, False, False]
    assert (gator.stats().succeeded, gator.stats().dead) == (1, 1)


# What goes wrong.


def test_failed_task_is_retried_and_then_dead(gator: Gator) -> None:
    gator.options(retries=2, backoff=0).task(fail, "no luck")

    burst(gator)

    [letter] = gator.dead_letters()
    assert letter.reason == "RuntimeError: no luck"
    assert "sample_tasks.py" in letter.traceback
    assert gator.stats().retried == 2


def test_log_counts_lost_attempts(gator: Gator, caplog: pytest.LogCaptureFixture) -> None:
    gator.options(retries=1, backoff=0).task(fail)
    gator.client.reserve("all", lease_for=0)

    burst(gator)

    logged = [
        (record.__dict__["alligator_event"], record.__dict__["attempt"])
        for record in caplog.records
        if hasattr(record, "attempt")
    ]
    assert logged == [
        ("failed; will be retried", 2),
        ("failed permanently; moved to the dead letters", 3),
    ]


def test_timeout_interrupts_its_own_task_only(gator: Gator) -> None:
    late = gator.options(timeout=0.2, retries=1, backoff=0).task(spin)
    later = gator.options(timeout=0.2).task(sleep_later, 30)
    for number in range(20):
        gator.task(note_pause, str(number), 0.05)

    burst(gator, concurrency=4)

    assert sorted(ran, key=int) == [str(number) for number in range(20)]
    assert {letter.task_id for letter in gator.dead_letters()} == {late.task_id, later.task_id}
    assert all(letter.reason.startswith("TaskTimeout") for letter in gator.dead_letters())
    assert gator.stats().retried == 1


def test_task_that_ignores_its_timeout_is_logged_once_and_kept(
    gator: Gator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.workers.threads.OVERRUN_SECONDS", 0.2)
    task = gator.options(timeout=0.1).task(note_pause, "late", 1.0)
    gator.task(note_pause, "has none", 0.5)

    with workers_running(Worker(gator, lease_for=0.4, concurrency=2), Worker(gator, lease_for=0.4)):
        eventually(lambda: gator.stats().dead == 1 and gator.stats().succeeded == 1)

    logged = [record for record in caplog.records if "exceeded its timeout" in record.getMessage()]
    assert [record.__dict__["task_id"] for record in logged] == [task.task_id]
    assert "--isolate" in logged[0].getMessage()
    assert gator.stats().lost == 0


def test_retry_waits_for_its_pause(gator: Gator) -> None:
    gator.options(retries=1, backoff=[30]).task(fail)

    burst(gator)

    assert (gator.stats().scheduled, gator.stats().dead) == (1, 0)


def test_hook_may_grant_more_attempts(gator: Gator) -> None:
    gator.options(on_error=try_once_more, backoff=0).task(fail)

    burst(gator)

    assert (gator.stats().retried, gator.stats().dead) == (1, 1)


@pytest.mark.parametrize(
    "func", [raise_unspeakable, raise_unstorable, exit_program], ids=lambda func: func.__name__
)
def test_worker_survives_whatever_a_task_raises(
    gator: Gator, func: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    # Not to be logged: what no store can keep, pytest-xdist cannot send either.
    caplog.set_level(logging.CRITICAL, "alligator")
    gator.task(func)
    gator.task(note, "next")

    burst(gator, log_level=logging.CRITICAL)

    [letter] = gator.dead_letters()
    assert letter.reason.encode()
    assert letter.traceback.encode()
    assert ran == ["next"]


@pytest.mark.parametrize("hook", [spoil_retries, spoil_backoff], ids=lambda hook: hook.__name__)
def test_hook_that_spoils_its_task_harms_no_other(gator: Gator, hook: Callable[..., None]) -> None:
    gator.options(retries=1, backoff=0, on_error=hook).task(fail)
    gator.task(note, "next")

    burst(gator)

    assert gator.stats().dead == 1
    assert ran == ["next"]


@pytest.mark.parametrize(
    "data",
    [
        "",
        "garbage",
        "[" * 100_000,
        "\ud800",
        '{"task_id": "x"}',
        '{"task_id": "x", "retries": 0, "is_async": true, "module": "../x", "callable": "f"}',
        '{"task_id": "x", "retries": 0, "is_async": true, "module": "os", "callable": "a b"}',
        '{"task_id": "x", "retries": "3", "is_async": true, "module": "os", "callable": "getpid"}',
        '{"task_id": "x", "retries": 0, "is_async": true, "module": "os", "callable": "getpid", '
        '"options": {"timeout": 1e10}}',
        '{"task_id": "x", "retries": 3, "is_async": true, "module": "tests.harness.sample_tasks", '
        '"callable": "fail", "attempt": -9, "options": {"backoff": [1]}}',
        '{"task_id": "x", "retries": 3, "is_async": true, "module": "tests.harness.sample_tasks", '
        '"callable": "fail", "options": {"backoff": "soon"}}',
    ],
    ids=lambda data: data[:20],
)
def test_invalid_payload_goes_to_the_dead_letters(gator: Gator, data: str) -> None:
    gator.client.push("all", "bad", data)
    gator.task(note, "next")

    burst(gator)

    [letter] = gator.dead_letters()
    assert (letter.task_id, letter.data) == ("bad", data)
    assert letter.reason.encode()
    assert ran == ["next"]


class Rude(Task):
    """A task that cannot be read."""

    @classmethod
    def deserialize(cls, data: str) -> "Rude":
        raise KeyError("rude")


def test_task_class_that_raises_harms_no_other_task(gator: Gator) -> None:
    gator.task(note, 1)
    gator.task_class = Rude

    burst(gator)

    assert gator.dead_letters()[0].reason == "KeyError: 'rude'"


# A worker of one's own.


class Own(Worker):
    """A worker subclass as for Alligator 1.0, with its own log messages and methods."""

    calls: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls = []

    def ident(self) -> str:
        return "My worker"

    def starting(self) -> None:
        self.calls.append("starting")
        super().starting()

    def interrupt(self) -> None:
        self.calls.append("interrupt")

    def stopping(self) -> None:
        self.calls.append("stopping")

    def result(self, result: Any) -> None:
        self.calls.append(result)

    def check_and_run_task(self) -> bool:
        self.calls.append("check")
        return super().check_and_run_task()


def test_worker_calls_what_a_subclass_overrides(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    gator.task(add, 1, 2)
    worker = Own(gator, max_tasks=1)

    worker.run_forever()

    assert worker.calls == ["starting", "check", 3, "stopping"]
    assert "My worker starts on locmem://, queue all, for 1 task" in caplog.text


def test_worker_stops_even_if_a_subclass_ignores_interrupt(gator: Gator) -> None:
    worker = Own(gator)

    with workers_running(worker):
        eventually(lambda: "check" in worker.calls)

    assert worker.calls[-2:] == ["interrupt", "stopping"]


# Prefetching.


color: ContextVar[str] = ContextVar("color", default="none")


def set_color() -> None:
    """Set a context variable."""
    ran.append(color.get())
    color.set("green")


async def set_color_later() -> None:
    """Set a context variable in a coroutine."""
    set_color()


def test_context_variables_of_a_task_are_hidden_from_the_next(gator: Gator) -> None:
    for func in (set_color, set_color, set_color_later, set_color):
        gator.task(func)

    burst(gator)

    assert ran == ["none"] * 4


# Leases.


def test_task_of_a_dead_worker_runs_again_when_its_lease_ends(gator: Gator) -> None:
    gator.task(note, "lost and found")
    gator.client.reserve("all", lease_for=0.1)

    with workers_running(Worker(gator)):
        eventually(lambda: ran, seconds=2)

    assert gator.stats().lost == 1


def test_task_that_was_lost_too_often_is_dead(gator: Gator) -> None:
    gator.task(note, "poison")
    for _ in range(2):
        gator.client.reserve("all", lease_for=0)

    burst(gator, max_lost=2)

    [letter] = gator.dead_letters()
    assert "lost 2 times" in letter.reason
    assert ran == []


# Stopping.


def test_stop_finishes_the_running_task_and_releases_the_rest(gator: Gator) -> None:
    gates["running"] = Event()
    for number in range(100):
        gator.task(note, number)
    gator.task(note_and_wait, "running")
    for number in range(5):
        gator.task(note, number)
    worker = Worker(gator)
    thread = Thread(target=worker.run_forever)

    thread.start()
    eventually(lambda: "running" in ran)
    worker.stop()
    eventually(lambda: not worker.keep_running)
    gates["running"].set()
    thread.join(5)

    assert len(ran) == 101
    assert (gator.stats().succeeded, gator.stats().ready, gator.stats().leased) == (101, 5, 0)


def test_stop_wakes_a_waiting_worker(gator: Gator) -> None:
    worker = Worker(gator)
    thread = Thread(target=worker.run_forever)
    thread.start()
    eventually(lambda: gator.client.workers())

    start = time.monotonic()
    worker.stop()
    thread.join(20)

    assert time.monotonic() - start < SLACK


def test_stop_before_the_start_is_not_lost(gator: Gator) -> None:
    worker = Worker(gator)
    thread = Thread(target=worker.run_forever)

    worker.stop()
    thread.start()
    thread.join(5)
    stopped = not thread.is_alive()
    worker.stop()

    assert stopped


@pytest.mark.parametrize("concurrency", [1, 2])
def test_second_stop_releases_the_running_task(
    gator: Gator, concurrency: int, caplog: pytest.LogCaptureFixture
) -> None:
    gates["running"] = Event()
    gator.task(note_and_wait, "running")
    worker = Worker(gator, concurrency=concurrency)
    thread = Thread(target=worker.run_forever)
    thread.start()
    eventually(lambda: ran == ["running"])

    worker.stop()
    worker.stop()
    eventually(lambda: gator.stats().ready == 1)
    time.sleep(0.2)
    gates["running"].set()
    thread.join(5)

    assert not thread.is_alive()
    assert caplog.text.count("not finished in time") == 1


def test_stop_releases_a_task_after_the_shutdown_timeout(gator: Gator) -> None:
    gates["running"] = Event()
    gator.task(note_and_wait, "running")

    worker = Worker(gator, shutdown_timeout=0.1, concurrency=2)
    thread = Thread(target=worker.run_forever)
    thread.start()
    eventually(lambda: ran == ["running"])

    worker.stop()
    thread.join(5)

    assert not thread.is_alive()
    assert (gator.stats().ready, gator.stats().leased) == (1, 0)


def test_worker_may_run_again_after_a_stop(gator: Gator) -> None:
    worker = Worker(gator)
    with workers_running(worker):
        eventually(lambda: gator.client.workers())

    with workers_running(worker):
        gator.task(note, "again")
        eventually(lambda: ran)

    assert ran == ["again"]


def raise_interrupt() -> None:
    """Raise KeyboardInterrupt, as Ctrl-C in a program without handlers does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("concurrency", [1, 3])
def test_interrupt_raised_by_a_task_is_a_failure_of_the_task(
    gator: Gator, concurrency: int
) -> None:
    gator.options(retries=1, backoff=0, on_error=note_status).task(raise_interrupt)
    gator.task(note, "next")

    burst(gator, concurrency=concurrency)

    assert sorted(map(str, ran)) == sorted([str(FAILED), str(FAILED), "next"])
    assert gator.dead_letters()[0].reason == "KeyboardInterrupt: "
    assert (gator.stats().retried, gator.stats().dead) == (1, 1)


def interrupt_hook(task: Task, about: object) -> None:
    """A hook that raises KeyboardInterrupt."""
    ran.append(type(about).__name__)
    raise KeyboardInterrupt


def test_interrupt_raised_by_a_hook_changes_nothing(gator: Gator) -> None:
    gator.options(on_success=interrupt_hook).task(note, 1)
    gator.options(on_error=interrupt_hook).task(fail)
    gator.options(on_error=interrupt_hook).task(raise_interrupt)
    gator.task(note, "next")

    burst(gator)

    assert ran == [1, "int", "RuntimeError", "KeyboardInterrupt", "next"]
    assert (gator.stats().succeeded, gator.stats().dead) == (2, 2)


def test_check_and_run_task_releases_the_task_when_interrupted(gator: Gator) -> None:
    gator.task(raise_interrupt)
    worker = Worker(gator)

    with pytest.raises(KeyboardInterrupt):
        worker.check_and_run_task()

    assert (gator.stats().ready, gator.stats().leased) == (1, 0)


def test_pop_releases_the_task_when_interrupted(gator: Gator) -> None:
    gator.task(raise_interrupt)

    with pytest.raises(KeyboardInterrupt):
        gator.pop()

    assert (gator.stats().ready, gator.stats().leased) == (1, 0)


# Real processes on a real file.


def test_status_is_the_one_that_hooks_see(gator: Gator) -> None:
    gator.options(on_error=note_status).task(fail)

    burst(gator)

    assert ran == [FAILED]


def note_status(task: Task, error: BaseException) -> None:
    """A hook that notes the status."""
    ran.append(task.status)


def test_log_level_is_that_of_the_worker(gator: Gator) -> None:
    assert Worker(gator, log_level="WARNING").log.level == logging.WARNING
    assert Worker(gator).log.level == logging.INFO
