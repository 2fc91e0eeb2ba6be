"""A task that succeeded has really run: what its function returned was awaited."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import coroutine
from typing import Any

import pytest

from alligator import Gator, Worker
from alligator._runtime.coroutines import await_result, is_generator_function
from alligator.exceptions import TaskFailed, TaskTimeout
from alligator.testing import sync
from tests.harness.sample_tasks import fail_later


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


class Query:
    """What libraries return that run a query once it is awaited."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator[Any, None, str]:
        return self.run().__await__()

    async def run(self) -> str:
        await asyncio.sleep(self.seconds)
        return "ran"


def select() -> Query:
    return Query()


def select_slowly() -> Query:
    return Query(60)


@coroutine
def old_style() -> Generator[Any, None, str]:
    yield from asyncio.sleep(0).__await__()
    return "ran"


async def modern() -> str:
    return "ran"


def returns_coroutine() -> Any:
    return modern()


AWAITABLE: list[Callable[..., Any]] = [select, old_style, modern, returns_coroutine]


@pytest.mark.parametrize("func", AWAITABLE, ids=lambda func: func.__name__)
def test_awaitable_result_is_awaited(gator: Gator, func: Callable[..., Any]) -> None:
    gator.task(func)
    task = gator.pop()
    assert task is not None
    assert task.result == "ran"

    with sync():
        assert gator.task(func).result == "ran"


def test_timeout_bounds_an_awaitable(gator: Gator) -> None:
    gator.options(timeout=0.05).task(select_slowly)

    with pytest.raises(TaskTimeout, match=r"longer than 0\.05 seconds"):
        gator.pop()


async def run_inside_of_a_loop() -> Any:
    return await_result(Query())


def test_awaitable_is_awaited_inside_of_a_running_loop() -> None:
    assert asyncio.run(run_inside_of_a_loop()) == "ran"


@pytest.mark.parametrize(
    "value", [None, 0, "", [1], {"a": 1}, object, object(), b"x"], ids=lambda v: type(v).__name__
)
def test_other_value_is_the_result(value: Any) -> None:
    assert await_result(value) is value


def rows() -> Iterator[int]:
    yield 1


async def later_rows() -> AsyncIterator[int]:
    yield 1


def returns_rows() -> Iterator[int]:
    return rows()


def returns_later_rows() -> AsyncIterator[int]:
    return later_rows()


@pytest.mark.parametrize(
    ("func", "what"), [(returns_rows, "a generator"), (returns_later_rows, "an asynchronous")]
)
def test_generator_as_a_result_fails_the_task(
    gator: Gator, func: Callable[..., Any], what: str
) -> None:
    gator.task(func)

    with pytest.raises(TaskFailed, match=f"the function returned {what}.*, whose body has not run"):
        gator.pop()

    assert gator.stats().dead == 1


def test_generator_functions_are_recognised() -> None:
    assert is_generator_function(rows)
    assert is_generator_function(later_rows)
    for func in (*AWAITABLE, returns_rows, print, Query, list):
        assert not is_generator_function(func)


def test_traceback_of_a_coroutine_begins_with_its_own_error(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    gator.task(fail_later)

    Worker(gator, burst=True, log_level=logging.ERROR).run_forever()

    [letter] = gator.dead_letters()
    for text in (letter.traceback, caplog.text):
        assert "no running event loop" not in text
        assert "During handling" not in text
        assert "RuntimeError: no luck" in text
