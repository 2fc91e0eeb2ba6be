"""Concurrent commits of an event loop share a trip, each with its own outcome."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Timer
from time import monotonic
from typing import Any

import pytest

from alligator import CANCELED, Gator, Task
from alligator._runtime import threads
from alligator.backends.base import Commit, Duplicates, Message
from alligator.commits.committer import Committer
from alligator.exceptions import BackendError, BackendUnavailable
from tests.harness.sample_tasks import add
from tests.harness.trip_store import TripStore


def in_loop(committer: Committer, name: str) -> "asyncio.Task[Duplicates | None]":
    push = committer.commit(Commit([Message("all", name, "{}")], name), awaits=True)
    return asyncio.get_running_loop().create_task(push)


async def wait_for_trip(store: TripStore, *names: str) -> None:
    """Wait until a trip with *names* has begun."""
    while not store.trips or store.trips[-1] != [*names]:
        await asyncio.sleep(0)


def test_pushes_of_coroutines_share_a_trip_and_do_not_block_the_loop(
    store: TripStore, committer: Committer
) -> None:
    async def main() -> None:
        store.free.clear()
        tasks = [in_loop(committer, "first")]
        await wait_for_trip(store, "first")
        tasks += [in_loop(committer, name) for name in "abc"]
        await asyncio.sleep(0)
        store.free.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())

    assert store.trips == [["first"], ["a", "b", "c"]]


def test_error_of_one_coroutine_does_not_affect_others(
    store: TripStore, committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_many = store.push_many

    def overflowing(
        messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        if commit_id == "bad":
            raise OverflowError("a delay that no store can keep")
        return push_many(messages, commit_id=commit_id)

    monkeypatch.setattr(store, "push_many", overflowing)

    async def main() -> list[object]:
        store.free.clear()
        tasks = [in_loop(committer, "first")]
        await wait_for_trip(store, "first")
        tasks += [in_loop(committer, name) for name in ("good", "bad", "fine")]
        await asyncio.sleep(0)
        store.free.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(main())

    assert isinstance(outcomes.pop(2), OverflowError)
    assert outcomes == [None, None, None]
    assert store.len("all") == 3


def test_coroutine_with_time_left_does_not_share_a_trip_with_a_late_one(
    store: TripStore, committer: Committer
) -> None:
    async def main() -> None:
        store.free.clear()
        tasks = [in_loop(committer, "first")]
        await wait_for_trip(store, "first")
        tasks += [in_loop(committer, name) for name in ("early", "late", "later")]
        await asyncio.sleep(0)
        assert committer._loops is not None
        [trips] = committer._loops.values()
        trips.waiting[0].deadline = monotonic() + 0.1
        store.free.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())

    assert store.trips == [["first"], ["early"], ["late", "later"]]


def test_coroutine_gets_the_rejection_of_its_commit(store: TripStore, committer: Committer) -> None:
    store.abort("refused", [])

    async def main() -> None:
        await asyncio.gather(in_loop(committer, "refused"), in_loop(committer, "fine"))

    with pytest.raises(BackendError):
        asyncio.run(main())

    assert store.len("all") == 1


def test_cancellation_ends_the_wait_and_the_commit_is_undone(
    store: TripStore, committer: Committer
) -> None:
    async def main() -> None:
        store.free.clear()
        task = in_loop(committer, "a")
        await wait_for_trip(store, "a")
        task.cancel("by whom")
        with pytest.raises(asyncio.CancelledError, match="by whom"):
            await task
        store.free.set()
        await asyncio.to_thread(store.undone.wait, 10)

    asyncio.run(main())

    assert store.trips == [["a"]]
    assert store.len("all") == 0


def test_cancellation_does_not_undo_a_commit_under_a_chosen_id(
    store: TripStore, committer: Committer
) -> None:
    async def main() -> None:
        store.free.clear()
        task = asyncio.create_task(
            committer.commit(Commit([Message("all", "a", "{}")], "row-1", undo=False), awaits=True)
        )
        await wait_for_trip(store, "row-1")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        store.free.set()
        await in_loop(committer, "b")  # the next trip: the first has ended

    asyncio.run(main())

    assert not store.undone.is_set()
    assert store.len("all") == 2


def test_cancellation_of_one_does_not_affect_others_of_its_trip(
    store: TripStore, committer: Committer
) -> None:
    async def main() -> None:
        store.free.clear()
        first = in_loop(committer, "first")
        await wait_for_trip(store, "first")
        tasks = [in_loop(committer, name) for name in "abc"]
        await asyncio.sleep(0)
        store.free.set()
        await first
        tasks[1].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in done] == [type(None), asyncio.CancelledError, type(None)]
        if store.trips[-1] == ["a", "b", "c"]:
            await asyncio.to_thread(store.undone.wait, 10)

    asyncio.run(main())

    assert store.len("all") == 3


def test_commit_cancelled_before_its_trip_is_left_out(
    store: TripStore, committer: Committer
) -> None:
    async def main() -> None:
        store.free.clear()
        first = in_loop(committer, "first")
        await wait_for_trip(store, "first")
        tasks = [in_loop(committer, name) for name in "ab"]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        store.free.set()
        await asyncio.gather(first, *tasks, return_exceptions=True)

    asyncio.run(main())

    assert store.trips == [["first"], ["b"]]


@pytest.mark.parametrize("turns", range(12))
def test_push_cancelled_at_any_moment_is_queued_only_if_it_returns(
    store: TripStore, committer: Committer, turns: int
) -> None:
    # Also in the iteration of the loop between the outcome and the moment in which it is seen.
    async def main() -> bool:
        settled = asyncio.Event()
        task = in_loop(committer, "a")
        task.add_done_callback(lambda _: settled.set())
        await wait_for_trip(store, "a")
        while store.len("all") == 0:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await settled.wait()
        if task.cancelled():
            await asyncio.to_thread(store.undone.wait, 10)
        return task.cancelled()

    cancelled = asyncio.run(main())

    assert store.len("all") == (0 if cancelled else 1)


def test_timeout_around_a_push_ends_it(store: TripStore, committer: Committer) -> None:
    async def main() -> None:
        store.free.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await committer.commit(Commit([Message("all", "a", "{}")], "a"), awaits=True)
        await asyncio.sleep(0)  # nothing of it is left over
        store.free.set()

    asyncio.run(main())

    store.undone.wait(10)
    assert store.len("all") == 0


def test_pushes_of_an_event_loop_that_ends_are_dropped(
    store: TripStore, committer: Committer
) -> None:
    async def main() -> None:
        store.free.clear()
        in_loop(committer, "a")
        await wait_for_trip(store, "a")
        in_loop(committer, "b")
        await asyncio.sleep(0)
        Timer(0.05, store.free.set).start()

    asyncio.run(main())
    committer.push(Commit([Message("all", "c", "{}")], "c"))

    assert store.trips == [["a"], ["c"]]


def test_trip_of_an_event_loop_that_ends_is_undone(store: TripStore, committer: Committer) -> None:
    seen: list[str] = []

    async def request() -> None:
        await committer.commit(Commit([Message("all", "a", "{}")], "a"), awaits=True)
        seen.append("queued")

    async def main() -> None:
        store.free.clear()
        requests.append(asyncio.create_task(request()))
        await wait_for_trip(store, "a")
        Timer(0.05, store.free.set).start()

    requests: list[asyncio.Task[Duplicates | None]] = []
    asyncio.run(main())

    store.undone.wait(10)
    assert seen == []
    assert (store.trips, store.len("all")) == ([["a"]], 0)


def test_event_loop_can_end_before_a_trip_has_begun(store: TripStore, committer: Committer) -> None:
    requests: list[asyncio.Task[Duplicates | None]] = []

    async def main() -> None:
        requests.append(in_loop(committer, "a"))

    asyncio.run(main())

    assert requests[0].cancelled()
    assert store.len("all") == 0


def test_task_factory_without_context_works(store: TripStore, committer: Committer) -> None:
    def make(loop: asyncio.AbstractEventLoop, coroutine: Any) -> "asyncio.Task[Any]":
        return asyncio.Task(coroutine, loop=loop)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(make)
        await in_loop(committer, "a")

    asyncio.run(main())

    assert store.trips == [["a"]]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="it came with Python 3.12")
def test_eager_tasks_share_a_trip(store: TripStore, committer: Committer) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]  # of 3.12
        await asyncio.gather(*(in_loop(committer, str(number)) for number in range(20)))

    asyncio.run(main())

    assert store.len("all") == 20


def test_driver_that_cannot_be_created_fails_only_its_commit(
    store: TripStore, committer: Committer
) -> None:
    failures = [MemoryError()]

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **context: Any) -> Any:
        if coroutine.__qualname__.startswith("LoopTrips._drive") and failures:
            raise failures.pop()
        return asyncio.Task(coroutine, loop=loop, **context)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(make)
        with pytest.raises(MemoryError):
            await in_loop(committer, "a")
        await in_loop(committer, "b")

    asyncio.run(main())

    assert store.trips == [["b"]]


def test_push_fails_if_no_thread_can_be_started(
    store: TripStore, committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", fail)

    async def main() -> None:
        await in_loop(committer, "a")

    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="was interrupted: RuntimeError"):
            asyncio.run(main())
    assert not store.trips


def test_commit_that_cannot_be_undone_does_not_hold_up_others(
    store: TripStore,
    committer: Committer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    push_many = store.push_many

    def failing(
        messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        if commit_id == "bad":
            raise ZeroDivisionError
        return push_many(messages, commit_id=commit_id)

    start_in_thread = threads.start_in_thread

    def start(call: Callable[[], object]) -> object:
        if isinstance(call, partial):  # it undoes a commit
            raise RuntimeError("can't start new thread")
        return start_in_thread(call)

    monkeypatch.setattr(store, "push_many", failing)

    async def main() -> list[object]:
        await in_loop(committer, "first")
        monkeypatch.setattr(threads, "start_in_thread", start)
        tasks = [in_loop(committer, name) for name in ("good", "bad", "fine")]
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(main())

    assert isinstance(outcomes.pop(1), ZeroDivisionError)
    assert outcomes == [None, None]
    assert "may be on the queue" in caplog.text


# Transactions.


def gator_on(store: TripStore) -> Gator:
    return Gator("locmem://", backend_class=lambda _: store)


def test_transactions_of_one_loop_share_a_trip(store: TripStore) -> None:
    gator = gator_on(store)

    async def request() -> None:
        async with gator.transaction():
            gator.task(add, 1, 2)
            gator.task(add, 3, 4)

    async def main() -> None:
        store.free.clear()
        tasks = [asyncio.create_task(request()) for _ in range(5)]
        while not store.trips:
            await asyncio.sleep(0)
        store.free.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())

    assert [len(trip) for trip in store.trips] == [5]
    assert store.len("all") == 10


def test_tasks_that_could_not_be_pushed_are_canceled(store: TripStore) -> None:
    gator = gator_on(store)
    started: list[Task] = []

    async def main() -> None:
        async with gator.transaction() as transaction:
            started.append(gator.task(add, 1, 2))
            store.abort(transaction.commit_id, [])

    with pytest.raises(BackendError):
        asyncio.run(main())

    assert [task.status for task in started] == [CANCELED]
    assert store.len("all") == 0
