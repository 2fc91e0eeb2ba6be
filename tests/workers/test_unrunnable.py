"""A task that a worker cannot run goes back to its queue and costs the task nothing."""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from errno import EMFILE
from pathlib import Path
from textwrap import dedent
from threading import Thread
from typing import Any

import pytest

from alligator import Gator, Task, Worker
from alligator.backends.base import WorkerInfo
from alligator.exceptions import InvalidOption
from alligator.monitoring.stats import measure
from alligator.tasks import new_id
from tests.harness.programs import eventually, lines, running
from tests.harness.workers import workers_running

UNKNOWN = (
    '{{"task_id":"{0}","retries":0,"is_async":true,"module":"{1}","callable":"record",'
    '"args":[],"kwargs":{{}},"options":{{}}}}'
)

ran: list[Any] = []


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    ran.clear()
    yield
    ran.clear()


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def record() -> None:
    ran.append("ran")


async def record_later() -> None:
    ran.append("ran")


def note_error(task: Task, error: BaseException) -> None:
    ran.append(error)


def push_unknown(gator: Gator, module: str = "no_such_module") -> None:
    task_id = new_id()
    gator.client.push(gator.queue_name, task_id, UNKNOWN.format(task_id, module))


def burst(gator: Gator, **settings: Any) -> Worker:
    worker = Worker(gator, burst=True, **settings)
    worker.run_forever()
    return worker


def test_burst_releases_an_unrunnable_task_and_ends(gator: Gator) -> None:
    for _ in range(20):
        push_unknown(gator)
    gator.task(record)

    worker = burst(gator, concurrency=2)

    stats = gator.stats()
    assert ran == ["ran"]
    assert (gator.len(), stats.dead, stats.failed, stats.retried, stats.lost) == (
        20,
        0,
        0,
        0,
        0,
    )
    assert worker.tasks_complete == 1


def test_burst_ends_with_more_unrunnable_tasks_than_it_can_postpone(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.execution.attempt.MAX_RELEASE_PAUSE", 0.0)
    monkeypatch.setattr("alligator.workers.loop.MAX_RELEASE_PAUSE", 0.1)
    push_unknown(gator)
    gator.task(record)

    burst(gator)

    assert ran == ["ran"]
    assert gator.len() == 1


def test_unrunnable_task_is_logged_as_an_error_once_per_function(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        push_unknown(gator)
        push_unknown(gator, "another_module")

    worker = burst(gator, log_level=logging.DEBUG)

    said = [r for r in caplog.records if "cannot run" in r.getMessage()]
    errors = [r.getMessage() for r in said if r.levelno == logging.ERROR]
    assert len(said) >= 10
    assert [m.split()[4] for m in errors] == ["no_such_module.record;", "another_module.record;"]
    assert "Check that it was started in the right directory." in errors[0]
    assert str(Path.cwd()) in errors[0]
    assert list(worker.unrunnable) == ["no_such_module.record", "another_module.record"]


def test_announced_worker_shows_what_it_cannot_run(gator: Gator) -> None:
    push_unknown(gator)
    worker = Worker(gator, nap_time=0.01)

    worker.check_and_run_task()
    worker._announce(alive=True)

    [in_stats] = measure(gator)["stores"][0]["workers"]
    assert in_stats["unrunnable"] == ["no_such_module.record"]
    [info] = gator.client.workers()
    assert info.unrunnable == {
        "no_such_module.record": "UnknownModuleError: cannot import no_such_module: "
        "ModuleNotFoundError: No module named 'no_such_module'"
    }


def test_function_that_can_run_again_is_no_longer_announced(
    gator: Gator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_unknown(gator, "comes_later")
    worker = Worker(gator)
    worker.check_and_run_task()
    (tmp_path / "comes_later.py").write_text("def record(): pass")
    monkeypatch.syspath_prepend(tmp_path)

    def has_run() -> bool:
        for _ in range(2):  # the first only reports the outcome of the last
            worker.check_and_run_task()
        return gator.stats().succeeded == 1

    eventually(has_run)

    assert worker.unrunnable == {}


def test_workers_of_different_versions_understand_each_other() -> None:
    info = WorkerInfo("w", unrunnable={"a.b": "why"})

    assert WorkerInfo.from_json(info.to_json(), 1.0).unrunnable == {"a.b": "why"}
    assert WorkerInfo.from_json('{"name": "w", "queues": []}', 1.0).unrunnable == {}


def test_unrunnable_task_is_dead_when_its_time_is_over(gator: Gator) -> None:
    push_unknown(gator)

    burst(gator, unrunnable_after=0)

    [letter] = gator.dead_letters()
    assert letter.reason.startswith("NotRunnable: no worker that took it could run it")
    assert "No module named 'no_such_module'" in letter.reason


def test_isolated_worker_releases_an_unrunnable_task(tmp_path: Path) -> None:
    gator = Gator(f"sqlite://{tmp_path}/queue.db")
    push_unknown(gator)

    worker = burst(gator, isolate=True)

    assert (gator.len(), gator.stats().dead) == (1, 0)
    assert list(worker.unrunnable) == ["no_such_module.record"]


@pytest.mark.parametrize(
    "settings",
    [
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"max_tasks": -1},
        {"max_tasks": "3"},
        {"max_lost": -1},
        {"memory": 0, "isolate": True},
        {"nap_time": -1},
        {"nap_time": float("nan")},
        {"lease_for": 0},
        {"lease_for": 1e10},
        {"shutdown_timeout": float("inf")},
        {"unrunnable_after": -1},
        {"unrunnable_after": "day"},
    ],
    ids=str,
)
def test_numbers_of_a_worker_are_checked(gator: Gator, settings: dict[str, Any]) -> None:
    name = next(iter(settings))

    with pytest.raises(InvalidOption, match=f"^{name} is a"):
        Worker(gator, **settings)


# Trouble of the worker itself.


class NotAtFirst:
    """Calls *func*, but raises *error* in place of the first call."""

    def __init__(self, func: Any, error: BaseException) -> None:
        self.func, self.error = func, error
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise self.error
        return self.func(*args, **kwargs)


def no_descriptor() -> Any:
    make = NotAtFirst(asyncio.new_event_loop, OSError(EMFILE, "Too many open files"))
    return lambda kind: make


def no_thread() -> Any:
    start = NotAtFirst(Thread.start, RuntimeError("can't start new thread"))

    class Started(Thread):
        def start(self) -> None:
            start(self)

    return Started


def no_memory() -> Any:
    return NotAtFirst(asyncio.Task, MemoryError())


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("alligator.workers.event_loop.loop_maker", no_descriptor),
        ("alligator._runtime.event_loops.Thread", no_thread),
        ("alligator.workers.dispatcher.Thread", no_thread),
        ("alligator.workers.coroutines.asyncio.Task", no_memory),
    ],
)
def test_trouble_of_the_worker_releases_a_coroutine_uncounted(
    gator: Gator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    make: Callable[[], Any],
) -> None:
    monkeypatch.setattr(name, make())
    gator.options(on_error=note_error).task(record_later)

    with workers_running(Worker(gator)):
        eventually(lambda: gator.stats().succeeded == 1)

    stats = gator.stats()
    assert "cannot run" in caplog.text
    assert (ran, stats.failed, stats.retried, stats.lost, stats.dead) == (["ran"], 0, 0, 0, 0)


