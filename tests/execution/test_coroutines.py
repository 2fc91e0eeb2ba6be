"""An attempt at a coroutine task ends like one at a plain task."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from alligator import FAILED, SUCCESS, Gator, Lease, Task, current_task
from alligator.exceptions import NotRunnable
from alligator.execution.attempt import Attempt
from alligator.execution.coroutines import Stopped, attempt_coroutine, run_coroutine

seen: list[Any] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    seen.clear()


async def succeed() -> str:
    await asyncio.sleep(0)
    seen.append(current_task() is not None)
    return "result"


async def fail() -> None:
    raise ValueError("no luck")


async def exit_program() -> None:
    raise SystemExit(3)


async def interrupt() -> None:
    raise KeyboardInterrupt


async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


async def cannot_run() -> None:
    raise NotRunnable("no thread can be started")


def note_hook(task: Task, about: object = None) -> None:
    seen.append((task.status, about if isinstance(about, str) else type(about).__name__))


async def interrupt_later(task: Task, about: object = None) -> None:
    raise KeyboardInterrupt


def attempt(
    func: Callable[..., Any], *, is_stopping: bool = False, **options: Any
) -> tuple[Attempt, Task]:
    """Make an attempt on a loop."""
    gator = Gator("locmem://")
    gator.options(**options).task(func)
    [lease] = gator.client.reserve("all")
    task = gator.read(Lease(*lease))

    async def main() -> Attempt:
        return await attempt_coroutine(
            gator, lease, task, lambda task: run_coroutine(task, lambda: is_stopping)
        )

    return asyncio.run(main()), task


def test_success_is_acknowledged() -> None:
    done, task = attempt(succeed, on_success=note_hook)

    assert (done.outcome.verdict, done.error, task.result, task.status) == (
        *("ack", None, "result"),
        SUCCESS,
    )
    assert seen == [True, (SUCCESS, "result")]
    assert current_task() is None


@pytest.mark.parametrize("func", [fail, exit_program, interrupt, cancel_itself])
def test_exception_of_a_coroutine_is_its_failure(func: Callable[..., Any]) -> None:
    done, _ = attempt(func, on_error=note_hook, retries=1)
    last, _ = attempt(func)

    assert (done.outcome.verdict, last.outcome.verdict) == ("retry", "dead")
    assert seen == [(FAILED, type(done.error).__name__)]


def test_task_that_cannot_run_here_is_released() -> None:
    done, _ = attempt(cannot_run, on_error=note_hook)

    assert (done.outcome.verdict, done.outcome.delay > 0, seen) == ("release", True, [])


def test_hook_cannot_change_the_outcome() -> None:
    success, _ = attempt(succeed, on_success=interrupt_later)
    failure, _ = attempt(fail, on_error=interrupt_later)

    assert (success.outcome.verdict, failure.outcome.verdict) == ("ack", "dead")


def test_start_hook_that_raises_fails_the_attempt() -> None:
    def raise_error(task: Task) -> None:
        raise ValueError("not today")

    task = Task()
    task.func, task.on_start = succeed, raise_error

    with pytest.raises(ValueError, match="not today"):
        asyncio.run(_run(task))

    assert (task.status, seen) == (FAILED, [])


async def _run(task: Task) -> Task:
    return await run_coroutine(task, lambda: False)


def test_task_that_is_stopped_has_not_failed() -> None:
    with pytest.raises(Stopped):
        attempt(fail, is_stopping=True, on_error=note_hook)

    assert seen == []
