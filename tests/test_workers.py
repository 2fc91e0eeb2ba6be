"""A worker runs what is on the queue, keeps what it has begun, and stops when it is told to."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from alligator import FAILED, Gator, Lease, Task, Worker
from alligator.backends.base import Message, Outcome, Step
from alligator.backends.locmem_backend import Client as Locmem
from alligator.constants import LEASE_SECONDS, MAX_LOST
from alligator.exceptions import BackendUnavailable, InvalidOption
from alligator.lanes import Lane
from tests.programs import SLACK, eventually
from tests.sample_tasks import (
    add,
    crash,
    fail,
    record,
    record_and_die,
    record_both_ends,
    sleep_for,
    sleep_later,
    sleep_until,
)

ROOT = Path(__file__).parent.parent


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


# What the tasks of these tests do, and what they leave behind.

ran: list[Any] = []
gates: dict[str, Event] = {}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    ran.clear()
    gates.clear()
    yield
    for gate in gates.values():
        gate.set()


def note(what: Any) -> Any:
    """Leave *what* behind."""
    ran.append(what)
    return what


def note_and_wait(what: str) -> None:
    """Leave *what* behind and wait for its gate."""
    ran.append(what)
    assert gates[what].wait(10)


def note_pause(what: str, seconds: float) -> None:
    """Leave *what* behind after a while."""
    time.sleep(seconds)
    ran.append(what)


class Unspeakable(Exception):
    """An error that breaks when it is asked what happened."""

    def __str__(self) -> str:
        raise ValueError


def raise_unspeakable() -> None:
    """Raise what cannot be said."""
    raise Unspeakable


def raise_unstorable() -> None:
    """Raise an error about a file whose name is not UTF-8."""
    raise FileNotFoundError("\udcff")


def exit_program() -> None:
    """Raise SystemExit."""
    sys.exit(3)


def spoil_retries(task: Task, error: BaseException) -> None:
    """Be a hook that leaves nonsense."""
    task.retries = "many"  # type: ignore[assignment]


def spoil_backoff(task: Task, error: BaseException) -> None:
    """Be a hook that leaves nonsense."""
    task.backoff = object()  # type: ignore[assignment]


def try_once_more(task: Task, error: BaseException) -> None:
    """Be a hook that grants an attempt, once."""
    if task.attempt == 1:
        task.retries = 1


@contextmanager
def running(*workers: Worker) -> Iterator[None]:
    """Run workers in threads during the block."""
    threads = [Thread(target=worker.run_forever) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        for gate in gates.values():
            gate.set()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)


def burst(gator: Gator, **settings: Any) -> Worker:
    """Run a worker until nothing is ready."""
    worker = Worker(gator, burst=True, **settings)
    worker.run_forever()
    return worker


# What it runs, and in which order.


def test_a_burst_runs_what_is_there_in_order_and_ends(gator: Gator) -> None:
    for number in range(250):
        gator.task(note, number)

    worker = Worker(gator, burst=True)

    assert worker.run_forever() == 0
    assert ran == list(range(250))
    assert worker.tasks_complete == 250
    assert gator.stats().succeeded == 250


def test_the_first_queue_goes_before_the_second() -> None:
    high, low = Gator("locmem://both", "high"), Gator("locmem://both", "low")
    for number in range(30):
        low.task(note, f"low {number}")
    for number in range(30):
        high.task(note, f"high {number}")

    burst(low, to_consume=["high", "all"])

    assert ran == [f"high {number}" for number in range(30)] + [
        f"low {number}" for number in range(30)
    ]


def test_a_task_for_the_first_queue_goes_before_what_waits_in_the_second(gator: Gator) -> None:
    gates["first"] = Event()
    with gator.options(queue_name="low") as low:
        low.task(note_and_wait, "first")
        low.task(note, "low")

    with running(Worker(gator, to_consume=["high", "low"])):
        eventually(lambda: ran == ["first"])
        gator.options(queue_name="high").task(note, "high")
        gates["first"].set()
        eventually(lambda: len(ran) == 3)

    assert ran == ["first", "high", "low"]


def test_all_stands_for_the_queue_of_the_gator() -> None:
    gator = Gator("locmem://", "mail")

    assert Worker(gator).queue_names == ["mail"]
    assert Worker(gator, to_consume="other").queue_names == ["other"]
    assert Worker(gator, to_consume=("first", "all")).queue_names == ["first", "mail"]


def test_it_stops_after_so_many_tasks(gator: Gator) -> None:
    for number in range(10):
        gator.task(note, number)

    worker = Worker(gator, max_tasks=4)
    worker.run_forever()

    assert (ran, worker.tasks_complete) == ([0, 1, 2, 3], 4)
    assert (gator.stats().ready, gator.stats().leased) == (6, 0)


def test_it_stops_after_so_many_tasks_side_by_side(gator: Gator) -> None:
    for number in range(30):
        gator.task(note_pause, str(number), 0.02)

    worker = Worker(gator, max_tasks=6, concurrency=4)
    worker.run_forever()

    assert (len(ran), worker.tasks_complete) == (6, 6)
    assert (gator.stats().ready, gator.stats().leased) == (24, 0)


def test_a_maximum_that_is_not_reached_does_not_end_it(gator: Gator) -> None:
    with running(Worker(gator, max_tasks=3, concurrency=4)):
        gator.task(note, 1)
        eventually(lambda: ran == [1])
        gator.task(note, 2)
        eventually(lambda: ran == [1, 2])


def test_failed_tasks_count_towards_the_maximum(gator: Gator) -> None:
    for _ in range(5):
        gator.task(fail)

    Worker(gator, max_tasks=2).run_forever()

    assert (gator.stats().dead, gator.stats().ready) == (2, 3)


def test_several_tasks_run_side_by_side(gator: Gator) -> None:
    names = ["a", "b", "c"]
    gates.update({name: Event() for name in names})
    for name in names:
        gator.task(note_and_wait, name)

    with running(Worker(gator, concurrency=3)):
        eventually(lambda: sorted(ran) == names)

    assert gator.stats().succeeded == 3


def test_a_burst_side_by_side_runs_each_task_once(gator: Gator) -> None:
    for number in range(500):
        gator.task(note, number)

    worker = burst(gator, concurrency=8)

    assert sorted(ran) == list(range(500))
    assert worker.tasks_complete == 500


def test_nonsense_is_refused(gator: Gator) -> None:
    with pytest.raises(InvalidOption, match="concurrency"):
        Worker(gator, concurrency=0)


def test_check_and_run_task_runs_one_and_tells_the_store_at_once(gator: Gator) -> None:
    gator.task(note, 1)
    gator.task(fail)
    worker = Worker(gator)

    returned = [worker.check_and_run_task() for _ in range(3)]

    assert returned == [True, False, False]
    assert (gator.stats().succeeded, gator.stats().dead) == (1, 1)


def test_a_scheduled_task_runs_when_its_time_has_come(gator: Gator) -> None:
    with gator.options(delay_by=0.15) as opts:
        opts.task(note, "later")
    start = time.monotonic()

    with running(Worker(gator)):
        eventually(lambda: ran)

    assert 0.1 < time.monotonic() - start < 10


def test_a_task_is_picked_up_at_once_by_a_worker_that_waits(gator: Gator) -> None:
    with running(Worker(gator)):
        eventually(lambda: gator.client.workers())
        time.sleep(0.1)  # let it go to sleep
        took = []
        for n in range(3):
            start = time.monotonic()
            gator.task(note, n)
            eventually(lambda: ran)
            took.append(time.monotonic() - start)
            ran.clear()
            time.sleep(0.1)

    assert min(took) < 0.5  # other work of the machine can only add to it


# What goes wrong.


def test_a_failed_task_is_retried_and_then_dead(gator: Gator) -> None:
    gator.options(retries=2, backoff=0).task(fail, "no luck")

    burst(gator)

    [letter] = gator.dead_letters()
    assert letter.reason == "RuntimeError: no luck"
    assert "sample_tasks.py" in letter.traceback
    assert gator.stats().retried == 2


def test_the_log_counts_lost_attempts(gator: Gator, caplog: pytest.LogCaptureFixture) -> None:
    gator.options(retries=1, backoff=0).task(fail)
    gator.client.reserve("all", lease_for=0)

    burst(gator)

    told = [
        (record.getMessage(), record.__dict__["attempt"])
        for record in caplog.records
        if hasattr(record, "attempt")
    ]
    assert told == [("failed, to be retried", 2), ("dead", 3)]


def test_a_timeout_strikes_its_own_task_only(gator: Gator) -> None:
    late = gator.options(timeout=0.2, retries=1, backoff=0).task(spin)
    later = gator.options(timeout=0.2).task(sleep_later, 30)
    for number in range(20):
        gator.task(note_pause, str(number), 0.05)

    burst(gator, concurrency=4)

    assert sorted(ran, key=int) == [str(number) for number in range(20)]
    assert {letter.task_id for letter in gator.dead_letters()} == {late.task_id, later.task_id}
    assert all(letter.reason.startswith("TaskTimeout") for letter in gator.dead_letters())
    assert gator.stats().retried == 1


def spin() -> None:
    """Be busy in Python."""
    while True:
        pass


def test_a_task_that_does_not_heed_its_timeout_is_kept_and_told_of_once(
    gator: Gator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.lanes.OVERRUN_SECONDS", 0.2)
    task = gator.options(timeout=0.1).task(note_pause, "late", 1.0)
    gator.task(note_pause, "has none", 0.5)

    with running(Worker(gator, lease_for=0.4, concurrency=2), Worker(gator, lease_for=0.4)):
        eventually(lambda: gator.stats().dead == 1 and gator.stats().succeeded == 1)

    told = [record for record in caplog.records if "does not heed" in record.getMessage()]
    assert [record.__dict__["task_id"] for record in told] == [task.task_id]
    assert "--isolate" in told[0].getMessage()
    assert gator.stats().lost == 0


def test_a_retry_waits_for_its_pause(gator: Gator) -> None:
    gator.options(retries=1, backoff=[30]).task(fail)

    burst(gator)

    assert (gator.stats().scheduled, gator.stats().dead) == (1, 0)


def test_a_hook_may_grant_more_attempts(gator: Gator) -> None:
    gator.options(on_error=try_once_more, backoff=0).task(fail)

    burst(gator)

    assert (gator.stats().retried, gator.stats().dead) == (1, 1)


@pytest.mark.parametrize(
    "func", [raise_unspeakable, raise_unstorable, exit_program], ids=lambda func: func.__name__
)
def test_whatever_a_task_raises_the_worker_lives_on(
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
def test_a_hook_that_spoils_the_task_costs_no_more_than_the_task(
    gator: Gator, hook: Callable[..., None]
) -> None:
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
        '{"task_id": "x", "retries": 0, "is_async": true, "module": "no_such", "callable": "f"}',
        '{"task_id": "x", "retries": 0, "is_async": true, "module": "os", "callable": "no_such"}',
        '{"task_id": "x", "retries": 3, "is_async": true, "module": "tests.sample_tasks", '
        '"callable": "fail", "attempt": -9, "options": {"backoff": [1]}}',
        '{"task_id": "x", "retries": 3, "is_async": true, "module": "tests.sample_tasks", '
        '"callable": "fail", "options": {"backoff": "soon"}}',
    ],
    ids=lambda data: data[:20],
)
def test_what_is_no_task_goes_to_the_dead_letters(gator: Gator, data: str) -> None:
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


def test_a_task_class_that_fails_costs_no_more_than_the_task(gator: Gator) -> None:
    gator.task(note, 1)
    gator.task_class = Rude

    burst(gator)

    assert gator.dead_letters()[0].reason == "KeyError: 'rude'"


# A worker of one's own.


class Own(Worker):
    """A worker of Alligator 1.0's time: it says and does things in its own way."""

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


