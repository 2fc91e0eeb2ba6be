"""Awaitables of threads run on a loop that lives longer than one of them."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from threading import Thread, get_ident

import pytest

from alligator._runtime.event_loops import BackgroundLoop, LoopOfThread, finish
from alligator._runtime.home_loop import home
from alligator._runtime.threads import run_in_thread
from alligator.exceptions import NotRunnable, TaskTimeout

variable: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.fixture
def background() -> Iterator[BackgroundLoop]:
    background = BackgroundLoop("test-loop")
    yield background
    assert background.close()


async def where() -> tuple[asyncio.AbstractEventLoop, int]:
    return asyncio.get_running_loop(), get_ident()


async def fail() -> None:
    raise ValueError("no luck")


async def leave_the_program() -> None:
    raise SystemExit(3)


def test_all_awaitables_run_on_the_same_loop(background: BackgroundLoop) -> None:
    first, second = background.run(where()), background.run(where())

    assert first == second
    assert first[1] != get_ident()


def test_background_loop_raises_what_its_awaitable_raised(background: BackgroundLoop) -> None:
    with pytest.raises(ValueError, match="no luck"):
        background.run(fail())
    with pytest.raises(SystemExit):
        background.run(leave_the_program())
    with pytest.raises(TaskTimeout):
        background.run(asyncio.sleep(60), 0.01)

    background.run(where())


def test_awaitable_sees_a_copy_of_the_context(background: BackgroundLoop) -> None:
    async def change() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    variable.set("set by the thread")

    assert background.run(change()) == "set by the thread"
    assert variable.get() == "set by the thread"


def test_loop_goes_on_after_an_exit_of_a_created_task(background: BackgroundLoop) -> None:
    async def create() -> None:
        task = asyncio.create_task(leave_the_program())
        await asyncio.wait([task])
        assert isinstance(task.exception(), SystemExit)

    background.run(create())

    background.run(where())


def test_close_cancels_what_is_left() -> None:
    background = BackgroundLoop()
    ended = threading.Event()

    async def leave_a_task() -> None:
        async def wait() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        tasks.append(asyncio.create_task(wait()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    background.run(leave_a_task())

    assert background.close()
    assert ended.is_set()


def test_close_leaves_a_task_behind_that_swallows_its_cancellation() -> None:
    background = BackgroundLoop()
    go_on = threading.Event()

    async def swallow() -> None:
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    async def leave_it() -> None:
        tasks.append(asyncio.create_task(swallow()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    background.run(leave_it())

    background.close(0.1)  # returns
    go_on.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_starts_a_loop_of_its_own(background: BackgroundLoop) -> None:
    background.run(where())
    pid = os.fork()
    if not pid:
        try:
            background.run(where())
        finally:
            os._exit(0 if background.loop is not None else 1)

    assert os.waitpid(pid, 0)[1] == 0


def test_loop_without_a_thread_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", start)
    awaitable = where()

    with pytest.raises(NotRunnable, match="can't start new thread"):
        BackgroundLoop().run(awaitable)

    awaitable.close()


def test_loop_of_a_thread_keeps_its_tasks_between_runs() -> None:
    runs = LoopOfThread()
    first, second = runs.run(where()), runs.run(where())

    assert first == second
    assert first[1] == get_ident()
    runs.close()


def test_thread_runs_coroutines_on_the_loop_that_waits_for_it() -> None:
    async def main() -> bool:
        loop, _ = await run_in_thread(lambda: finish(where()), own_thread=True)
        return loop is asyncio.get_running_loop()

    assert asyncio.run(main())


def test_code_that_blocks_a_loop_does_not_wait_for_it() -> None:
    async def innermost() -> str:
        return "ran"

    async def inner() -> str:
        return finish(innermost())

    async def outer() -> str:
        return finish(inner())

    async def main() -> str:
        return await run_in_thread(lambda: finish(outer()), own_thread=True)

    assert asyncio.run(main()) == "ran"
    assert finish(outer()) == "ran"


def test_loop_of_the_process_is_used_where_no_other_is_known() -> None:
    assert home.get() is None
    assert finish(where()) == finish(where())


def test_thread_does_not_wait_for_a_loop_that_has_ended() -> None:
    loop = asyncio.new_event_loop()
    calls: list[BaseException] = []

    async def main() -> None:
        def call() -> None:
            ready.wait(30)
            try:
                finish(asyncio.sleep(0))
            except BaseException as error:
                calls.append(error)
            finally:
                called.set()

        waiting = asyncio.create_task(run_in_thread(call, own_thread=True))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

    ready, called = threading.Event(), threading.Event()
    loop.run_until_complete(main())
    loop.close()
    ready.set()

    assert called.wait(30)
    assert calls == []  # it ran on the loop of the process


def test_current_loop_of_the_thread_stays_as_it_is() -> None:
    def run() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        finish(where())
        seen.append(asyncio.get_event_loop_policy().get_event_loop() is loop)
        loop.close()

    seen: list[bool] = []
    thread = Thread(target=run)
    thread.start()
    thread.join(30)

    assert seen == [True]


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop needs a Unix")
def test_uvloop_may_be_the_loop() -> None:
    uvloop = pytest.importorskip("uvloop")
    background = BackgroundLoop(make=uvloop.new_event_loop)

    assert isinstance(background.run(where())[0], uvloop.Loop)
    assert background.close()
