"""A task is one call: written as JSON, read back, and run with its hooks and pauses."""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator import (
    CANCELED,
    DEFERRED,
    FAILED,
    RETRYING,
    SUCCESS,
    WAITING,
    Gator,
    Task,
    current_task,
)
from alligator.constants import MAX_SECONDS
from alligator.exceptions import InvalidOption, NotImportable, PayloadError
from alligator.tasks.decisions import MAX_BACKOFF
from tests.harness.payloads import DEEP
from tests.harness.sample_tasks import add, add_later, fail, fail_later, sleep_later

KEYS_OF_1_0 = [
    "task_id",
    "retries",
    "is_async",
    "module",
    "callable",
    "args",
    "kwargs",
    "options",
]


def ready(func: Any, *args: Any, **options: Any) -> Task:
    """Make a task that is ready to run."""
    task = Task(**options)
    task.to_call(func, *args)
    return task


# What hooks and functions of these tests write down.
seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    seen.clear()
    yield
    seen.clear()


def starts(task: Task) -> None:
    seen.append(("start", task.status))


def succeeds(task: Task, result: Any) -> None:
    seen.append(("success", task.status, result))


def fails(task: Task, error: BaseException) -> None:
    seen.append(("error", task.status, type(error).__name__))


def breaks(task: Task, *about: object) -> None:
    seen.append("breaks")
    raise KeyError("hook")


def take_anything(*args: Any, **kwargs: Any) -> None: ...


def exits(code: int) -> None:
    sys.exit(code)


def note_current() -> str:
    task = current_task()
    return task.task_id if task else "none"


async def note_current_later() -> str:
    await asyncio.sleep(0)
    return note_current()


# JSON.


def test_keys_of_a_plain_task_are_those_of_1_0() -> None:
    data = json.loads(ready(add, 1, 2).serialize())

    assert list(data) == KEYS_OF_1_0
    assert data["options"] == {}
    assert (data["module"], data["callable"]) == ("tests.harness.sample_tasks", "add")


def test_hooks_are_written_as_1_0_did() -> None:
    task = ready(add, 1, 2, on_start=starts, on_success=succeeds, on_error=fails)

    assert json.loads(task.serialize())["options"] == {
        "on_start": {"module": __name__, "callable": "starts"},
        "on_success": {"module": __name__, "callable": "succeeds"},
        "on_error": {"module": __name__, "callable": "fails"},
    }


def test_further_keys_are_there_only_when_they_say_something() -> None:
    task = ready(
        add,
        1,
        2,
        headers={"request_id": "r"},
        timeout=3,
        backoff=[1, 2],
        delay_until=5,
        depends_on=["a"],
    )
    task.attempt = 2

    data = json.loads(task.serialize())

    assert list(data) == [*KEYS_OF_1_0, "headers", "attempt"]
    assert data["options"] == {
        "delay_until": 5,
        "backoff": [1, 2],
        "timeout": 3,
        "depends_on": ["a"],
    }


def test_payload_of_1_0_is_read() -> None:
    data = (
        '{"task_id": "old", "retries": 2, "is_async": true, "module": "tests.harness.sample_tasks", '
        '"callable": "add", "args": [1], "kwargs": {"b": 2}, '
        '"options": {"on_start": {"module": "tests.tasks.test_tasks", "callable": "starts"}}}'
    )

    task = Task.deserialize(data)

    assert (task.task_id, task.retries, task.run().result) == ("old", 2, 3)
    assert task.on_start is starts
    assert task.attempt == 1


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    args=st.lists(json_values, max_size=3),
    kwargs=st.dictionaries(st.text(min_size=1), json_values, max_size=3),
    options=st.fixed_dictionaries(
        {},
        optional={
            "retries": st.integers(0, 10**6),
            "timeout": st.floats(0.001, 1e6),
            "backoff": st.floats(0, 1e6) | st.lists(st.floats(0, 1e6), max_size=3),
            "delay_until": st.floats(0, 4e9)
            | st.dates(max_value=date(2100, 1, 1))
            | st.datetimes(max_value=datetime(2100, 1, 1)),
            "headers": st.dictionaries(st.text(), st.text(), max_size=2),
            "depends_on": st.lists(st.text(), max_size=2),
        },
    ),
)
def test_task_survives_writing_and_reading(
    args: list[Any], kwargs: dict[str, Any], options: dict[str, Any]
) -> None:
    task = Task(**options)
    task.to_call(take_anything, *args, **kwargs)

    again = Task.deserialize(task.serialize())

    assert again.serialize() == task.serialize()
    assert (again.func, again.func_args, again.func_kwargs) == (take_anything, tuple(args), kwargs)
    for name in ("task_id", "retries", "timeout", "backoff", "delay_until", "headers"):
        assert getattr(again, name) == getattr(task, name)


