"""Coroutine tasks run at once on one event loop, as many as there are places."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from threading import Event, Lock, get_ident
from typing import Any

import pytest

from alligator import Gator, Task, Worker, current_task
from alligator._runtime import cancellation
from tests.harness.programs import eventually
from tests.harness.workers import burst, gates, note, note_and_wait, ran, workers_running

color: ContextVar[str] = ContextVar("color", default="none")


class Crowd:
    """Counts how many tasks run at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.now = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self.now -= 1


crowd = Crowd()

over = Event()
"""What `never_end` waits for."""


@pytest.fixture(autouse=True)
def _clean() -> None:
    crowd.__init__()  # type: ignore[misc]
    over.clear()


async def note_later(what: Any) -> Any:
    await asyncio.sleep(0)
    ran.append(what)
    return what


async def note_loop() -> None:
    ran.append((asyncio.get_running_loop(), get_ident()))


async def join_crowd(seconds: float = 0.02) -> None:
    with crowd:
        await asyncio.sleep(seconds)


def join_crowd_in_thread(seconds: float = 0.02) -> None:
    with crowd:
        time.sleep(seconds)


async def wait_at_gate(name: str) -> None:
    ran.append(name)
    while not gates[name].is_set():
        await asyncio.sleep(0.03)


async def fail_later() -> None:
    await asyncio.sleep(0)
    raise ValueError("no luck")


async def start_more(dsn: str) -> None:
    async with Gator(dsn).transaction():
        for number in range(3):
            Gator(dsn).task(note_later, number)
    Gator(dsn).task(note_later, "more")


def test_coroutines_run_on_one_loop_in_one_thread(gator: Gator) -> None:
    for _ in range(50):
        gator.task(note_loop)

    burst(gator, concurrency=4)

    assert len(set(ran)) == 1
    assert gator.stats().succeeded == 50


def test_hundred_coroutines_run_at_once_by_default(gator: Gator) -> None:
    for _ in range(250):
        gator.task(join_crowd)

    burst(gator)

    assert crowd.most == 100
    assert gator.stats().succeeded == 250


@pytest.mark.parametrize("concurrency", [1, 3, 20])
def test_concurrency_limits_both_kinds_together(gator: Gator, concurrency: int) -> None:
    for _ in range(60):
        gator.task(join_crowd, 0.005)
        gator.task(join_crowd_in_thread, 0.005)

    worker = burst(gator, concurrency=concurrency)

    assert crowd.most == concurrency
    assert gator.stats().succeeded == worker.tasks_complete == 120


def test_plain_tasks_run_one_by_one_by_default_while_coroutines_run(gator: Gator) -> None:
    gates["coroutine"] = Event()
    gator.task(wait_at_gate, "coroutine")
    for _ in range(5):
        gator.task(join_crowd_in_thread)

    with workers_running(Worker(gator)):
        eventually(lambda: gator.stats().succeeded == 5)

    assert crowd.most == 1


def test_long_plain_task_does_not_hold_up_coroutines(gator: Gator) -> None:
    gates["long"] = Event()
    gator.task(note_later, "first")
    gator.task(note_and_wait, "long")
    for number in range(300):
        gator.task(note_later, number)
        gator.task(note, "plain")

    with workers_running(Worker(gator)):
        eventually(lambda: "long" in ran)
        eventually(lambda: 50 in ran)
        assert "plain" not in ran
        gates["long"].set()
        eventually(lambda: gator.stats().succeeded == 602)


def test_long_coroutines_do_not_hold_up_plain_tasks(gator: Gator) -> None:
    gates["long"] = Event()
    for _ in range(120):
        gator.task(wait_at_gate, "long")
    for number in range(20):
        gator.task(note, number)

    with workers_running(Worker(gator)):
        eventually(lambda: 19 in ran)
        assert ran.count("long") == 100
        gates["long"].set()
        eventually(lambda: gator.stats().succeeded == 140)


def test_burst_runs_what_coroutines_start() -> None:
    gator = Gator("locmem://starts")
    gator.task(start_more, "locmem://starts")

    worker = burst(gator)

    assert sorted(map(str, ran)) == ["0", "1", "2", "more"]
    assert worker.tasks_complete == 5


def test_burst_ends_with_a_limit_of_tasks(gator: Gator) -> None:
    for number in range(30):
        gator.task(note_later if number % 2 else note, number)

    worker = burst(gator, max_tasks=17)

    assert len(ran) == worker.tasks_complete == 17
    assert (gator.stats().ready, gator.stats().leased) == (13, 0)


