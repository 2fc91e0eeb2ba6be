"""Tasks that are canceled while they run end, count as canceled, and are never repeated."""

import asyncio
import logging
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from threading import Event

import pytest

from alligator import CANCELED, Gator, Task, Worker, current_task
from alligator.execution import heartbeat
from alligator.workers import cancellations
from tests.harness.programs import Program, eventually, lines, running
from tests.harness.workers import burst, gates, note, note_and_wait, ran, workers_running

LONG = 60.0


@pytest.fixture(autouse=True)
def _check_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "CHECK_SECONDS", 0.05)


def note_hook(task: Task, about: object) -> None:
    """A hook."""
    ran.append(f"hook of {task.name}")


async def wait_in_group() -> None:
    """Wait in each of the ways in which a coroutine waits."""
    ran.append("began")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_as_child("child"))
            async with asyncio.timeout(LONG):
                await wait_as_child("parent")
    finally:
        await asyncio.sleep(0)
        task = current_task()
        ran.append(f"end {task is not None and task.canceled}")


async def wait_as_child(name: str) -> None:
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        ran.append(name)
        raise


async def wait_once() -> None:
    ran.append("began")
    await asyncio.sleep(LONG)


async def swallow() -> None:
    ran.append("began")
    while not gates["swallow"].is_set():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)


async def swallow_and_return() -> str:
    ran.append("began")
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(LONG)
    return "returned"


async def fail_when_cancelled() -> None:
    ran.append("began")
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        raise ValueError("no luck") from None


def ask_whether_canceled(ending: str) -> None:
    ran.append("began")
    task = current_task()
    assert task is not None
    while not task.canceled:
        time.sleep(0.01)
    if ending == "raise":
        raise ValueError("no luck")


def spin() -> None:
    ran.append("began")
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        pass
    ran.append("not interrupted")


async def end_soon(seconds: float) -> None:
    await asyncio.sleep(seconds)


def canceled_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "canceled" in each.getMessage()]


# In one process.


@pytest.mark.parametrize(
    ("func", "args", "after"),
    [
        (wait_in_group, (), ["began", "child", "parent", "end True"]),
        (wait_once, (), ["began"]),
        (swallow_and_return, (), ["began"]),
        (fail_when_cancelled, (), ["began"]),
        (ask_whether_canceled, ("return",), ["began"]),
        (ask_whether_canceled, ("raise",), ["began"]),
        (spin, (), ["began"]),
    ],
)
def test_canceled_task_ends_without_hooks_and_retries(
    gator: Gator,
    caplog: pytest.LogCaptureFixture,
    func: Callable[..., object],
    args: tuple[str, ...],
    after: list[str],
) -> None:
    caplog.set_level(logging.INFO, "alligator")
    timeout = LONG if func is spin else None
    options = gator.options(retries=3, on_success=note_hook, on_error=note_hook, timeout=timeout)
    task = options.task(func, *args)
    worker = Worker(gator)

    with workers_running(worker):
        eventually(lambda: ran == ["began"])
        canceled = gator.cancel(task.task_id)
        eventually(lambda: worker.tasks_complete == 1)
        gator.task(note, "next")
        eventually(lambda: "next" in ran)

    assert canceled is not None
    assert (canceled.status, canceled.was_running) == (CANCELED, True)
    assert sorted(ran) == sorted([*after, "next"])
    stats = gator.stats()
    assert (stats.canceled, stats.succeeded, stats.failed, stats.retried) == (1, 1, 0, 0)
    assert (stats.lost, stats.dead, stats.leased, stats.ready) == (0, 0, 0, 0)
    [line] = canceled_lines(caplog)
    assert line.startswith("canceled while it ran: ")
    assert gator.cancel(task.task_id) is None


def test_task_that_waits_was_not_running_when_it_was_canceled(gator: Gator) -> None:
    canceled = gator.cancel(gator.task(note, "never").task_id)

    assert canceled is not None
    assert (canceled.status, canceled.was_running) == (CANCELED, False)
    burst(gator)
    assert ran == []


