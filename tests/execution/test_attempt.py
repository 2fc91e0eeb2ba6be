"""The outcome of an attempt: success, failure, or a task that cannot be run here."""

import asyncio
import gc
import logging
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread
from typing import Any

import pytest

from alligator import SUCCESS, Gator, Lease, Task, current_task
from alligator._runtime import event_loops
from alligator.backends.base import Outcome
from alligator.exceptions import (
    BadSignature,
    InvalidOption,
    NotRunnable,
    UnknownCallableError,
    UnknownModuleError,
)
from alligator.execution.attempt import (
    Attempt,
    LeaseEnded,
    attempt,
    bury_overdue,
    fail,
    postpone,
    succeeded,
)
from alligator.payload.envelope import Released, last_error_in, released_in
from alligator.testing import drain, sync
from tests.harness import sample_tasks
from tests.harness.sample_tasks import NoAttributes, NoMessage

UNKNOWN = (
    '{"task_id": "x", "retries": 3, "is_async": true, "module": "no_such_module", "callable": "f", '
    '"args": [1], "kwargs": {}, "options": {}}'
)


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    seen.clear()
    yield
    seen.clear()


def reserve(gator: Gator) -> Lease:
    [lease] = gator.client.reserve("all")
    return lease


def note_run() -> None:
    seen.append("ran")


def test_success_is_an_attempt_with_all_fields() -> None:
    lease, task = Lease("all", "x", "{}", 7), Task()

    done = succeeded(lease, task, 0.0, 2)

    assert done == Attempt(Outcome("ack", lease), task, None, done.seconds, 2)
    assert (type(done), type(done.outcome)) == (Attempt, Outcome)


def test_lease_is_checked_after_the_task_was_read(gator: Gator) -> None:
    gator.task(note_run)
    lease = reserve(gator)
    checked: list[Lease] = []

    def holds(each: Lease) -> bool:
        checked.append(each)
        return False

    with pytest.raises(LeaseEnded):
        attempt(gator, lease, holds=holds)

    assert checked == [lease]
    assert seen == []


# A retry repeats the original call.


def spoil(items: list[Any], options: dict[str, Any]) -> None:
    """Change the arguments, and fail."""
    seen.append((list(items), dict(options)))
    items.append("x")
    options["conn"] = object()
    task = current_task()
    assert task is not None
    task.func_args, task.func_kwargs = (1, 2), {"a": object()}
    task.task_id, task.func = "other", print
    raise OSError("the real error")


SPOILED = [(["a"], {"b": {"c": 1}})] * 3


def test_retry_repeats_the_original_call(gator: Gator) -> None:
    gator.options(retries=2).task(spoil, ["a"], options={"b": {"c": 1}})

    with pytest.raises(OSError, match="the real error"):
        drain(gator)

    assert seen == SPOILED
    [letter] = gator.dead_letters()
    assert letter.reason == "OSError: the real error"
    assert (gator.stats().retried, gator.stats().dead) == (2, 1)


def test_inline_retry_repeats_the_original_call(gator: Gator) -> None:
    with pytest.raises(OSError, match="the real error"):
        gator.options(retries=2, is_async=False).task(spoil, ["a"], options={"b": {"c": 1}})
    assert seen == SPOILED

    seen.clear()
    with sync(), pytest.raises(OSError, match="the real error"):
        gator.options(retries=2).task(spoil, ["a"], options={"b": {"c": 1}})
    assert seen == SPOILED


def grow(text: list[str]) -> None:
    text.append("x" * 300_000)
    raise OSError("the real error")


def test_task_that_makes_its_arguments_too_large_is_retried(gator: Gator) -> None:
    gator.options(retries=1).task(grow, [])

    done = attempt(gator, reserve(gator))

    assert done.outcome.verdict == "retry"


def boom() -> None:
    raise OSError("the real error")


def test_changes_of_a_hook_are_written_for_the_retry(gator: Gator) -> None:
    gator.options(retries=1, on_error=set_options).task(boom)

    done = attempt(gator, reserve(gator))

    assert done.outcome.verdict == "retry"
    again = Task.deserialize(done.outcome.data or "")
    assert (again.retries, again.timeout, again.backoff) == (4, 60, [1, 2])
    assert (again.headers, again.attempt) == ({"page": "3"}, 2)
    assert done.outcome.delay == 1


def set_options(task: Task, error: BaseException) -> None:
    task.retries = 5
    task.timeout = timedelta(minutes=1)  # type: ignore[assignment]
    task.backoff = [timedelta(seconds=1), 2]  # type: ignore[list-item]
    task.headers["page"] = "3"


