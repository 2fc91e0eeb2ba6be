"""Code that takes too long is cancelled at each of its awaits, and cannot swallow that."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from alligator._runtime import cancellation
from alligator._runtime.cancellation import await_within
from alligator.exceptions import TaskTimeout

seen: list[str] = []


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    seen.clear()
    monkeypatch.setattr(cancellation, "REPEAT_SECONDS", 0.02)


async def result() -> str:
    await asyncio.sleep(0)
    return "result"


async def sleep() -> None:
    await asyncio.sleep(60)


async def sleep_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(note_end())


async def note_end() -> None:
    try:
        await asyncio.sleep(60)
    finally:
        seen.append("child ended")


async def sleep_within_a_longer_timeout() -> None:
    async with asyncio.timeout(60):
        await asyncio.sleep(60)


async def swallow_twice() -> str:
    for _ in range(2):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("swallowed")
    await asyncio.sleep(60)
    return "result"


async def swallow_and_return() -> str:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    return "result"


async def block() -> str:
    import time

    time.sleep(0.2)
    return "result"


async def fail_when_cancelled() -> None:
    try:
        await asyncio.sleep(60)
    finally:
        raise ValueError("while it was cleaning up")


LATE: list[Callable[[], Awaitable[Any]]] = [
    sleep,
    sleep_in_a_group,
    sleep_within_a_longer_timeout,
    swallow_twice,
    swallow_and_return,
    block,
    fail_when_cancelled,
]


@pytest.mark.parametrize("func", LATE, ids=lambda func: func.__name__)
def test_code_that_ends_too_late_has_failed(func: Callable[[], Awaitable[Any]]) -> None:
    async def main() -> int:
        with pytest.raises(TaskTimeout, match=r"longer than 0\.05 seconds"):
            await await_within(0.05, func())
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(0)  # no cancellation is left behind
        return task.cancelling()

    assert asyncio.run(main()) == 0
    assert seen == {
        "swallow_twice": ["swallowed"] * 2,
        "sleep_in_a_group": ["child ended"] * 3,
    }.get(func.__name__, [])


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_code_in_time_returns_its_result(seconds: float | None) -> None:
    assert asyncio.run(_within(seconds, result)) == "result"


async def _within(seconds: float | None, func: Callable[[], Awaitable[Any]]) -> Any:
    return await await_within(seconds, func())


def test_time_out_of_the_code_itself_is_its_own() -> None:
    async def times_out() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(_within(60.0, times_out))

    assert not isinstance(caught.value, TaskTimeout)


def test_cancellation_from_outside_is_not_a_time_out() -> None:
    async def main() -> None:
        task = asyncio.create_task(_within(60.0, sleep))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_cancellation_from_outside_wins_over_a_time_out_at_the_same_time() -> None:
    async def main() -> None:
        def cancel() -> None:
            task.cancel()

        async def code() -> None:
            asyncio.get_running_loop().call_later(0.01, cancel)
            await asyncio.sleep(60)

        task = asyncio.create_task(_within(0.01, code))
        with pytest.raises((asyncio.CancelledError, TaskTimeout)):
            await task

    asyncio.run(main())
