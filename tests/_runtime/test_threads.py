"""Blocking calls run in threads, and a cancelled coroutine does not wait for them."""

import asyncio
import gc
from contextvars import ContextVar
from threading import Event, get_ident

import pytest

from alligator._runtime.threads import run_in_thread, run_to_end, start_in_thread

word: ContextVar[str] = ContextVar("word")


def test_call_runs_in_another_thread_in_a_copy_of_the_context() -> None:
    async def main() -> tuple[int, str]:
        word.set("hello")
        return await run_in_thread(lambda: (get_ident(), word.get()))

    thread, said = asyncio.run(main())

    assert thread != get_ident()
    assert said == "hello"


@pytest.mark.parametrize("own_thread", [False, True])
def test_error_of_a_call_is_raised(own_thread: bool) -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(run_in_thread(fail, own_thread=own_thread))


@pytest.mark.parametrize("own_thread", [False, True])
def test_undo_runs_after_a_call_whose_coroutine_is_cancelled(own_thread: bool) -> None:
    steps: list[str] = []
    began, may_end, undone = Event(), Event(), Event()

    def call() -> None:
        began.set()
        assert may_end.wait(20)
        steps.append("called")

    def undo() -> None:
        steps.append("undone")
        undone.set()

    async def main() -> None:
        task = asyncio.create_task(run_in_thread(call, undo, own_thread=own_thread))
        while not began.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_end.set()

    asyncio.run(main())

    assert undone.wait(20)
    assert steps == ["called", "undone"]


def test_cancellation_does_not_end_a_call_that_runs_to_its_end() -> None:
    began, may_end = Event(), Event()

    def call() -> str:
        began.set()
        assert may_end.wait(20)
        return "done"

    async def main() -> str:
        task = asyncio.create_task(run_to_end(call))
        while not began.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        may_end.set()
        return await task

    assert asyncio.run(main()) == "done"


def test_error_that_no_caller_waits_for_is_not_logged_by_asyncio(
    caplog: pytest.LogCaptureFixture,
) -> None:
    began, may_end = Event(), Event()

    def fail(after: Event | None = None) -> None:
        if after is not None:
            began.set()
            assert after.wait(30)
        raise ValueError("no")

    async def main() -> None:
        waiting = asyncio.create_task(run_in_thread(lambda: fail(may_end)))
        await asyncio.to_thread(began.wait, 30)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        may_end.set()
        with pytest.raises(ValueError, match="no"):
            await run_to_end(fail)

    asyncio.run(main())
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_start_returns_a_future() -> None:
    assert start_in_thread(lambda: 7).result(20) == 7