def test_other_coroutines_of_the_worker_continue(gator: Gator) -> None:
    gates["swallow"] = Event()
    tasks = [gator.task(wait_once) for _ in range(5)]
    gator.task(swallow)

    with workers_running(Worker(gator)):
        eventually(lambda: len(ran) == 6)
        for task in tasks:
            gator.cancel(task.task_id)
        eventually(lambda: gator.stats().canceled == 5)
        assert gator.stats().leased == 1
        gates["swallow"].set()
        eventually(lambda: gator.stats().succeeded == 1)


def test_canceled_task_counts_for_max_tasks(gator: Gator) -> None:
    task = gator.task(wait_once)
    worker = Worker(gator, max_tasks=2)

    with workers_running(worker):
        eventually(lambda: ran)
        gator.cancel(task.task_id)
        gator.task(note, "next")
        eventually(lambda: not worker._is_running)

    assert worker.tasks_complete == 2


def test_canceled_task_that_was_reserved_is_not_started(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alligator")
    gator.task(note, "canceled")
    worker = Worker(gator)
    thread = worker.this_thread()
    lease = thread.next(1)
    assert lease is not None
    gator.cancel(lease.task_id)

    cancellations.Cancellations(worker).end(gator.client.canceled([lease]))

    assert thread.run(lease) is None
    thread.report_outcomes()
    assert ran == []
    assert worker.lease_ends.skipped == 0
    [line] = canceled_lines(caplog)
    assert line.startswith("canceled before it started: ")


def test_coroutine_whose_lease_expired_is_not_cancelled(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates["swallow"] = Event()
    gator.task(swallow)
    worker = Worker(gator)

    with workers_running(worker):
        eventually(lambda: ran == ["began"])
        [lease] = worker._leases()
        gator.client.extend([lease], 0.0)  # as if the worker had been frozen
        [again] = gator.client.reserve("all")
        assert gator.client.extend([lease]) == [lease]
        gator.client.ack(again)  # another worker has run it since
        time.sleep(0.3)
        assert worker._leases() == [lease]
        assert gator.client.canceled([lease]) == []
        gates["swallow"].set()
        eventually(lambda: worker.tasks_complete == 1)

    assert (gator.stats().succeeded, gator.stats().canceled) == (1, 0)


@pytest.mark.parametrize("is_plain", [False, True])
def test_task_that_ignores_its_cancellation_is_named(
    gator: Gator,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    is_plain: bool,
) -> None:
    monkeypatch.setattr(cancellations, "NAME_AFTER", 0.2)
    gates["swallow"] = Event()
    task = gator.task(note_and_wait, "swallow") if is_plain else gator.task(swallow)
    worker = Worker(gator)

    with workers_running(worker):
        eventually(lambda: ran)
        gator.cancel(task.task_id)
        eventually(lambda: "still runs" in caplog.text)
        time.sleep(0.2)
        gates["swallow"].set()
        eventually(lambda: worker.tasks_complete == 1)

    assert caplog.text.count("still runs") == 1
    assert (gator.stats().succeeded, gator.stats().canceled) == (0, 1)


def test_canceled_runs_are_forgotten_after_a_while(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellations, "COMMIT_MEMORY", 0.0)
    worker = Worker(gator)
    found = cancellations.Cancellations(worker)
    gator.task(note, 1)
    gator.task(note, 2)
    first, second = gator.client.reserve("all", limit=2)

    found.end([first])
    time.sleep(0.01)
    found.end([second])

    assert list(worker.lease_ends.canceled) == [second]


@pytest.mark.parametrize("concurrency", [1, 20])
def test_tasks_that_end_as_they_are_canceled_do_one_or_the_other(
    gator: Gator, concurrency: int
) -> None:
    tasks = [gator.options(retries=1).task(end_soon, random.random() * 0.1) for _ in range(150)]
    accepted = 0

    with workers_running(Worker(gator, concurrency=concurrency)):
        random.shuffle(tasks)
        for task in tasks:
            accepted += gator.cancel(task.task_id) is not None
            time.sleep(0.002)
        eventually(lambda: gator.stats().leased + gator.stats().ready == 0)

    stats = gator.stats()
    assert stats.canceled == accepted
    assert stats.succeeded == len(tasks) - accepted
    assert (stats.retried, stats.failed, stats.lost) == (0, 0, 0)


class SlowToLeave(nullcontext[None]):
    """A context of tasks."""

    async def __aexit__(self, *exc_info: object) -> None:
        ran.append("leaving")
        await asyncio.sleep(LONG)


def test_task_that_is_canceled_as_its_context_ends_has_not_failed() -> None:
    gator = Gator("locmem://", task_context=SlowToLeave)
    task = gator.options(retries=1).task(end_soon, 0)

    with workers_running(worker := Worker(gator)):
        eventually(lambda: ran == ["leaving"])
        gator.cancel(task.task_id)
        eventually(lambda: worker.tasks_complete == 1)

    assert (gator.stats().canceled, gator.stats().retried) == (1, 0)


# Worker processes.

SHOP = """
import asyncio, time
from alligator import Gator, current_task

def record(line):
    with open("out", "ab", buffering=0) as file:
        file.write(f"{line}\\n".encode())

async def wait():
    record("began")
    try:
        await asyncio.sleep(60)
    finally:
        record(f"ended {type(asyncio.get_running_loop()).__module__.partition('.')[0]}")

async def swallow():
    record("began")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            record("swallowed")

def spin():
    record("began")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass

def ask():
    record("began")
    task = current_task()
    while not task.canceled:
        time.sleep(0.01)
    record("ended")

def say(what):
    record(what)
"""


@pytest.fixture
def shop(tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gator]:
    """Write an application, and return its gator."""
    (tmp_path / "shop.py").write_text(f"{SHOP}\ngator = Gator({dsn!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    gator: Gator = import_module("shop").gator
    yield gator
    sys.modules.pop("shop")


def work(tmp_path: Path, *options: str) -> AbstractContextManager[Program]:
    return running("--app", "shop:gator", *options, log=tmp_path / "log", cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "after"),
    [
        ("wait", [], ["ended asyncio"]),
        ("wait", ["--loop", "uvloop"], ["ended uvloop"]),
        ("wait", ["--isolate"], []),
        ("spin", ["--isolate"], []),
        ("spin", [], []),
        ("ask", [], ["ended"]),
    ],
)
def test_running_task_of_a_process_can_be_canceled(
    shop: Gator, tmp_path: Path, name: str, options: list[str], after: list[str]
) -> None:
    if "uvloop" in options:
        pytest.importorskip("uvloop")
    out = tmp_path / "out"
    func = getattr(sys.modules["shop"], name)
    timeout = LONG if name == "spin" and not options else None
    task = shop.options(retries=3, timeout=timeout).task(func)

    with work(tmp_path, *options) as worker:
        eventually(lambda: lines(out) == ["began"])
        began = time.monotonic()
        canceled = shop.cancel(task.task_id)
        eventually(lambda: worker.said("canceled while it ran"))
        took = time.monotonic() - began
        shop.task(sys.modules["shop"].say, "next")
        eventually(lambda: lines(out)[-1] == "next")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0

    assert canceled is not None
    assert canceled.was_running
    assert lines(out) == ["began", *after, "next"]
    assert took < 20
    stats = shop.stats()
    assert (stats.canceled, stats.succeeded, stats.retried, stats.lost) == (1, 1, 0, 0)
    assert stats.dead == stats.leased == 0


def test_worker_ends_although_a_coroutine_swallows_its_cancellation(
    shop: Gator, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    task = shop.task(sys.modules["shop"].swallow)

    with work(tmp_path, "--shutdown-timeout", "1") as worker:
        eventually(lambda: lines(out) == ["began"])
        shop.cancel(task.task_id)
        eventually(lambda: "swallowed" in lines(out))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 1

    assert not worker.said("released to its queue")
    assert (shop.stats().canceled, shop.stats().ready, shop.stats().leased) == (1, 0, 0)
