"""A timeout interrupts a task's own code, until the task has ended, and nothing else."""

import gc
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from inspect import CORO_CLOSED, getcoroutinestate
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import pytest

from alligator import Gator, Task, Worker
from alligator._runtime import timeouts
from alligator._runtime.interrupts import NEVER_INTERRUPTED, Interrupt
from alligator._runtime.timeouts import call
from alligator.exceptions import TaskTimeout
from tests.harness.programs import ROOT, SLACK, environment, eventually
from tests.harness.sample_tasks import add, spin

heard: list[Any] = []


@pytest.fixture(autouse=True)
def clean() -> None:
    heard.clear()


@pytest.fixture(params=["sqlite", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/queue.db"
    return f"{request.getfixturevalue('valkey')}?ns=timeouts"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[logging.Logger]:
    log = logging.getLogger("test.timeouts")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = logging.FileHandler(tmp_path / "log")
    log.addHandler(handler)
    yield log
    log.removeHandler(handler)
    handler.close()


def forever(step: Callable[[], object]) -> Callable[[], None]:
    """Make a function that does *step* again and again."""

    def run() -> None:
        while True:
            step()

    return run


def push_two(gator: Gator) -> None:
    with gator.transaction():
        gator.task(add, 1, 2)
        gator.task(add, 3, 4)


def query(connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute("INSERT INTO own VALUES (1)")


def timed_out(seconds: float, func: Callable[[], object]) -> TaskTimeout:
    with pytest.raises(TaskTimeout) as caught:
        call(seconds, func, (), {})
    return caught.value


def is_begun(trace: TracebackType | None) -> bool:
    """Whether code that must not be interrupted was, after its first step."""
    frames = []
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    inner = frames[1:]  # the first is `call`, which waits for the function
    if inner and inner[-1][0].f_code.co_name == "checkpoint":
        return False
    last = len(inner) - 1
    return any(
        frame.f_globals["__name__"].partition(".")[0] in NEVER_INTERRUPTED
        and not (number == last and line == frame.f_code.co_firstlineno)
        for number, (frame, line) in enumerate(inner)
    )


def test_timeouts_leave_nothing_locked_and_interrupt_only_own_code(
    store: str, log: logging.Logger, tmp_path: Path
) -> None:
    gator = Gator(store)
    own = sqlite3.connect(tmp_path / "own.db", check_same_thread=False, isolation_level=None)
    own.execute("CREATE TABLE own (number)")
    steps: list[Callable[[], object]] = [
        lambda: gator.task(add, 1, 2),
        lambda: log.info("one line of %s", "many"),
        gator.stats,
        lambda: push_two(gator),
        lambda: query(own),
        lambda: time.sleep(0.001),
        lambda: None,
    ]
    times: list[float] = []
    wrong: list[BaseException | None] = []

    def run_one(number: int) -> None:
        for turn in range(125):
            began = time.monotonic()
            error = timed_out(0.02, forever(steps[(turn + number) % len(steps)]))
            times.append(time.monotonic() - began)
            cause = error.__cause__
            if not isinstance(cause, Interrupt) or is_begun(cause.__traceback__):
                wrong.append(cause)

    threads = [threading.Thread(target=run_one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert wrong == []
    assert len(times) == 500
    assert sorted(times)[450] < 0.02 * 2 + SLACK
    for handler in log.handlers:
        assert handler.lock is not None
        assert handler.lock.acquire(timeout=5)
        handler.lock.release()
    other = Gator(store)
    before = other.stats().ready
    other.task(add, 1, 2)
    assert other.stats().ready == before + 1
    own.execute("BEGIN IMMEDIATE")
    own.execute("ROLLBACK")
    own.close()


def retry_a_network(errors: type[Exception]) -> None:
    """A task that handles each error as one of its network."""
    while True:
        with suppress(errors):
            time.sleep(0.01)


@pytest.mark.parametrize("errors", [Exception, OSError, TimeoutError])
def test_task_that_handles_errors_is_interrupted_nevertheless(errors: type[Exception]) -> None:
    error = timed_out(0.05, lambda: retry_a_network(errors))

    assert isinstance(error.__cause__, Interrupt)
    assert str(error) == "the task took longer than 0.05 seconds"


def swallow_once() -> str:
    """A task that continues after its first interruption."""
    until = time.monotonic() + 60
    try:
        while time.monotonic() < until:
            time.sleep(0.01)
    except BaseException:
        heard.append("interrupted")
    return "done"


def swallow_twice() -> None:
    swallow_once()
    swallow_once()


def test_call_that_returns_after_an_interruption_has_failed() -> None:
    timed_out(0.05, swallow_once)

    assert heard == ["interrupted"]


def test_interruption_is_repeated() -> None:
    timed_out(0.05, swallow_twice)

    assert heard == ["interrupted", "interrupted"]


def test_error_that_replaces_an_interruption_is_the_timeouts_cause() -> None:
    def convert() -> None:
        try:
            while True:
                pass
        except BaseException as error:
            raise ValueError("what the task makes of it") from error

    error = timed_out(0.05, convert)

    assert isinstance(error.__cause__, ValueError)


def test_error_of_a_task_that_was_not_interrupted_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        call(60, lambda: 1 / 0, (), {})


def test_call_that_cannot_be_interrupted_fails_if_it_ends_late() -> None:
    with pytest.raises(TaskTimeout):
        call(0.05, time.sleep, (0.2,), {})


def test_call_that_ends_in_time_returns() -> None:
    assert call(60, add, (1,), {"b": 2}) == 3


def test_inner_of_two_limits_ends_only_the_inner_call() -> None:
    def outer() -> str:
        timed_out(0.05, forever(lambda: None))
        return "goes on"

    assert call(60, outer, (), {}) == "goes on"


def test_outer_of_two_limits_ends_both_calls() -> None:
    def outer() -> None:
        try:
            call(60, forever(lambda: None), (), {})
        except TaskTimeout:  # it is not the inner that was late
            heard.append("inner")

    timed_out(0.05, outer)

    assert heard == []


def test_both_of_two_limits_end_at_the_same_moment() -> None:
    def outer() -> None:
        timed_out(0.05, forever(lambda: None))
        while True:
            pass

    timed_out(0.05, outer)


def test_interruption_never_arrives_after_the_call_has_ended() -> None:
    late = 0
    for turn in range(200):
        end = time.monotonic() + 0.002 + turn % 5 * 0.0005

        def wait(end: float = end) -> None:
            while time.monotonic() < end:
                pass

        try:
            call(0.003, wait, (), {})
        except TaskTimeout:
            late += 1
        for _ in range(300):  # an interruption that is still on its way would come here
            len([])

    assert 0 < late < 200


def spin_inside(dsn: str) -> None:
    """Run another task, which has no timeout, in this process."""
    Gator(dsn).options(is_async=False, retries=3).task(spin)


def hear(task: Task, error: BaseException) -> None:
    """A hook."""
    heard.append(type(error))


@pytest.mark.parametrize("observe", ["setprofile", "settrace"])
def test_process_can_be_observed_after_a_timeout(observe: str) -> None:
    # Python 3.11 hangs here if an exception was withdrawn that had not arrived.
    program = f"""
import sys
from alligator._runtime.timeouts import TaskTimeout, call
from tests.harness.sample_tasks import add, spin

try:
    call(0.05, spin, (), {{}})
except TaskTimeout:
    print("timed out")
sys.{observe}(lambda *event: None)
print(add(1, 2))
"""
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (found.stdout, found.stderr) == ("timed out\n3\n", "")


def test_task_run_inline_by_a_task_is_interrupted_and_not_retried() -> None:
    gator = Gator("locmem://")
    gator.options(timeout=0.1).task(spin_inside, "locmem://")

    Worker(gator, burst=True).run_forever()

    (letter,) = gator.dead_letters()
    assert letter.reason.startswith("TaskTimeout: the task took longer than 0.1 seconds")


def test_dead_letter_shows_where_the_task_was() -> None:
    gator = Gator("locmem://")
    gator.options(timeout=0.1, on_error=hear).task(spin)

    Worker(gator, burst=True).run_forever()

    (letter,) = gator.dead_letters()
    assert ", in spin" in (letter.traceback or "")
    assert heard == [TaskTimeout]


def use_the_store(dsn: str) -> None:
    """Push without end, and hold on to nothing."""
    gator = Gator(dsn)
    while True:
        gator.options(delay_by=3600).task(add, 1, 2)


def test_worker_continues_after_tasks_that_push_without_end(store: str) -> None:
    gator = Gator(store, "mine")
    for _ in range(5):
        gator.options(timeout=0.1).task(use_the_store, store)
    gator.task(hear_of, "the next")

    Worker(gator, burst=True, concurrency=2).run_forever()

    assert heard == ["the next"]
    assert gator.stats().dead == 5


def hear_of(what: str) -> None:
    """Leave *what* behind."""
    heard.append(what)


def test_record_factory_is_restored_after_a_timeout(
    log: logging.Logger,
) -> None:
    timed_out(0.05, forever(lambda: log.info("a line")))

    eventually(lambda: logging.getLogRecordFactory() is logging.LogRecord)


PATCHED = """
from gevent.monkey import patch_all
patch_all()
import time
from alligator.exceptions import TaskTimeout
from alligator._runtime.timeouts import call
def nap():
    for _ in range(30):
        time.sleep(0.01)
    print("went to its end")
try:
    call(0.1, nap, (), {})
except TaskTimeout as error:
    print(error)
"""


def test_call_under_gevent_is_not_interrupted_and_fails_if_late() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PATCHED],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.splitlines() == ["went to its end", "the task took longer than 0.1 seconds"]


def test_coroutine_that_was_created_too_late_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing() -> None: ...

    def end_late(limit: Any) -> None:
        limit.is_over = True

    monkeypatch.setattr(timeouts._watcher, "remove", end_late)
    made = nothing()

    with pytest.raises(TaskTimeout):
        call(60, cast("Callable[[], object]", lambda: made), (), {})

    assert getcoroutinestate(made) == CORO_CLOSED
    timeouts._watcher._limits.clear()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="collections begin elsewhere since 3.12")
def test_garbage_collection_is_off_while_frames_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enabled: list[bool] = []

    def frames() -> dict[int, Any]:
        enabled.append(gc.isenabled())
        return {}

    monkeypatch.setattr(sys, "_current_frames", frames)

    timeouts._interrupt(threading.get_ident())

    assert enabled == [False]
    assert gc.isenabled()


def test_call_can_be_ended_before_its_limit() -> None:
    ident, meant = threading.get_ident(), threading.Event()

    def end() -> None:
        timeouts.end_call(ident, lambda: False)
        timeouts.end_call(ident + 1, lambda: True)
        assert not meant.wait(0.2)
        timeouts.end_call(ident, lambda: True)

    def start_and_spin() -> None:
        thread.start()
        spin()

    thread = threading.Thread(target=end)
    with pytest.raises(TaskTimeout):
        try:
            call(60.0, start_and_spin, (), {})
        finally:
            meant.set()
            thread.join()
    assert call(60.0, add, (1, 2), {}) == 3