@pytest.mark.parametrize("concurrency", [None, 1, 8])
def test_limit_of_tasks_ends_a_worker(gator: Gator, concurrency: int | None) -> None:
    for number in range(300):
        gator.task(note_later if number % 3 else note, number)

    worker = Worker(gator, max_tasks=200, concurrency=concurrency)
    worker.run_forever()

    assert len(ran) == 200
    assert (gator.stats().ready, gator.stats().leased) == (100, 0)


def test_coroutine_is_retried_and_then_dead(gator: Gator, caplog: pytest.LogCaptureFixture) -> None:
    gator.options(retries=1, backoff=0).task(fail_later)

    burst(gator)

    [letter] = gator.dead_letters()
    assert letter.reason == "ValueError: no luck"
    frames = [line for line in letter.traceback.splitlines() if line.startswith("  File")]
    assert "in fail_later" in frames[0]
    assert len(frames) == 1
    assert gator.stats().retried == 1
    told = [record.levelname for record in caplog.records if hasattr(record, "alligator_event")]
    assert told == ["WARNING", "ERROR"]


@contextmanager
def task_context() -> Iterator[None]:
    ran.append("entered")
    yield
    ran.append("left")


async def fail_in_time() -> None:
    async with asyncio.timeout(60):
        await fail_later()


