"""Which transaction a task belongs to: nesting, threads, coroutines."""

import asyncio
import contextvars
from collections.abc import Callable
from threading import Thread

import anyio.to_thread
import pytest

from alligator import WAITING, Gator, Task
from tests.harness.sample_tasks import add
from tests.harness.transactions import Boom


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def test_transactions_of_two_gators_do_not_mix(gator: Gator) -> None:
    other = Gator("locmem://")

    with gator.transaction() as ours, other.transaction() as theirs:
        gator.task(add, 1, 2)
        other.task(add, 1, 2)
        other.task(add, 1, 2)
        theirs.doom()
        held = (len(ours.tasks), len(theirs.tasks))

    assert held == (1, 2)
    assert (gator.len(), other.len()) == (1, 0)


def test_transaction_joins_that_of_its_gator_across_another_gators(gator: Gator) -> None:
    other = Gator("locmem://")

    with pytest.raises(Boom), gator.transaction():
        with other.transaction(), gator.transaction():
            gator.task(add, 1, 2)
            other.task(add, 1, 2)
        raise Boom

    assert (gator.len(), other.len()) == (0, 1)


def test_task_of_another_gator_is_not_held(gator: Gator) -> None:
    other = Gator("locmem://")

    with gator.transaction():
        other.task(add, 1, 2)
        pushed = other.len()

    assert pushed == 1


def run_in_thread(call: Callable[[], object]) -> None:
    """Make the call in a raw thread, which has a context of its own."""
    # Since Python 3.14 a thread may inherit the context: this one is to begin with nothing.
    thread = Thread(target=lambda: contextvars.Context().run(call))
    thread.start()
    thread.join()


def test_raw_thread_has_no_transaction_and_pushes_at_once(gator: Gator) -> None:
    with gator.transaction() as tx:
        run_in_thread(lambda: gator.task(add, 1, 2))
        seen = (gator.len(), len(tx.tasks))

    assert seen == (1, 0)


def test_bound_function_carries_the_transaction_into_a_thread(gator: Gator) -> None:
    with gator.transaction() as tx:
        run_in_thread(tx.bind(lambda: gator.task(add, 1, 2)))
        seen = (gator.len(), len(tx.tasks))

    assert seen == (0, 1)
    assert gator.len() == 1


def test_bound_function_keeps_name_arguments_and_result(gator: Gator) -> None:
    with gator.transaction() as tx:
        bound = tx.bind(add)

    assert (bound.__name__, bound(1, b=2)) == ("add", 3)


def test_function_bound_to_an_ended_transaction_pushes_at_once(gator: Gator) -> None:
    with gator.transaction() as tx:
        bound = tx.bind(lambda: gator.task(add, 1, 2))

    run_in_thread(bound)

    assert gator.len() == 1


def test_thread_of_to_thread_has_the_transaction(gator: Gator) -> None:
    async def view() -> tuple[int, int]:
        async with gator.transaction() as tx:
            await asyncio.to_thread(gator.task, add, 1, 2)
            await anyio.to_thread.run_sync(lambda: gator.task(add, 1, 2))
            return gator.len(), len(tx.tasks)

    assert asyncio.run(view()) == (0, 2)
    assert gator.len() == 2


def test_transaction_is_an_async_context_manager(gator: Gator) -> None:
    async def view() -> int:
        async with gator.transaction():
            gator.task(add, 1, 2)
            await asyncio.sleep(0)
            return gator.len()

    assert asyncio.run(view()) == 0
    assert gator.len() == 1


def test_two_requests_on_one_loop_have_separate_transactions(gator: Gator) -> None:
    async def view(fails: bool) -> None:
        async with gator.transaction():
            gator.task(add, 1, 2)
            await asyncio.sleep(0)
            gator.task(add, 1, 2)
            if fails:
                raise Boom

    async def server() -> None:
        views = [view(fails=bool(number % 2)) for number in range(10)]
        await asyncio.gather(*views, return_exceptions=True)

    asyncio.run(server())

    assert gator.len() == 10


def test_awaited_coroutine_adds_to_the_transaction(gator: Gator) -> None:
    async def part() -> None:
        gator.task(add, 1, 2)

    async def view() -> int:
        async with gator.transaction():
            await asyncio.gather(part(), part())
            return gator.len()

    assert asyncio.run(view()) == 0
    assert gator.len() == 2


def test_coroutine_that_outlives_the_transaction_pushes_at_once(gator: Gator) -> None:
    async def background(go: asyncio.Event) -> Task:
        await go.wait()
        return gator.task(add, 1, 2)

    async def server() -> Task:
        go = asyncio.Event()
        async with gator.transaction():
            later = asyncio.create_task(background(go))
            await asyncio.sleep(0)
        go.set()
        return await later

    task = asyncio.run(server())

    assert gator.len() == 1
    assert task.status == WAITING


def test_late_coroutine_begins_its_own_transactions(gator: Gator) -> None:
    async def background(go: asyncio.Event) -> tuple[int, int]:
        await go.wait()
        async with gator.transaction():
            gator.task(add, 1, 2)
            held = gator.len()
        return held, gator.len()

    async def server() -> tuple[int, int]:
        go = asyncio.Event()
        async with gator.transaction():
            later = asyncio.create_task(background(go))
            await asyncio.sleep(0)
        go.set()
        return await later

    assert asyncio.run(server()) == (0, 1)


def test_transaction_can_be_left_in_another_context(gator: Gator) -> None:
    # As frameworks do with a generator that they run in a pool of threads.
    tx = gator.transaction()

    contextvars.copy_context().run(tx.__enter__)
    tx.bind(lambda: gator.task(add, 1, 2))()
    tx.__exit__(None, None, None)

    assert gator.len() == 1
    assert gator.current is None


def test_depth_counts_the_transactions_around_of_any_gator(gator: Gator) -> None:
    other = Gator("locmem://")

    with gator.transaction() as outer, other.transaction() as middle, gator.transaction() as inner:
        assert (outer.depth, middle.depth, inner.depth) == (0, 1, 2)
    with gator.transaction() as later:
        assert later.depth == 0
