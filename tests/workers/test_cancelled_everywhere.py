"""A coroutine task may be cancelled at each await: by a limit, its worker's end, or `Gator.cancel`."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alligator import Gator, Lease, Task
from alligator._runtime.event_loops import BackgroundLoop
from alligator.execution.attempt import Attempt
from alligator.execution.lease_ends import LeaseEnds, clock
from alligator.workers.backlog import Reserved
from alligator.workers.coroutines import CoroutineRunner
from alligator.workers.places import Places
from tests.harness.programs import eventually

SIXTY = settings(max_examples=60)

LIMIT = 60.0
"""The timeout of the tasks; no other time limit ends earlier, and no wait."""
LONG = 1e6

Program = Any
"""``None`` for one await, or how programs are put together, and those."""

# Not gather: when it is cancelled, it does not wait for the end of its parts.
KINDS = ["turns", "group", "timeout", "wait_for", "lock", "finally", "generator", "swallow"]
PROGRAMS: st.SearchStrategy[Program] = st.recursive(
    st.none(),
    lambda inner: st.tuples(st.sampled_from(KINDS), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=6,
)


@dataclass
class Run:
    """Runs a program, and calls *interrupt* at the await of number *at*."""

    program: Program
    at: int
    interrupt: Callable[[], None] = lambda: None
    count: int = 0
    entered: int = 0
    left: int = 0
    has_ended: bool = False
    """Whether the task's function has returned."""
    errors: list[BaseException] = field(default_factory=list)
    """What `on_error` was called with."""

    async def step(self) -> None:
        """Await once."""
        self.count += 1
        if self.count == self.at:
            self.interrupt()
            await asyncio.sleep(LONG)
        await asyncio.sleep(0)

    async def execute(self, program: Program) -> None:
        """Run *program*, and note that it was entered and left."""
        if program is None:
            await self.step()
            return
        self.entered += 1
        try:
            await self._execute(*program)
        finally:
            self.left += 1

    async def _execute(self, kind: str, parts: list[Program]) -> None:
        if kind == "group":
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(self.execute(part))
        elif kind == "timeout":
            async with asyncio.timeout(LONG):
                await self._in_turn(parts)
        elif kind == "wait_for":
            await asyncio.wait_for(self._in_turn(parts), LONG)
        elif kind == "lock":
            async with asyncio.Lock():
                await self._in_turn(parts)
        elif kind == "finally":
            try:
                await self._in_turn(parts)
            finally:
                await self.step()
        elif kind == "generator":
            async with aclosing(self._one_by_one(parts)) as done:
                async for _ in done:
                    await self.step()
        elif kind == "swallow":
            with suppress(asyncio.CancelledError):
                await self._in_turn(parts)
        else:
            await self._in_turn(parts)

    async def _in_turn(self, parts: list[Program]) -> None:
        for part in parts:
            await self.execute(part)

    async def _one_by_one(self, parts: list[Program]) -> AsyncGenerator[None, None]:
        for part in parts:
            await self.execute(part)
            yield


current = [Run(None, 0)]


async def execute_program() -> None:
    """The function of the tasks."""
    await current[-1].execute(current[-1].program)
    current[-1].has_ended = True


async def await_once(task: Task, about: object = None) -> None:
    """A hook."""
    await current[-1].step()


async def note_error(task: Task, error: BaseException) -> None:
    current[-1].errors.append(error)


class TwoAwaits(nullcontext[None]):
    """A context of tasks."""

    async def __aenter__(self) -> None:
        await current[-1].step()

    async def __aexit__(self, *exc_info: object) -> None:
        await current[-1].step()