def test_hook_that_no_worker_could_import_is_refused() -> None:
    with pytest.raises(NotImportable, match="lambda"):
        ready(add, 1, 2, on_error=lambda task, error: None).serialize()


def test_task_with_nothing_to_call_raises_an_error() -> None:
    with pytest.raises(InvalidOption, match="to_call"):
        Task().serialize()
    with pytest.raises(InvalidOption, match="to_call"):
        Task().run()
    with pytest.raises(InvalidOption, match="calls a function"):
        Task().to_call("add")  # type: ignore[arg-type]


old_names = {"old_add": add, "closure": partial(add, 1)}
globals().update(old_names)  # aliases that a project keeps when it renames a function


@pytest.mark.parametrize("name", old_names)
def test_name_is_that_of_the_payload_it_was_read_from(name: str) -> None:
    data = json.loads(ready(add, 1, 2, retries=2).serialize())
    data |= {"module": __name__, "callable": name, "args": [], "kwargs": {"b": 2}}
    data["kwargs"] |= {"a": 1} if name == "old_add" else {}

    task = Task.deserialize(json.dumps(data))
    again = Task.deserialize(task.for_retry(2).serialize())

    assert task.name == again.name == f"{__name__}.{name}"
    assert again.run().result == 3
    again.to_call(add, 1, 2)
    assert again.name == "tests.harness.sample_tasks.add"


GOOD: dict[str, Any] = json.loads(ready(add, 1, 2, task_id="a").serialize())


@pytest.mark.parametrize(
    "data",
    [
        "",
        "garbage",
        "null",
        "[]",
        "7",
        "{}",
        '"text"',
        "[" * DEEP,
        '{"a":' * DEEP,
        "NaN",
        "\ud800",
        "9" * 5_000,
        json.dumps(GOOD)[:-1],
    ],
    ids=lambda data: data[:12],
)
def test_data_that_is_no_task_is_a_payload_error(data: str) -> None:
    with pytest.raises(PayloadError):
        Task.deserialize(data)


@pytest.mark.parametrize(
    "change",
    [
        {"task_id": None},
        {"task_id": 7},
        {"task_id": ""},
        {"retries": -1},
        {"retries": "many"},
        {"retries": float("inf")},
        {"is_async": "perhaps"},
        {"module": None},
        {"module": 7},
        {"module": {}},
        {"module": ""},
        {"module": "no_such_module"},
        {"callable": None},
        {"callable": 7},
        {"callable": ""},
        {"callable": "no_such_function"},
        {"callable": "__doc__"},
        {"args": None},
        {"args": "ab"},
        {"args": {"a": 1}},
        {"kwargs": None},
        {"kwargs": [["a", 1]]},
        {"attempt": -1},
        {"attempt": "x"},
        {"attempt": float("nan")},
        {"headers": {"a": 1}},
        {"headers": []},
        {"options": 7},
        {"options": ["backoff"]},
        {"options": {"backoff": "fast"}},
        {"options": {"backoff": ["fast"]}},
        {"options": {"backoff": float("nan")}},
        {"options": {"backoff": {}}},
        {"options": {"timeout": "1"}},
        {"options": {"timeout": -1}},
        {"options": {"delay_until": "soon"}},
        {"options": {"on_error": "fail"}},
        {"options": {"on_error": {"module": "os"}}},
        {"options": {"on_error": {"module": "os", "callable": "name"}}},
    ],
    ids=str,
)
def test_task_with_an_invalid_field_is_a_payload_error(change: dict[str, Any]) -> None:
    with pytest.raises(PayloadError):
        Task.deserialize(json.dumps({**GOOD, **change}))


@given(st.dictionaries(st.sampled_from(list(GOOD)), json_values))
def test_payload_of_any_fields_is_a_task_or_a_payload_error(change: dict[str, Any]) -> None:
    try:
        task = Task.deserialize(json.dumps({**GOOD, **change}))
    except PayloadError:
        return

    assert task.next_pause() >= 0


def test_subclass_is_read_as_itself() -> None:
    class Own(Task):
        pass

    assert type(Own.deserialize(json.dumps(GOOD))) is Own


