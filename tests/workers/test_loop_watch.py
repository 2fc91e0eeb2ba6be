"""A coroutine that blocks the event loop is named, and its lease does not end."""

import asyncio
import time
from threading import Event

import pytest

from alligator import Gator, Worker
from alligator.workers.loop_watch import LoopWatch
from tests.harness.programs import eventually
from tests.harness.workers import gates, ran, workers_running
from tests.workers.test_coroutines import note_later, wait_at_gate


async def block(name: str) -> None:
    ran.append(name)
    assert gates[name].wait(30)


async def create_a_child_that_blocks(name: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(block(name))


@pytest.mark.parametrize("func", [block, create_a_child_that_blocks])
def test_task_that_blocks_the_loop_is_named_with_its_line(
    gator: Gator, caplog: pytest.LogCaptureFixture, func: object
) -> None:
    gates["blocks"] = Event()
    task = gator.task(func, "blocks")  # type: ignore[arg-type]

    with workers_running(Worker(gator, blocking_after=0.1, lease_for=0.4), Worker(gator)):
        eventually(lambda: "blocks the event loop" in caplog.text)
        time.sleep(0.6)  # longer than a lease
        gator.task(note_later, "next")
        gates["blocks"].set()
        eventually(lambda: gator.stats().succeeded == 2)

    [record] = [each for each in caplog.records if "blocks the event loop" in each.getMessage()]
    assert "test_loop_watch.py:18 in block" in record.getMessage()
    if func is block:
        assert record.__dict__["task_id"] == task.task_id
    assert gator.stats().lost == 0
    assert ran.count("blocks") == 1


def test_quick_coroutines_are_not_complained_of(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    gates["long"] = Event()
    gator.task(wait_at_gate, "long")

    with workers_running(Worker(gator, blocking_after=5)):
        eventually(lambda: ran == ["long"])
        time.sleep(0.3)

    assert "blocks the event loop" not in caplog.text


def test_lag_is_measured_between_two_calls() -> None:
    loop = asyncio.new_event_loop()
    watch = LoopWatch(loop, lambda: None, block.__code__, None, 60)  # type: ignore[arg-type]
    before = watch.take_lag()

    watch.check()
    time.sleep(0.05)
    watch.check()
    loop.run_until_complete(asyncio.sleep(0))
    lag = watch.take_lag()
    watch.check()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    assert before == 0
    assert lag >= 0.05
    assert watch.take_lag() < lag


def test_lag_is_reported_with_the_heartbeat(gator: Gator) -> None:
    gates["blocks"] = Event()
    gator.task(block, "blocks")
    worker = Worker(gator, blocking_after=30, lease_for=0.4)

    with workers_running(worker):
        eventually(lambda: ran)
        eventually(lambda: any((each.loop_lag or 0) > 0.1 for each in gator.client.workers()))