def test_what_a_subclass_overrides_is_called(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    gator.task(add, 1, 2)
    worker = Own(gator, max_tasks=1)

    worker.run_forever()

    assert worker.calls == ["starting", "check", 3, "stopping"]
    assert "My worker starts on all, for 1 tasks" in caplog.text


def test_a_subclass_that_keeps_running_in_interrupt_is_stopped_all_the_same(gator: Gator) -> None:
    worker = Own(gator)

    with running(worker):
        eventually(lambda: "check" in worker.calls)

    assert worker.calls[-2:] == ["interrupt", "stopping"]


class Popping(Worker):
    """A worker that takes its tasks in its own way."""

    def check_and_run_task(self) -> bool:
        if not self.gator.len():
            return False
        self.gator.pop()
        return True


def test_a_subclass_may_take_its_tasks_in_its_own_way(gator: Gator) -> None:
    for number in range(3):
        gator.task(note, number)

    worker = Popping(gator, max_tasks=2)
    worker.run_forever()

    assert (ran, worker.tasks_complete) == ([0, 1], 2)


def test_a_subclass_that_raises_what_a_task_raises_lives_on(gator: Gator) -> None:
    gator.task(fail)
    gator.task(note, "next")

    with running(Popping(gator)):
        eventually(lambda: ran)

    assert gator.stats().dead == 1


class Resultless(Worker):
    """A worker that breaks when it is told of a result."""

    def result(self, result: Any) -> None:
        raise KeyError(result)


def test_a_subclass_that_breaks_loses_and_repeats_nothing(gator: Gator) -> None:
    for number in range(3):
        gator.task(note, number)

    burst(gator)
    Resultless(gator, burst=True).run_forever()

    assert ran == [0, 1, 2]
    assert gator.stats().succeeded == 3


# Prefetching.


def test_nothing_waits_behind_a_long_task_while_another_worker_is_idle() -> None:
    gators = [Gator("locmem://prefetch"), Gator("locmem://prefetch")]
    gates["long"] = Event()
    for number in range(200):
        gators[0].task(note, number)
    gators[0].task(note_and_wait, "long")
    for number in range(200, 210):
        gators[0].task(note, number)

    with running(Worker(gators[0])):
        eventually(lambda: "long" in ran)
        with running_only(Worker(gators[1])):
            eventually(lambda: len(ran) == 211, seconds=2)

    assert {name for name in ran if name != "long"} == set(range(210))
    assert len(ran) == 211


@contextmanager
def running_only(worker: Worker) -> Iterator[None]:
    """Run one worker in a thread, leaving all gates as they are."""
    thread = Thread(target=worker.run_forever)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(10)


def test_short_tasks_are_taken_in_batches() -> None:
    gator = Gator("locmem://", backend_class=Counting)
    for number in range(400):
        gator.task(note, number)

    burst(gator)

    assert len(ran) == 400
    assert len(gator.backend.asked) < 40


def test_long_tasks_are_taken_one_by_one() -> None:
    gator = Gator("locmem://", backend_class=Counting)
    for number in range(4):
        gator.task(note_pause, f"{number}", 0.05)

    burst(gator)

    assert set(gator.backend.asked) == {1}


def test_tasks_that_become_long_are_taken_one_by_one_from_then_on() -> None:
    gator = Gator("locmem://", backend_class=Counting)
    for number in range(200):
        gator.task(note, number)
    for number in range(130):
        gator.task(note_pause, f"{number}", 0.01)

    burst(gator)

    assert max(gator.backend.asked) > 1
    assert set(gator.backend.asked[-20:]) == {1}


class Counting(Locmem):
    """A store that notes how many tasks are asked for."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.asked: list[int] = []

    def step(self, queue_names: Sequence[str], limit: int, **settings: Any) -> Step:
        if limit:
            self.asked.append(limit)
        return super().step(queue_names, limit, **settings)


def test_what_is_given_back_keeps_its_order() -> None:
    gator = Gator("locmem://")
    gates["long"] = Event()
    for number in range(200):
        gator.task(note, number)
    gator.task(note_and_wait, "long")
    for number in range(200, 260):
        gator.task(note, number)

    with running(Worker(gator)):
        eventually(lambda: "long" in ran)
        eventually(lambda: gator.stats().leased == 1)
        gates["long"].set()
        eventually(lambda: len(ran) == 261)

    assert [number for number in ran if number != "long"] == list(range(260))


# Leases.


def test_a_long_task_is_kept_by_its_worker(gator: Gator) -> None:
    gator.task(note_pause, "long", 1.2)

    with running(Worker(gator, lease_for=0.3), Worker(gator, lease_for=0.3)):
        eventually(lambda: ran)
        eventually(lambda: gator.stats().succeeded)

    assert ran == ["long"]
    assert gator.stats().lost == 0


def test_a_task_whose_worker_is_gone_runs_again_when_its_lease_ends(gator: Gator) -> None:
    gator.task(note, "lost and found")
    gator.client.reserve("all", lease_for=0.1)

    with running(Worker(gator)):
        eventually(lambda: ran, seconds=2)

    assert gator.stats().lost == 1


def test_a_task_that_takes_every_worker_with_it_is_dead(gator: Gator) -> None:
    gator.task(note, "poison")
    for _ in range(2):
        gator.client.reserve("all", lease_for=0)

    burst(gator, max_lost=2)

    [letter] = gator.dead_letters()
    assert "lost 2 times" in letter.reason
    assert ran == []


def test_the_heart_beats_on_when_the_store_breaks_for_a_moment() -> None:
    gator = Gator("locmem://", backend_class=Hiccuping)
    gator.task(note_pause, "long", 0.8)

    with running(Worker(gator, lease_for=0.4)):
        eventually(lambda: gator.stats().succeeded)

    assert gator.backend.hiccups > 1
    assert ran == ["long"]


class Hiccuping(Locmem):
    """A store that fails at every second extension, in a way nobody has foreseen."""

    hiccups = 0

    def extend(self, leases: Sequence[Lease], lease_for: float = LEASE_SECONDS) -> list[Lease]:
        self.hiccups += 1
        if self.hiccups % 2:
            raise ZeroDivisionError
        return super().extend(leases, lease_for)


def test_a_worker_shows_that_it_lives_and_then_that_it_does_not(gator: Gator) -> None:
    worker = Worker(gator)

    with running(worker):
        eventually(lambda: gator.client.workers())
        [info] = gator.client.workers()
    after = gator.client.workers()

    assert (info.name, list(info.queues)) == (worker.name, ["all"])
    assert after == []


def test_a_long_task_is_shown_before_the_next_heartbeat(gator: Gator) -> None:
    def shown() -> list[str]:
        return [each.function for info in gator.client.workers() for each in info.running]

    gates["long"] = Event()

    with running(Worker(gator)):
        eventually(lambda: gator.client.workers())
        gator.task(note_and_wait, "long")
        eventually(shown, seconds=4)
        assert shown()[0].endswith("note_and_wait")
        gates["long"].set()
        eventually(lambda: not shown(), seconds=4)


# A store that goes away.


class Shaky(Locmem):
    """A store that can be away."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.away = Event()
        self.asked = 0

    def step(
        self,
        queue_names: Sequence[str],
        limit: int,
        *,
        outcomes: Sequence[Outcome] = (),
        lease_for: float = LEASE_SECONDS,
        max_lost: int = MAX_LOST,
    ) -> Step:
        if self.away.is_set():
            self.asked += 1
            raise BackendUnavailable("gone fishing")
        return super().step(
            queue_names, limit, outcomes=outcomes, lease_for=lease_for, max_lost=max_lost
        )


def test_a_worker_outlives_its_store(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    store: Shaky = gator.backend
    gates["first"] = Event()
    gator.task(note_and_wait, "first")

    with running(Worker(gator)):
        eventually(lambda: ran == ["first"])
        store.away.set()
        gates["first"].set()
        gator.task(note, "second")
        time.sleep(0.5)
        asked = store.asked
        store.away.clear()
        eventually(lambda: ran == ["first", "second"])
        eventually(lambda: gator.stats().succeeded == 2)

    assert 1 < asked < 8
    assert caplog.text.count("gone fishing") == 1
    assert "well again" in caplog.text


def test_of_a_store_that_is_away_one_thread_speaks_for_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    store: Shaky = gator.backend
    store.away.set()
    gator.task(note, 1)

    with running(Worker(gator, concurrency=4)):
        eventually(lambda: store.asked >= 8)
        store.away.clear()
        eventually(lambda: "well again" in caplog.text)
        time.sleep(0.1)

    assert caplog.text.count("gone fishing") == 1
    assert caplog.text.count("well again") == 1
    assert ran == [1]


def test_a_store_that_is_away_all_night_is_asked_in_the_morning(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    store: Shaky = gator.backend
    store.away.set()
    gator.task(note, "morning")
    pauses: list[float] = []

    def sleep(self: Worker, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5000:
            store.away.clear()

    monkeypatch.setattr(Worker, "_sleep", sleep)
    burst(gator)

    assert ran == ["morning"]
    assert max(pauses) == 5


def test_a_worker_stops_though_its_store_is_away(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    store: Shaky = gator.backend
    gates["long"] = Event()
    gator.task(note_and_wait, "long")

    with running(Worker(gator)):
        eventually(lambda: ran)
        store.away.set()

    assert "gone fishing" in caplog.text
    assert gator.stats().leased == 1


# Stopping.


def test_a_stop_lets_what_runs_finish_and_gives_the_rest_back(gator: Gator) -> None:
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


def test_a_stop_wakes_a_worker_that_waits(gator: Gator) -> None:
    worker = Worker(gator)
    thread = Thread(target=worker.run_forever)
    thread.start()
    eventually(lambda: gator.client.workers())

    start = time.monotonic()
    worker.stop()
    thread.join(20)

    assert time.monotonic() - start < SLACK


def test_a_stop_that_comes_before_the_start_is_not_lost(gator: Gator) -> None:
    worker = Worker(gator)
    thread = Thread(target=worker.run_forever)

    worker.stop()
    thread.start()
    thread.join(5)
    stopped = not thread.is_alive()
    worker.stop()

    assert stopped


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_second_stop_gives_back_what_runs(
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


def test_a_stop_gives_back_what_takes_longer_than_the_time_out(gator: Gator) -> None:
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


def test_a_worker_may_run_again_after_a_stop(gator: Gator) -> None:
    worker = Worker(gator)
    with running(worker):
        eventually(lambda: gator.client.workers())

    with running(worker):
        gator.task(note, "again")
        eventually(lambda: ran)

    assert ran == ["again"]


def raise_interrupt() -> None:
    """Raise KeyboardInterrupt, as Ctrl-C in a program without handlers does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_interrupt_that_a_task_raises_itself_is_a_failure_of_the_task(
    gator: Gator, concurrency: int
) -> None:
    gator.options(retries=1, backoff=0, on_error=note_status).task(raise_interrupt)
    gator.task(note, "next")

    burst(gator, concurrency=concurrency)

    assert sorted(map(str, ran)) == sorted([str(FAILED), str(FAILED), "next"])
    assert gator.dead_letters()[0].reason == "KeyboardInterrupt: "
    assert (gator.stats().retried, gator.stats().dead) == (1, 1)


def interrupt_hook(task: Task, about: object) -> None:
    """Be a hook that raises KeyboardInterrupt."""
    ran.append(type(about).__name__)
    raise KeyboardInterrupt


def test_an_interrupt_out_of_a_hook_changes_nothing(gator: Gator) -> None:
    gator.options(on_success=interrupt_hook).task(note, 1)
    gator.options(on_error=interrupt_hook).task(fail)
    gator.options(on_error=interrupt_hook).task(raise_interrupt)
    gator.task(note, "next")

    burst(gator)

    assert ran == [1, "int", "RuntimeError", "KeyboardInterrupt", "next"]
    assert (gator.stats().succeeded, gator.stats().dead) == (2, 2)


def test_running_one_by_hand_gives_the_task_back_when_interrupted(gator: Gator) -> None:
    gator.task(raise_interrupt)
    worker = Worker(gator)

    with pytest.raises(KeyboardInterrupt):
        worker.check_and_run_task()

    assert (gator.stats().ready, gator.stats().leased) == (1, 0)


def test_popping_by_hand_gives_the_task_back_when_interrupted(gator: Gator) -> None:
    gator.task(raise_interrupt)

    with pytest.raises(KeyboardInterrupt):
        gator.pop()

    assert (gator.stats().ready, gator.stats().leased) == (1, 0)


# Real processes on a real file.

PROGRAM = """
import json, sys
from alligator import Gator, Worker
dsn, settings = sys.argv[1], json.loads(sys.argv[2])
sys.exit(Worker(Gator(dsn), **settings).run_forever())
"""


class Program:
    """A worker in a process of its own."""

    def __init__(self, dsn: str, directory: Path, settings: dict[str, Any]) -> None:
        script = directory / "run_tasks.py"
        script.write_text(PROGRAM)
        self.log = directory / f"worker-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, script, dsn, json.dumps(settings)],
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def is_up(self) -> bool:
        return " starts on " in self.log.read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 10) -> int:
        return self.process.wait(seconds)


Start = Callable[..., Program]


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/queue.db"


@pytest.fixture
def start(dsn: str, tmp_path: Path) -> Iterator[Start]:
    """Start a worker as a program, and end it with the test."""
    programs: list[Program] = []

    def start_one(**settings: Any) -> Program:
        programs.append(Program(dsn, tmp_path, settings))
        return programs[-1]

    yield start_one
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_task_whose_worker_was_killed_runs_again(dsn: str, tmp_path: Path, start: Start) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    gator.task(record_both_ends, str(out), "task", 0.8)
    first = start(lease_for=0.6)
    eventually(lambda: lines(out))

    first.signal(signal.SIGKILL)
    killed = time.monotonic()
    start(lease_for=0.6)
    eventually(lambda: len(lines(out)) == 2)
    waited = time.monotonic() - killed
    eventually(lambda: "end task" in lines(out))

    assert waited < 5
    assert lines(out) == ["begin task", "begin task", "end task"]


def test_a_terminated_worker_finishes_what_it_runs_and_gives_back_the_rest(
    dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, out, gate = Gator(dsn), tmp_path / "out", tmp_path / "gate"
    gator.task(record, str(out), "before")
    gator.task(sleep_until, str(gate))
    for _ in range(3):
        gator.task(record, str(out), "after")
    worker = start()
    eventually(lambda: (gator.stats().succeeded, gator.stats().leased) == (1, 1))

    worker.signal(signal.SIGTERM)
    eventually(lambda: "is stopping" in worker.log.read_text())
    gate.touch()
    code = worker.wait()

    assert code == 0
    assert lines(out) == ["before"]
    assert (gator.stats().succeeded, gator.stats().ready, gator.stats().leased) == (2, 3, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_at_once_when_told_to(start: Start, number: int) -> None:
    worker = start()
    eventually(worker.is_up)

    told = time.monotonic()
    worker.signal(number)

    assert worker.wait() == 0
    assert time.monotonic() - told < 10  # of the minute that it has for tasks
    assert "has stopped after 0 tasks" in worker.log.read_text()


@pytest.mark.parametrize("ending", ["second signal", "time-out"])
def test_a_task_that_does_not_end_goes_back_and_the_status_says_so(
    dsn: str, start: Start, ending: str
) -> None:
    gator = Gator(dsn)
    gator.task(sleep_for, 60)
    worker = start(shutdown_timeout=0.2 if ending == "time-out" else 60)
    eventually(lambda: gator.stats().leased == 1)

    worker.signal(signal.SIGTERM)
    if ending == "second signal":
        eventually(lambda: "is stopping" in worker.log.read_text())
        worker.signal(signal.SIGTERM)

    assert worker.wait() == 1
    assert "not finished in time, goes back" in worker.log.read_text()
    assert (gator.stats().ready, gator.stats().leased) == (1, 0)


def test_what_a_terminated_worker_has_not_begun_is_run_by_others_at_once(
    dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    with gator.transaction():
        for number in range(900):
            gator.task(record, str(out), str(number))
    first = start()
    eventually(lambda: len(lines(out)) > 50)

    first.signal(signal.SIGTERM)
    code = first.wait()
    done = len(lines(out))
    leased = gator.stats().leased
    start(burst=True).wait(30)

    assert (code, leased) == (0, 0)
    assert 50 < done < 900
    assert lines(out) == [str(number) for number in range(900)]
    assert gator.stats().lost == 0


def test_a_task_that_takes_its_workers_with_it_is_dead_after_so_many(
    dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    gator.task(crash)
    gator.task(record, str(out), "next")

    codes = [start(lease_for=0.3, max_lost=2).wait() for _ in range(2)]
    start(lease_for=0.3, max_lost=2)
    eventually(lambda: gator.stats().dead == 1 and lines(out))

    assert codes == [3, 3]
    assert "lost 2 times" in gator.dead_letters()[0].reason


def test_workers_side_by_side_run_each_task_once(dsn: str, tmp_path: Path, start: Start) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    with gator.transaction():
        for number in range(200):
            gator.task(record, str(out), str(number))

    workers = [start(burst=True), start(burst=True, concurrency=4)]
    codes = [worker.wait(30) for worker in workers]

    assert codes == [0, 0]
    assert sorted(lines(out), key=int) == [str(number) for number in range(200)]


def test_a_dead_worker_does_not_keep_its_tasks_from_a_live_one(
    dsn: str, tmp_path: Path, start: Start
) -> None:
    gator, out = Gator(dsn), tmp_path / "out"
    gator.task(record_and_die, str(out), "ran")

    workers = [start(lease_for=0.3, max_lost=2) for _ in range(3)]
    eventually(lambda: gator.stats().dead == 1)

    assert lines(out) == ["ran", "ran"]
    assert sum(worker.process.poll() is None for worker in workers) == 1


def cpu_seconds(pid: int) -> float:
    """Ask how long a process has had a core."""
    facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_waiting_costs_next_to_nothing(start: Start) -> None:
    worker = start()
    eventually(worker.is_up)
    time.sleep(0.5)  # until it has begun to wait
    before = cpu_seconds(worker.process.pid)

    time.sleep(2)

    assert cpu_seconds(worker.process.pid) - before < 0.15


def test_statuses_are_left_as_hooks_see_them(gator: Gator) -> None:
    gator.options(on_error=note_status).task(fail)

    burst(gator)

    assert ran == [FAILED]


def note_status(task: Task, error: BaseException) -> None:
    """Be a hook."""
    ran.append(task.status)


def test_a_lane_survives_the_watch_at_any_moment() -> None:
    # Its batch is taken from two sides: nothing may run twice or be lost on the way.
    gator = Gator("locmem://")
    for number in range(1000):
        gator.task(note, number)
    lane = Lane(gator, ["all"], 60.0, 5)
    ended = Event()

    def watch() -> None:
        while not ended.is_set():
            lane.held()
            lane.give_back()

    thread = Thread(target=watch)
    thread.start()
    while len(ran) < 1000:
        lease = lane.next(50)
        if lease is not None:
            lane.run(lease)
    ended.set()
    thread.join()
    lane.settle()

    assert sorted(ran) == list(range(1000))
    assert gator.stats().succeeded == 1000


def test_a_lane_that_slept_for_longer_than_its_lease_gives_back_what_it_woke_up_to() -> None:
    class Slow(Locmem):
        """A store whose reply lies there while its worker is frozen, and another does the work."""

        def wait_then_step(self, *args: Any, **options: Any) -> Step:
            self.push_many(messages)
            step = super().wait_then_step(*args, **options)
            time.sleep(2 * options["lease_for"])
            for lease in self.reserve("all"):
                self.ack(lease)
            return step

    gator = Gator("locmem://", backend_class=Slow)
    task = gator.task_class("a")
    task.to_call(note, 1)
    messages = [Message("all", "a", gator.write(task, "all"))]
    lane = Lane(gator, ["all"], 0.05, 5)
    lane.next(1)

    lane.wait(5)

    assert lane.next(1) is None
    assert gator.stats().lost == gator.stats().succeeded == 1


def test_the_log_level_is_the_workers(gator: Gator) -> None:
    assert Worker(gator, log_level="WARNING").log.level == logging.WARNING
    assert Worker(gator).log.level == logging.INFO
