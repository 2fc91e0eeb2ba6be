"""The tasks that a transaction holds: their limits, and what happens when it ends."""

import asyncio
from contextlib import nullcontext
from threading import Thread

import pytest

from alligator import CANCELED, WAITING, Gator, Task
from alligator.constants import MAX_COMMIT_BYTES, MAX_TASKS
from alligator.exceptions import TooManyTasks
from tests.harness.sample_tasks import add, say
from tests.harness.transactions import Recording


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def test_transaction_takes_a_thousand_tasks_and_advises_on_more(gator: Gator) -> None:
    with gator.transaction() as tx:
        for _ in range(MAX_TASKS):
            gator.task(add, 1, 2)
        with pytest.raises(TooManyTasks, match="1000 tasks"):
            gator.task(add, 1, 2)
        held = len(tx.tasks)

    assert held == gator.len() == MAX_TASKS


@pytest.mark.parametrize("nested", [False, True], ids=["one", "nested"])
def test_tasks_too_large_for_one_commit_are_refused_at_the_call(gator: Gator, nested: bool) -> None:
    fits = MAX_COMMIT_BYTES // 200_000
    with gator.transaction() as outer:
        with gator.transaction() if nested else nullcontext():
            for _ in range(fits):
                gator.task(say, "x" * 199_000)
            with pytest.raises(TooManyTasks, match="16,777,216 bytes at most"):
                for _ in range(3):
                    gator.task(say, "x" * 199_000)
        assert fits <= len(outer.tasks) <= fits + 2
        outer.doom()


def test_limits_include_tasks_of_inner_transactions(gator: Gator) -> None:
    with gator.transaction():
        with gator.transaction():
            for _ in range(MAX_TASKS - 1):
                gator.task(add, 1, 2)
        gator.task(add, 1, 2)
        with gator.transaction(), pytest.raises(TooManyTasks):
            gator.task(add, 1, 2)

    assert gator.len() == MAX_TASKS


def test_limits_apply_to_concurrent_inner_transactions_together(gator: Gator) -> None:
    gator = Gator("locmem://", backend_class=Recording)

    async def part() -> None:
        async with gator.transaction():
            for _ in range(MAX_TASKS // 2 + 1):
                gator.task(add, 1, 2)
            await asyncio.sleep(0)

    async def view() -> None:
        async with gator.transaction():
            done = await asyncio.gather(part(), part(), return_exceptions=True)
            assert [type(each) for each in done] == [type(None), TooManyTasks]

    asyncio.run(view())

    assert gator.len() == MAX_TASKS // 2 + 1


def test_transaction_holds_tasks_of_many_threads(gator: Gator) -> None:
    with gator.transaction() as tx:
        add_ten = tx.bind(lambda: [gator.task(add, 1, 2) for _ in range(10)])
        threads = [Thread(target=add_ten) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert gator.len() == 200


def test_task_that_races_with_the_end_is_held_or_pushed_but_never_lost(
    gator: Gator,
) -> None:
    pushed: list[Task] = []

    for _ in range(50):
        with gator.transaction() as tx:
            start = tx.bind(lambda: pushed.append(gator.task(add, 1, 2)))
            threads = [Thread(target=start) for _ in range(4)]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join()

    assert gator.len() == len(pushed) == 200


def test_held_task_can_be_canceled(gator: Gator) -> None:
    with gator.transaction():
        kept = gator.task(add, 1, 2)
        dropped = gator.task(add, 3, 4)

        canceled = gator.cancel(dropped.task_id)

    assert canceled is dropped
    assert (kept.status, dropped.status) == (WAITING, CANCELED)
    assert gator.len() == 1


def test_task_held_by_outer_transaction_can_be_canceled_inside(gator: Gator) -> None:
    with gator.transaction():
        task = gator.task(add, 1, 2)

        with gator.transaction():
            canceled = gator.cancel(task.task_id)

    assert canceled is task
    assert gator.len() == 0


def test_commit_keeps_its_messages_when_it_is_closed_again(gator: Gator) -> None:
    with gator.transaction() as tx:
        tx.doom()
        task = gator.task(add, 1, 2)
        commit = tx.deferred

        assert [each.task for each in commit.close()] == [task]
        assert commit.close() == []

    assert [each.task_id for each in commit.messages] == [task.task_id]