class ClockAhead(asyncio.SelectorEventLoop):
    """An event loop whose clock can be moved."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


@contextmanager
def loop_of_test() -> Iterator[ClockAhead]:
    loop = ClockAhead()
    try:
        yield loop
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def run_task(
    program: Program,
    at: int,
    loop: ClockAhead,
    gator: Gator,
    interrupt: Callable[[ClockAhead, CoroutineRunner], None],
) -> tuple[Run, Attempt]:
    """Run *program* as a task, interrupted at the await of number *at*; return its outcome, too."""
    attempts: list[Attempt | None] = []
    ended = asyncio.Event()

    def end(lease: Lease, waited: float, done: Attempt | None) -> None:
        attempts.append(done)
        ended.set()

    places = Places(1)
    runner = CoroutineRunner(
        *(gator, loop, copy_context(), places, LeaseEnds(), lambda lease: None),
        *(end, lambda: None, lambda: False),
    )
    run = Run(program, at, lambda: interrupt(loop, runner))
    current.append(run)

    async def main() -> set["asyncio.Task[Any]"]:
        [lease] = gator.client.reserve(gator.queue_name)
        runner.submit([Reserved(lease, gator.read(lease), perf_counter(), clock() + 60)])
        await ended.wait()
        await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    left_behind = loop.run_until_complete(main())

    current.pop()
    [done] = attempts
    assert done is not None
    assert left_behind == set()
    assert run.entered == run.left
    assert (runner.leases(), places.free()) == ([], 1)
    return run, done


def end_worker(loop: ClockAhead, runner: CoroutineRunner) -> None:
    runner.cancel_all(0)


def exceed_limit(loop: ClockAhead, runner: CoroutineRunner) -> None:
    loop.ahead += LIMIT + 1


@SIXTY
@given(PROGRAMS)
def test_time_out_at_any_await_ends_all_of_the_code(program: Program) -> None:
    gator = Gator("locmem://")
    at, count = 1, 1
    with loop_of_test() as loop:
        while at <= count:
            gator.options(timeout=LIMIT, on_error=note_error).task(execute_program)
            run, done = run_task(program, at, loop, gator, exceed_limit)
            count, at = run.count, at + 1

            assert done.outcome.verdict == "dead"
            assert done.reason == "TaskTimeout: the task took longer than 60 seconds"
            assert run.errors == [done.error]


@SIXTY
@given(PROGRAMS)
def test_end_of_a_worker_at_any_await_fails_no_task(program: Program) -> None:
    gator = Gator("locmem://")
    at, count = 1, 1
    with loop_of_test() as loop:
        while at <= count:
            gator.options(
                on_start=await_once, on_success=await_once, on_error=note_error, retries=1
            ).task(execute_program)
            run, done = run_task(program, at, loop, gator, end_worker)
            count, at = run.count, at + 1

            assert done.outcome.verdict == ("ack" if run.has_ended else "release")
            assert done.outcome.data is None
            assert run.errors == []


@SIXTY
@given(PROGRAMS)
def test_cancel_at_any_await_ends_all_of_the_code(program: Program) -> None:
    gator = Gator("locmem://")
    at, count = 1, 1
    with loop_of_test() as loop:
        while at <= count:
            task = gator.options(
                on_start=await_once, on_success=await_once, on_error=note_error, retries=1
            ).task(execute_program)
            run, done = run_task(program, at, loop, gator, partial(cancel, gator, task.task_id))
            count, at = run.count, at + 1

            assert done.outcome.verdict == ("ack" if run.has_ended else "release")
            assert run.errors == []
            gator.client.step((), 0, outcomes=[done.outcome])
            stats = gator.stats()
            assert (stats.canceled, stats.succeeded, stats.ready, stats.leased) == (at - 1, 0, 0, 0)


def cancel(gator: Gator, task_id: str, loop: ClockAhead, runner: CoroutineRunner) -> None:
    """Cancel the task that runs, as the heartbeat of its worker does."""
    assert gator.cancel(task_id)
    runner.cancel(gator.client.canceled(runner.leases()))


@pytest.mark.parametrize(("at", "count"), [(1, 1), (2, 3), (3, 3)])
def test_cancel_in_the_context_of_a_task_fails_no_task(at: int, count: int) -> None:
    gator = Gator("locmem://", task_context=TwoAwaits)
    task = gator.options(retries=1, on_error=note_error).task(execute_program)

    with loop_of_test() as loop:
        run, done = run_task(None, at, loop, gator, partial(cancel, gator, task.task_id))

    assert (run.count, run.has_ended) == (count, at == 3)
    assert (done.outcome.verdict, done.outcome.data, run.errors) == ("release", None, [])


@pytest.mark.parametrize(("at", "count"), [(1, 1), (2, 3), (3, 3)])
def test_end_of_a_worker_in_the_context_of_a_task_fails_no_task(at: int, count: int) -> None:
    gator = Gator("locmem://", task_context=TwoAwaits)
    gator.options(retries=1, on_error=note_error).task(execute_program)

    with loop_of_test() as loop:
        run, done = run_task(None, at, loop, gator, end_worker)

    assert (run.count, run.has_ended) == (count, at == 3)
    assert (done.outcome.verdict, done.outcome.data, run.errors) == ("release", None, [])


# Before the first await.


def test_cancel_in_the_turn_in_which_a_coroutine_is_made_loses_no_place(gator: Gator) -> None:
    current.append(Run(None, 0))
    gator.task(execute_program)
    verdicts: list[str] = []
    places = Places(1)

    async def main(runner: CoroutineRunner) -> None:
        [lease] = gator.client.reserve("all")
        runner.cancel([lease])
        runner.submit([Reserved(lease, gator.read(lease), 0.0, clock() + 60)])
        runner.cancel([lease])
        while not verdicts:
            await asyncio.sleep(0)

    with loop_of_test() as loop:
        runner = CoroutineRunner(
            *(gator, loop, copy_context(), places, LeaseEnds(), lambda lease: None),
            *(
                lambda _, __, done: verdicts.append(done.outcome.verdict),
                lambda: None,
                lambda: False,
            ),
        )
        loop.run_until_complete(asyncio.wait_for(main(runner), 30))

    assert (len(verdicts), runner.leases(), places.free()) == (1, [], 1)


class LatePlaces(Places):
    """A place that is taken only after *go_on* was set."""

    def __init__(self) -> None:
        super().__init__(1)
        self.is_asked, self.go_on = Event(), Event()

    def take_for_coroutine(self) -> bool:
        self.is_asked.set()
        assert self.go_on.wait(30)
        return super().take_for_coroutine()


@pytest.mark.parametrize("ends", [False, True])
def test_coroutine_that_is_cancelled_as_it_begins_is_released(gator: Gator, ends: bool) -> None:
    current.append(Run(None, 0))
    gator.task(execute_program)
    [lease] = gator.client.reserve("all")
    verdicts: list[str] = []
    places, background = LatePlaces(), BackgroundLoop()
    runner = CoroutineRunner(
        *(gator, background.start(), copy_context(), places, LeaseEnds(), lambda lease: None),
        *(lambda _, __, done: verdicts.append(done.outcome.verdict), lambda: None, lambda: False),
    )
    runner.submit([Reserved(lease, gator.read(lease), 0.0, clock() + 60)])
    assert places.is_asked.wait(30)

    runner.cancel_all(0) if ends else runner.cancel([lease])
    places.go_on.set()

    eventually(lambda: verdicts == ["release"])
    assert runner.leases() == []
    assert background.close()