async def take_too_long() -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize("func", [fail_later, fail_in_time, take_too_long])
@pytest.mark.parametrize("settings", [{}, {"task_context": task_context}, {"isolate": True}])
def test_traceback_of_a_coroutine_begins_with_its_own_code(
    func: Any, settings: dict[str, Any], dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    gator = Gator(dsn, task_context=settings.get("task_context", nullcontext))
    gator.options(timeout=0.05 if func is take_too_long else 60).task(func)

    burst(gator, isolate=settings.get("isolate", False))

    [letter] = gator.dead_letters()
    for text in (letter.traceback, caplog.text):
        frames = [line for line in text.splitlines() if line.startswith("  File")]
        assert frames[0].endswith(f"in {func.__name__}")


def test_log_line_of_a_coroutine_is_that_of_any_task(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alligator")
    task = gator.options(headers={"request_id": "r"}).task(note_later, 1)

    burst(gator)

    [record] = [each for each in caplog.records if each.__dict__.get("alligator_event") == "done"]
    assert record.__dict__["task_id"] == task.task_id
    assert record.__dict__["request_id"] == "r"


async def on_start_later(task: Task) -> None:
    await asyncio.sleep(0)
    ran.append(("start", current_task() is task))


def on_success(task: Task, result: object) -> None:
    ran.append(("success", result))


async def on_error_later(task: Task, error: BaseException) -> None:
    await asyncio.sleep(0)
    ran.append(("error", type(error).__name__, asyncio.get_running_loop() is not None))


def test_hooks_of_coroutines_may_be_of_either_kind(gator: Gator) -> None:
    with gator.options(
        on_start=on_start_later, on_success=on_success, on_error=on_error_later
    ) as opts:
        opts.task(note_later, 1)
        opts.task(fail_later)

    burst(gator, concurrency=1)

    assert ran == [
        ("start", True),
        1,
        ("success", 1),
        ("start", True),
        ("error", "ValueError", True),
    ]


async def take_color() -> None:
    ran.append(color.get())
    color.set("green")
    await asyncio.sleep(0)


def test_context_variables_of_a_coroutine_are_hidden_from_the_next(gator: Gator) -> None:
    for _ in range(5):
        gator.task(take_color)

    burst(gator, concurrency=1)

    assert ran == ["none"] * 5


def use_own_loop() -> None:
    """Use asyncio as programs did before `asyncio.run`."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    ran.append(loop)


def note_whether_loop_is_kept() -> None:
    loop = asyncio.get_event_loop_policy().get_event_loop()
    ran.append(loop is ran[0])
    loop.close()
    asyncio.set_event_loop(None)


def test_current_loop_of_plain_tasks_stays_as_it_is(gator: Gator) -> None:
    gator.task(use_own_loop)
    gator.task(note_later, "coroutine")
    gator.task(note_whether_loop_is_kept)

    burst(gator, concurrency=1)

    assert ran[1:] == ["coroutine", True]


async def swallow() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        ran.append("swallowed")


async def sleep_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))


@pytest.mark.parametrize("func", [swallow, sleep_in_a_group])
def test_coroutine_that_takes_too_long_has_failed(gator: Gator, func: Any) -> None:
    gator.options(timeout=0.05, on_error=on_error_later).task(func)
    gator.task(note_later, "next")

    burst(gator)

    assert gator.dead_letters()[0].reason == "TaskTimeout: the task took longer than 0.05 seconds"
    assert ("error", "TaskTimeout", True) in ran
    assert "next" in ran


async def swallow_often(times: int) -> None:
    for _ in range(times):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ran.append("swallowed")


def test_coroutine_that_swallows_its_timeout_is_named(
    gator: Gator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.workers.threads.OVERRUN_SECONDS", 0.2)
    monkeypatch.setattr(cancellation, "REPEAT_SECONDS", 0.05)
    task = gator.options(timeout=0.05).task(swallow_often, 40)

    with workers_running(Worker(gator)):
        eventually(lambda: gator.stats().dead)

    named = [each for each in caplog.records if "exceeded its timeout" in each.getMessage()]
    assert [each.__dict__["task_id"] for each in named] == [task.task_id]


def test_heartbeat_extends_the_leases_of_coroutines(gator: Gator) -> None:
    gates["long"] = Event()
    for _ in range(10):
        gator.task(wait_at_gate, "long")

    with workers_running(Worker(gator, lease_for=0.4), Worker(gator, lease_for=0.4)):
        eventually(lambda: len(ran) == 10)
        time.sleep(1)  # several leases long
        gates["long"].set()
        eventually(lambda: gator.stats().succeeded == 10)

    assert (len(ran), gator.stats().lost) == (10, 0)


def test_stop_lets_coroutines_end(gator: Gator) -> None:
    gates["long"] = Event()
    for _ in range(150):
        gator.task(wait_at_gate, "long")
    worker = Worker(gator)

    with workers_running(worker):
        eventually(lambda: len(ran) == 100)
        worker.stop()
        eventually(lambda: gator.stats().ready == 50)
        gates["long"].set()
        eventually(lambda: gator.stats().succeeded == 100)

    assert (gator.stats().succeeded, gator.stats().leased) == (100, 0)


async def wait_for_end() -> None:
    ran.append("began")
    try:
        await asyncio.sleep(60)
    finally:
        ran.append("cleaned up")


def test_end_of_a_worker_cancels_coroutines_and_releases_their_tasks(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        gator.options(retries=3, on_error=on_error_later).task(wait_for_end)
    worker = Worker(gator, shutdown_timeout=0.1)

    with workers_running(worker):
        eventually(lambda: ran.count("began") == 20)

    stats = gator.stats()
    assert (stats.ready, stats.leased, stats.failed, stats.retried) == (20, 0, 0, 0)
    assert ran.count("cleaned up") == 20
    assert not [each for each in ran if "error" in each]
    assert caplog.text.count("not finished in time; released") == 20


async def never_end() -> None:
    ran.append("began")
    while not over.is_set():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)


def test_swallowed_cancellation_does_not_keep_a_worker_from_ending(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    gator.task(never_end)

    try:
        with workers_running(Worker(gator, shutdown_timeout=0.1)):
            eventually(lambda: ran == ["began"])
    finally:
        over.set()

    assert (gator.stats().ready, gator.stats().leased) == (1, 0)
    assert caplog.text.count("not finished in time; released") == 1


class Resulting(Worker):
    """A worker that notes results."""

    def result(self, result: Any) -> None:
        ran.append(("result", result))
        raise KeyError(result)


def test_result_of_a_coroutine_goes_to_the_worker(gator: Gator) -> None:
    gator.task(note_later, 7)
    gator.task(note_later, 8)

    Resulting(gator, burst=True).run_forever()

    assert {("result", 7), ("result", 8)} <= set(ran)
    assert gator.stats().succeeded == 2


def test_timings_of_coroutines_are_reported(gator: Gator) -> None:
    gator.task(note_later, 1)

    burst(gator)

    figures = gator.client.figures("all")
    assert figures
    assert any(name.startswith("run") for name in figures)


class OwnRun(Gator):
    """A gator that runs tasks in its own way."""

    def run(self, task: Task) -> Task:
        ran.append("own run")
        return super().run(task)


def test_run_of_a_subclass_is_called_for_coroutines_too() -> None:
    gator = OwnRun("locmem://")
    gator.task(note_loop)
    gator.task(note_loop)

    burst(gator)

    loops = [each for each in ran if each != "own run"]
    assert ran.count("own run") == 2
    assert loops[0] == loops[1]


def test_context_of_tasks_surrounds_coroutines() -> None:
    gator = Gator("locmem://", task_context=task_context)
    gator.task(note_later, "ran")

    burst(gator)

    assert ran == ["entered", "ran", "left"]


class Asynchronous:
    """A context that both kinds of tasks can enter."""

    def __enter__(self) -> None:
        ran.append("entered")

    def __exit__(self, *exc_info: object) -> None:
        ran.append("left")

    async def __aenter__(self) -> None:
        await asyncio.sleep(0)
        ran.append("entered asynchronously")

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.sleep(0)
        ran.append("left asynchronously")


def note_plainly() -> None:
    ran.append("plain")


def test_context_that_can_be_asynchronous_is_so_for_coroutines() -> None:
    gator = Gator("locmem://", task_context=Asynchronous)
    gator.task(note_later, "ran")
    burst(gator)
    gator.task(note_plainly)
    burst(gator)

    assert ran == [
        *("entered asynchronously", "ran", "left asynchronously"),
        *("entered", "plain", "left"),
    ]


def select() -> Any:
    """Return an awaitable from a plain function."""
    return note_loop()


def test_awaitable_of_a_plain_function_runs_on_the_same_loop(gator: Gator) -> None:
    for func in (select, note_loop, select):
        gator.task(func)

    burst(gator)

    assert len(set(ran)) == 1


# The lifespan.


@asynccontextmanager
async def clients() -> AsyncIterator[dict[str, Any]]:
    loop = asyncio.get_running_loop()
    ran.append("opened")
    yield {"loop": loop, "lock": asyncio.Lock()}
    assert asyncio.get_running_loop() is loop
    ran.append("closed")


@contextmanager
def plain_clients() -> Iterator[str]:
    ran.append("opened")
    yield "state"
    ran.append("closed")


async def use_lock() -> None:
    task = current_task()
    assert task is not None
    assert task.state["loop"] is asyncio.get_running_loop()
    async with task.state["lock"]:
        await asyncio.sleep(0)
    ran.append("used")


def note_state() -> None:
    task = current_task()
    assert task is not None
    ran.append(task.state)


@pytest.mark.parametrize("concurrency", [None, 1, 4])
def test_lifespan_surrounds_all_tasks_of_a_worker(concurrency: int | None) -> None:
    gator = Gator("locmem://", lifespan=clients)
    for _ in range(30):
        gator.task(use_lock)

    burst(gator, concurrency=concurrency)

    assert ran == ["opened", *["used"] * 30, "closed"]
    assert gator.stats().succeeded == 30


@pytest.mark.parametrize("concurrency", [None, 3])
def test_plain_tasks_see_the_state_of_a_plain_lifespan(concurrency: int | None) -> None:
    gator = Gator("locmem://", lifespan=plain_clients)
    gator.task(note_state)

    burst(gator, concurrency=concurrency)

    assert ran == ["opened", "state", "closed"]


def test_task_has_no_state_without_a_lifespan(gator: Gator) -> None:
    gator.task(note_state)

    burst(gator)

    assert ran == [None]


@asynccontextmanager
async def broken() -> AsyncIterator[None]:
    raise OSError("the database cannot be reached")
    yield


async def undecorated() -> None: ...


@pytest.mark.parametrize(
    ("lifespan", "why"),
    [
        (broken, "OSError: the database cannot be reached"),
        (undecorated, "lifespan must return a context manager"),
    ],
)
def test_lifespan_that_cannot_start_ends_the_worker_before_any_task(
    lifespan: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    gator = Gator("locmem://", lifespan=lifespan)
    gator.task(note, 1)

    status = Worker(gator).run_forever()

    assert status == 1
    assert why in caplog.text
    assert (ran, gator.stats().ready, gator.stats().lost) == ([], 1, 0)


@asynccontextmanager
async def slow_start() -> AsyncIterator[None]:
    ran.append("starting")
    await asyncio.sleep(60)
    yield


def test_stop_ends_a_worker_whose_lifespan_is_starting() -> None:
    gator = Gator("locmem://", lifespan=slow_start)

    with workers_running(Worker(gator)):
        eventually(lambda: ran == ["starting"])


@asynccontextmanager
async def breaks_at_the_end() -> AsyncIterator[None]:
    yield
    raise OSError("it cannot be closed")


def test_lifespan_that_fails_at_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    gator = Gator("locmem://", lifespan=breaks_at_the_end)
    gator.task(note, 1)

    burst(gator)

    assert gator.stats().succeeded == 1
    assert "OSError: it cannot be closed" in caplog.text


async def note_flask_app() -> None:
    from flask import current_app

    await asyncio.sleep(0.001)
    ran.append(current_app.name)


def test_flask_context_surrounds_each_coroutine() -> None:
    flask = pytest.importorskip("flask")
    from flask_alligator import Alligator

    gator = Gator("locmem://")
    Alligator(flask.Flask("shop"), gator)
    for _ in range(20):
        gator.task(note_flask_app)

    burst(gator)

    assert ran == ["shop"] * 20
