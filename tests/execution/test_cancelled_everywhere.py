"""A coroutine may be cancelled at each of its awaits, by a time-out or by the end of a worker."""

import asyncio
from random import Random
from typing import Any

import pytest

from alligator import Task
from alligator._runtime.cancellation import await_within
from alligator.exceptions import TaskTimeout
from alligator.execution.coroutines import Stopped, run_coroutine

SEEDS = range(60)


class Steps:
    """Counts the awaits of a coroutine, and interrupts it at one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0
        self.reached = asyncio.Event()

    async def step(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.reached.set()
            await asyncio.sleep(60)
        await asyncio.sleep(0)


async def random_code(steps: Steps, random: Random, depth: int, log: list[str]) -> None:
    """Await in nested ways, as programs do; each entry in *log* has its exit."""
    for _ in range(random.randint(1, 3)):
        kind = random.choice(["step", "group", "timeout", "finally", "shield", "lock"])
        name = f"{kind} {len(log)}"
        log.append(f"enter {name}")
        try:
            if kind == "step" or depth == 0:
                await steps.step()
            elif kind == "group":
                async with asyncio.TaskGroup() as group:
                    for _ in range(2):
                        group.create_task(random_code(steps, random, depth - 1, log))
            elif kind == "timeout":
                async with asyncio.timeout(60):
                    await random_code(steps, random, depth - 1, log)
            elif kind == "lock":
                async with asyncio.Lock():
                    await random_code(steps, random, depth - 1, log)
            elif kind == "shield":
                await steps.step()
            else:
                try:
                    await random_code(steps, random, depth - 1, log)
                finally:
                    await asyncio.sleep(0)
        finally:
            log.append(f"exit {name}")


def balanced(log: list[str]) -> bool:
    entered = [line.removeprefix("enter ") for line in log if line.startswith("enter")]
    left = [line.removeprefix("exit ") for line in log if line.startswith("exit")]
    return sorted(entered) == sorted(left)


async def count_steps(seed: int) -> int:
    steps = Steps(0)
    await random_code(steps, Random(seed), 3, [])
    return steps.count


@pytest.mark.parametrize("seed", SEEDS)
def test_time_out_at_any_await_ends_all_of_the_code(seed: int) -> None:
    async def main() -> None:
        for at in range(1, min(await count_steps(seed), 12) + 1):
            steps, log = Steps(at), list[str]()
            with pytest.raises(TaskTimeout):
                await await_within(0.002, random_code(steps, Random(seed), 3, log))
            assert balanced(log)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            assert asyncio.all_tasks() == {task}

    asyncio.run(main())


@pytest.mark.parametrize("seed", SEEDS)
def test_end_of_a_worker_at_any_await_stops_the_task_without_a_failure(seed: int) -> None:
    failures: list[object] = []

    def on_error(task: Task, error: BaseException) -> None:
        failures.append(error)

    async def main() -> None:
        for at in range(1, min(await count_steps(seed), 12) + 1):
            steps, log, stopping = Steps(at), list[str](), list[bool]()

            async def code(steps: Steps = steps, log: Any = log) -> None:
                await random_code(steps, Random(seed), 3, log)

            task = Task(on_error=None)
            task.func = code
            task.on_error = on_error
            job = asyncio.create_task(_run(task, stopping))
            await steps.reached.wait()
            stopping.append(True)
            job.cancel()
            await asyncio.wait([job])
            assert isinstance(job.exception(), Stopped)
            assert balanced(log)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert failures == []


async def _run(task: Task, stopping: list[bool]) -> Task:
    return await run_coroutine(task, lambda: bool(stopping))