def test_each_task_has_an_id_of_its_own() -> None:
    assert len({Task().task_id for _ in range(1000)}) == 1000


# Delays.


def test_delay_by_counts_from_now() -> None:
    before = time.time()

    task = Task(delay_by=60)

    assert task.delay_until is not None
    assert before + 60 <= task.delay_until <= time.time() + 60


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (1.5, 1.5),
        (datetime(2030, 1, 1, 12, tzinfo=UTC), datetime(2030, 1, 1, 12, tzinfo=UTC).timestamp()),
        (datetime(1960, 1, 1), 0.0),
    ],
)
def test_delay_until_is_a_moment(moment: Any, expected: float) -> None:
    assert Task(delay_until=moment).delay_until == expected


# Pauses.


def pauses(backoff: Any, attempts: int) -> list[float]:
    task = Task(backoff=backoff)
    found = []
    for attempt in range(1, attempts + 1):
        task.attempt = attempt
        found.append(task.next_pause())
    return found


def test_pauses_double_give_or_take_half() -> None:
    for _ in range(20):
        for pause, middle in zip(pauses(3, 5), [3, 6, 12, 24, 48], strict=True):
            assert 0.5 * middle <= pause <= 1.5 * middle


def test_pauses_end_at_an_hour() -> None:
    assert max(pauses(10, 30)) <= 1.5 * MAX_BACKOFF


def test_tasks_that_failed_together_do_not_come_back_together() -> None:
    assert len({Task().next_pause() for _ in range(100)}) > 90


def test_no_backoff_is_no_pause() -> None:
    assert pauses(0, 5) == [0] * 5
    assert pauses([], 5) == [0] * 5


def test_list_of_pauses_repeats_its_last_one() -> None:
    assert pauses([1, 5, 2], 5) == [1, 5, 2, 2, 2]


@given(st.integers(1, 10**12), st.floats(0, MAX_SECONDS))
def test_pauses_never_overflow(attempt: int, backoff: float) -> None:
    task = Task(backoff=backoff)
    task.attempt = attempt

    assert 0 <= task.next_pause() <= 1.5 * MAX_BACKOFF


# Running.


def test_running_gives_the_result() -> None:
    task = ready(add, 1, 2)

    assert task.run() is task
    assert (task.result, task.status) == (3, SUCCESS)