class Hooks:
    @staticmethod
    def retries(task: Task, error: BaseException) -> None:
        task.retries = 1.5  # type: ignore[assignment]

    @staticmethod
    def retries_object(task: Task, error: BaseException) -> None:
        task.retries = object()  # type: ignore[assignment]

    @staticmethod
    def headers(task: Task, error: BaseException) -> None:
        task.headers = {"a": 1}  # type: ignore[dict-item]

    @staticmethod
    def backoff(task: Task, error: BaseException) -> None:
        task.backoff = [-1]

    @staticmethod
    def timeout(task: Task, error: BaseException) -> None:
        task.timeout = 1e10

    @staticmethod
    def depends_on(task: Task, error: BaseException) -> None:
        task.depends_on = 7  # type: ignore[assignment]

    @staticmethod
    def on_start(task: Task, error: BaseException) -> None:
        task.on_start = lambda task: None


HOOKS = [getattr(Hooks, name) for name in vars(Hooks) if not name.startswith("_")]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_task_that_cannot_be_written_is_dead_with_its_own_error(
    gator: Gator, hook: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    gator.options(retries=2, on_error=hook).task(boom)

    done = attempt(gator, reserve(gator))

    assert isinstance(done.error, OSError)
    assert done.outcome.verdict == "dead"
    assert done.outcome.reason == "OSError: the real error"
    assert "in boom" in done.outcome.traceback
    assert "Alligator could not write it for a retry" in done.outcome.traceback
    assert "Alligator could not write it for a retry" in caplog.text


@pytest.mark.parametrize("hook", HOOKS[:3], ids=lambda hook: hook.__name__)
def test_inline_task_that_cannot_be_written_raises_its_own_error(
    gator: Gator, hook: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(OSError, match="the real error"):
        gator.options(retries=2, on_error=hook, is_async=False).task(boom)

    assert "is not retried" in caplog.text


class Control(BaseException):
    """What a framework interrupts with, such as gevent.Timeout."""


def raise_control() -> None:
    seen.append("ran")
    raise Control


def test_interruption_of_an_inline_run_is_not_retried(gator: Gator) -> None:
    with pytest.raises(Control):
        gator.options(retries=2, is_async=False).task(raise_control)

    assert seen == ["ran"]


# Failures while handling a failure.


def raise_no_message() -> None:
    raise NoMessage


async def raise_no_message_later() -> None:
    raise NoMessage


def raise_no_attributes() -> None:
    raise NoAttributes("x")


def raise_bad_syntax() -> None:
    raise SyntaxError("bad", ("f", 1, 2, 123))  # type: ignore[arg-type]


BROKEN = [raise_no_message, raise_no_message_later, raise_no_attributes, raise_bad_syntax]


@pytest.mark.parametrize("func", BROKEN, ids=lambda func: func.__name__)
def test_error_that_cannot_be_formatted_fails_its_task(
    gator: Gator, func: Callable[..., Any]
) -> None:
    gator.options(retries=1).task(func)

    first = attempt(gator, reserve(gator))
    gator.client.step((), 0, outcomes=[first.outcome._replace(delay=0.0)])
    second = attempt(gator, reserve(gator))

    assert (first.outcome.verdict, second.outcome.verdict) == ("retry", "dead")
    assert type(second.error).__name__ in second.outcome.reason
    assert func.__name__ in second.outcome.traceback


def succeed() -> None: ...


def hook_that_raises_no_message(task: Task, about: object) -> None:
    raise NoMessage


@pytest.mark.parametrize("raises", [True, False])
def test_hooks_and_log_handlers_that_break_undo_nothing(gator: Gator, *, raises: bool) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit(3)

    hooks: Any = {
        "on_error": hook_that_raises_no_message,
        "on_success": hook_that_raises_no_message,
    }
    gator.options(**hooks).task(boom if raises else succeed)
    log = logging.getLogger("alligator")
    handler = Broken()
    log.addHandler(handler)
    try:
        done = attempt(gator, reserve(gator))
    finally:
        log.removeHandler(handler)

    assert done.outcome.verdict == ("dead" if raises else "ack")


# Failures that are not the task's fault.


@pytest.mark.parametrize(
    ("module", "name", "kind"),
    [
        ("no_such_module", "f", UnknownModuleError),
        ("tests.no_such_module", "f", UnknownModuleError),
        ("os", "no_such_function", UnknownCallableError),
        ("os", "name", UnknownCallableError),
    ],
)
@pytest.mark.parametrize("hook", ["", "on_start", "on_error"])
def test_function_that_cannot_be_imported_here_is_released(
    gator: Gator, module: str, name: str, kind: type[Exception], hook: str
) -> None:
    data = UNKNOWN.replace("no_such_module", module).replace('"f"', f'"{name}"')
    if hook:
        options = f'{{"{hook}": {{"module": "{module}", "callable": "{name}"}}}}'
        data = UNKNOWN.replace("no_such_module", "os").replace('"f"', '"getpid"')
        data = data.replace('"options": {}', f'"options": {options}')
    lease = Lease("all", "x", data)

    done = attempt(gator, lease)

    assert isinstance(done.error, kind)
    assert done.outcome.verdict == "release"
    assert 0.5 <= done.outcome.delay <= 1
    assert done.task is None
    released = released_in(done.outcome.data or "")
    assert released is not None
    assert released.times == 1
    assert '"retries":3' in (done.outcome.data or "")


def test_pauses_between_releases_grow_to_a_minute(gator: Gator) -> None:
    pauses, data = [], UNKNOWN
    for _ in range(10):
        outcome = attempt(gator, Lease("all", "x", data)).outcome
        pauses.append(outcome.delay)
        data = outcome.data or ""

    assert all(0.5 * 2**n <= pauses[n] <= 2**n for n in range(6))
    assert all(30 <= pause <= 60 for pause in pauses[6:])
    released = released_in(data)
    assert released is not None
    assert released.times == 10


def test_healthy_worker_runs_a_released_task_as_its_first_attempt(gator: Gator) -> None:
    gator.options(retries=1).task(boom)
    data = reserve(gator).data
    task_id = Task.deserialize(data).task_id
    released, _ = gator.guard.note_release("all", task_id, data)

    done = attempt(gator, Lease("all", task_id, released))

    assert done.number == 1
    assert done.outcome.verdict == "retry"
    assert "released" not in (done.outcome.data or "released")


def test_signed_payload_stays_signed() -> None:
    gator = Gator("locmem://", secret="s3cret")
    data = gator.guard.seal("all", "x", UNKNOWN)

    done = attempt(gator, Lease("all", "x", data))

    assert done.outcome.verdict == "release"
    assert '"released"' in gator.guard.open("all", "x", done.outcome.data or "")


def test_forged_or_forbidden_or_garbage_payload_is_dead_at_once() -> None:
    signing = Gator("locmem://", secret="s3cret")
    choosy = Gator("locmem://", allow="shop.*")
    garbage = UNKNOWN.replace("no_such_module", "../etc")
    lease = Lease("all", "x", UNKNOWN)

    assert attempt(signing, lease).outcome.verdict == "dead"
    assert attempt(choosy, lease).outcome.verdict == "dead"
    assert attempt(Gator("locmem://"), lease._replace(data=garbage)).outcome.verdict == "dead"
    assert isinstance(postpone(signing, lease, NotRunnable()).error, BadSignature)


def test_payload_with_an_invalid_release_note_is_garbage(gator: Gator) -> None:
    for note in ('"x"', "[1]", "[1,2]", '["a","b","c"]', "[1e400,1,1]", "[1,true,1]", "7"):
        data = f'{UNKNOWN[:-1]}, "released": {note}}}'

        assert attempt(gator, Lease("all", "x", data)).outcome.verdict == "dead"


def test_payload_that_is_no_json_is_dead_with_its_reason(gator: Gator) -> None:
    class Reversed(Task):
        @classmethod
        def deserialize(cls, data: str) -> "Reversed":
            return super().deserialize(data[::-1])

    gator.task_class = Reversed

    done = attempt(gator, Lease("all", "x", UNKNOWN[::-1]))

    assert done.outcome.verdict == "dead"
    assert done.outcome.reason.startswith("UnknownModuleError: cannot import no_such_module")


def test_task_that_cannot_run_is_dead_after_a_day(gator: Gator) -> None:
    first = attempt(gator, Lease("all", "x", UNKNOWN))
    since = released_in(first.outcome.data or "")
    assert since is not None
    long_ago = released_with(Released(since.since - 86_500, 1500, since.last))

    assert bury_overdue(first, 86_400).outcome.verdict == "release"
    late = bury_overdue(attempt(gator, Lease("all", "x", long_ago)), 86_400)

    assert late.outcome.verdict == "dead"
    assert "1501 times" in late.outcome.reason
    assert "No module named 'no_such_module'" in late.outcome.reason
    assert "UnknownModuleError" in late.outcome.traceback


def test_task_that_was_released_long_ago_begins_again(gator: Gator) -> None:
    done = attempt(gator, Lease("all", "x", released_with(Released(1.0, 1500, 2.0))))

    assert bury_overdue(done, 86_400).outcome.verdict == "release"
    assert done.outcome.delay <= 1


def released_with(released: Released) -> str:
    return f'{UNKNOWN[:-1]}, "released": {list(released)}}}'


@pytest.mark.parametrize("outcome", ["ack", "retry", "dead"])
def test_only_releases_are_overdue(outcome: Any) -> None:
    lease = Lease("all", "x", UNKNOWN)
    done = attempt(Gator("locmem://"), lease)
    done = done._replace(outcome=Outcome(outcome, lease, data=done.outcome.data))

    assert bury_overdue(done, 0) is done


def test_grace_period_can_be_zero(gator: Gator) -> None:
    assert bury_overdue(attempt(gator, Lease("all", "x", UNKNOWN)), 0).outcome.verdict == "dead"


async def later() -> str:
    return "done"


def start_thread() -> None:
    Thread(target=print).start()


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each start of a thread fail.

    A real failure would leave a trace in this process: before 3.12.8, Python then cannot interrupt
    the thread that tried it (python/cpython#109746), and the tests of timeouts would hang.
    """

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "_start_new_thread", refuse, raising=False)
    monkeypatch.setattr(threading, "_start_joinable_thread", refuse, raising=False)


@contextmanager
def no_descriptor() -> Iterator[None]:
    """Make each opening of a file fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def note_error(task: Task, error: BaseException) -> None:
    seen.append(error)


# Python complains of an event loop that is half made.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_coroutine_without_a_descriptor_for_its_loop_is_released(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_loops, "_of_process", event_loops.BackgroundLoop())
    gator.options(on_error=note_error).task(later)
    lease = reserve(gator)

    with no_descriptor():
        done = attempt(gator, lease)

    assert done.outcome.verdict == "release"
    assert "Too many open files" in done.reason
    assert seen == []
    del done
    gc.collect()


def test_coroutine_without_a_thread_is_released(
    gator: Gator, no_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_loops, "_of_process", event_loops.BackgroundLoop())
    gator.options(on_error=note_error).task(later)
    lease = reserve(gator)

    async def inside_of_a_loop() -> Attempt:
        return attempt(gator, lease)

    done = asyncio.run(inside_of_a_loop())

    assert done.outcome.verdict == "release"
    assert "can't start new thread" in done.reason
    assert seen == []


def test_same_error_in_the_tasks_own_code_is_a_failure(gator: Gator, no_thread: None) -> None:
    gator.task(start_thread)

    assert attempt(gator, reserve(gator)).outcome.verdict == "dead"


# By hand.


def test_popping_a_task_that_cannot_run_here_says_why_and_puts_it_back(gator: Gator) -> None:
    gator.client.push("all", "x", UNKNOWN)

    with pytest.raises(UnknownModuleError, match="no_such_module"):
        gator.pop()

    stats = gator.stats()
    assert (gator.len(), stats.dead, stats.failed, stats.retried) == (1, 0, 0, 0)


@pytest.mark.parametrize("propagate", [True, False])
def test_draining_ends_at_a_task_that_cannot_run_here(gator: Gator, *, propagate: bool) -> None:
    gator.client.push("all", "x", UNKNOWN)

    if propagate:
        with pytest.raises(UnknownModuleError, match="no_such_module"):
            drain(gator)
    else:
        assert drain(gator, propagate=False) == 1

    assert gator.len() == 1


def test_task_whose_process_died_fails_with_the_given_reason(gator: Gator) -> None:
    gator.options(retries=1).task(boom)

    done = fail(gator, reserve(gator), OSError("died"))

    assert done.outcome.verdict == "retry"
    assert done.task is not None
    assert done.task.status != SUCCESS


def test_invalid_size_limit_is_refused() -> None:
    with pytest.raises(InvalidOption, match="max_task_bytes"):
        Gator("locmem://", max_task_bytes=0)


def test_task_that_is_to_be_retried_says_what_its_last_attempt_raised(gator: Gator) -> None:
    gator.options(retries=1, backoff=60).task(sample_tasks.fail, "no luck today")

    gator.pop()

    [waiting] = gator.client.scheduled("all")
    assert last_error_in(waiting.data) == "RuntimeError: no luck today"
    lease = gator.client.lease("all", waiting.task_id)
    assert lease is not None
    assert gator.read(lease).last_error == "RuntimeError: no luck today"


def test_note_of_an_error_does_not_make_a_task_too_large_for_its_retry() -> None:
    gator = Gator("locmem://", max_task_bytes=300)
    gator.options(retries=1, backoff=60).task(sample_tasks.fail, "x" * 100)

    gator.pop()

    [waiting] = gator.client.scheduled("all")
    assert last_error_in(waiting.data) == ""