# Real processes.

APP = """
def record(path, number):
    with open(path, "ab", buffering=0) as file:
        file.write(f"{number}\\n".encode())
"""


@pytest.fixture(params=["sqlite", "valkey"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/queue.db"
    base: str = request.getfixturevalue("valkey")
    return f"{base}?ns={tmp_path.name}"


def check_that_a_healthy_worker_runs_all(dsn: str, tmp_path: Path, number: int) -> None:
    """Run a worker in the wrong folder on *number* tasks, then check that a healthy one runs all."""
    app, elsewhere, out = tmp_path / "app", tmp_path / "elsewhere", tmp_path / "out"
    app.mkdir()
    elsewhere.mkdir()
    (app / "its_tasks.py").write_text(dedent(APP))
    gator = Gator(dsn)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(app)
        import its_tasks  # type: ignore[import-not-found]

        for first in range(0, number, 1000):
            with gator.transaction():
                for each in range(first, min(first + 1000, number)):
                    gator.task(its_tasks.record, str(out), each)
        del sys.modules["its_tasks"]

    with running(dsn, log=tmp_path / "wrong.log", cwd=elsewhere) as wrong:
        eventually(lambda: gator.stats().scheduled > number * 0.9, 300)
        assert wrong.log.read_text().count("cannot run its_tasks.record") == 1
        with running(dsn, "-c", "2", log=tmp_path / "right.log", cwd=app):
            eventually(lambda: gator.stats().succeeded >= number / 2, 300)
            wrong.terminate()
            eventually(lambda: gator.stats().succeeded == number, 300)

    stats = gator.stats()
    assert (stats.dead, stats.dropped, stats.failed, stats.retried, stats.lost) == (0, 0, 0, 0, 0)
    assert sorted(map(int, lines(out))) == list(range(number))


def test_worker_in_the_wrong_folder_costs_tasks_nothing(dsn: str, tmp_path: Path) -> None:
    check_that_a_healthy_worker_runs_all(dsn, tmp_path, 300)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_worker_in_the_wrong_folder_costs_any_number_of_tasks_nothing(
    dsn: str, tmp_path: Path
) -> None:
    check_that_a_healthy_worker_runs_all(dsn, tmp_path, 12_000)