def test_running_raises_what_the_function_raises() -> None:
    task = ready(fail, "no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        task.run()

    assert task.status == FAILED


def test_task_that_exits_has_only_failed() -> None:
    task = ready(exits, 3, on_error=fails)

    with pytest.raises(SystemExit):
        task.run()

    assert seen == [("error", FAILED, "SystemExit")]


def test_coroutine_is_run_to_its_end() -> None:
    assert ready(add_later, 1, 2).run().result == 3
    with pytest.raises(RuntimeError, match="no luck"):
        ready(fail_later, "no luck").run()


def test_coroutine_is_run_inside_of_a_running_loop() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    async def view() -> list[Any]:
        variable.set("seen")
        first, second = ready(add_later, 1, 2).run(), ready(note_current_later).run()
        with pytest.raises(RuntimeError, match="no luck"):
            ready(fail_later, "no luck").run()
        return [first.result, second.result == second.task_id]

    assert asyncio.run(view()) == [3, True]


def test_coroutine_that_takes_too_long_is_interrupted() -> None:
    task = ready(sleep_later, 60, timeout=0.01, on_error=fails)

    with pytest.raises(TimeoutError, match="took longer"):
        task.run()

    assert seen == [("error", FAILED, "TaskTimeout")]


def test_plain_function_that_takes_too_long_is_interrupted() -> None:
    task = ready(count_for, 10, timeout=0.02)

    with pytest.raises(TimeoutError, match="took longer"):
        task.run()


def test_plain_function_in_time_is_not_interrupted() -> None:
    task = ready(add, 1, 2, timeout=0.2)

    result = task.run().result
    count_for(0.3)

    assert result == 3


def count_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_coroutine_in_time_is_not_interrupted() -> None:
    assert ready(add_later, 1, 2, timeout=5).run().result == 3


def test_timeout_error_of_the_function_keeps_its_message() -> None:
    with pytest.raises(TimeoutError, match="of its own"):
        ready(times_out, timeout=5).run()


async def times_out() -> None:
    raise TimeoutError("of its own")


def test_current_task_is_known_only_inside_its_run() -> None:
    task = ready(note_current)

    assert current_task() is None
    assert task.run().result == task.task_id
    assert current_task() is None
    assert ready(note_current_later).run().result != "none"


def test_task_inside_a_task_is_the_current_one_while_it_runs() -> None:
    outer = ready(run_another)

    inner_id, after = outer.run().result

    assert inner_id != outer.task_id
    assert after == outer.task_id


def run_another() -> tuple[str, str]:
    return ready(note_current).run().result, note_current()


def test_tasks_of_several_threads_do_not_see_each_other() -> None:
    barrier = threading.Barrier(4, timeout=5)
    right: list[bool] = []

    def work() -> None:
        def meet() -> bool:
            barrier.wait()
            return note_current() == task.task_id

        task = ready(meet)
        right.append(task.run().result)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert right == [True] * 4


# Hooks.


def test_hooks_are_told_in_order() -> None:
    ready(add, 1, 2, on_start=starts, on_success=succeeds, on_error=fails).run()
    with pytest.raises(RuntimeError):
        ready(fail, on_start=starts, on_success=succeeds, on_error=fails).run()

    assert seen == [
        ("start", WAITING),
        ("success", SUCCESS, 3),
        ("start", WAITING),
        ("error", FAILED, "RuntimeError"),
    ]


def test_start_hook_that_raises_fails_the_attempt() -> None:
    task = ready(add, 1, 2, on_start=breaks, on_error=fails)

    with pytest.raises(KeyError):
        task.run()

    assert seen == ["breaks", ("error", FAILED, "KeyError")]
    assert task.result is None


def test_success_hook_that_raises_undoes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    task = ready(add, 1, 2, on_success=breaks, on_error=fails)

    assert (task.run().result, task.status) == (3, SUCCESS)
    assert seen == ["breaks"]
    assert "hook" in caplog.text


def test_error_hook_that_raises_does_not_hide_the_error() -> None:
    with pytest.raises(RuntimeError, match="no luck"):
        ready(fail, "no luck", on_error=breaks).run()


@pytest.mark.parametrize("hook", ["on_success", "on_error"])
def test_hook_that_exits_undoes_nothing(hook: str) -> None:
    def leave(task: Task, about: object) -> None:
        sys.exit(3)

    task = ready(add if hook == "on_success" else fail, *([1, 2] if hook == "on_success" else []))
    setattr(task, hook, leave)

    if hook == "on_success":
        assert task.run().result == 3
    else:
        with pytest.raises(RuntimeError, match="no luck"):
            task.run()


def test_hooks_may_be_coroutines() -> None:
    ready(add, 1, 2, on_start=starts_later, on_success=succeeds_later).run()
    with pytest.raises(RuntimeError):
        ready(fail, on_error=fails_later).run()

    assert seen == ["start", 3, "RuntimeError"]


async def starts_later(task: Task) -> None:
    seen.append("start")


async def succeeds_later(task: Task, result: Any) -> None:
    seen.append(result)


async def fails_later(task: Task, error: BaseException) -> None:
    seen.append(type(error).__name__)


def test_statuses_have_names_of_their_own() -> None:
    task = ready(add, 1, 2)

    task.to_deferred()
    statuses = [task.status]
    for change in (task.to_waiting, task.to_retrying, task.to_failed, task.to_canceled):
        change()
        statuses.append(task.status)

    assert statuses == [DEFERRED, WAITING, RETRYING, FAILED, CANCELED]


# What it says of itself.


def test_repr_names_the_function_and_no_arguments() -> None:
    task = ready(add, "secret", 2, task_id="a")

    assert repr(task) == "<Task a tests.harness.sample_tasks.add>"
    assert repr(Task(task_id="a")) == "<Task a nothing>"


def test_headers_are_a_copy() -> None:
    headers = {"request_id": "r"}
    task = ready(add, 1, 2, headers=headers)

    headers["request_id"] = "other"

    assert task.headers == {"request_id": "r"}


# In this process.


def test_inline_runs_see_their_arguments_as_a_worker_would() -> None:
    gator = Gator("locmem://", is_async=False)

    task = gator.task(add, (1, 2), [3])  # type: ignore[arg-type]

    assert task.result == [1, 2, 3]


def test_inline_runs_accept_a_function_that_no_worker_could_import() -> None:
    gator = Gator("locmem://", is_async=False)

    assert gator.task(lambda: 7).result == 7
