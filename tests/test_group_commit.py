"""Commits that come at the same moment leave together, each with an outcome of its own."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Timer
from typing import ClassVar

import pytest

from alligator import CANCELED, Gator, Task
from alligator.backends import locmem_backend
from alligator.backends.base import Commit, Message
from alligator.constants import COMMITS_A_TRIP as MOST
from alligator.exceptions import AlligatorException, BackendError, BackendUnavailable
from alligator.group_commit import GroupCommit
from tests.programs import eventually
from tests.sample_tasks import add


class Store(locmem_backend.Client):
    """A store that can hold back its trips, and writes down whom each took along."""

    gathers: ClassVar[bool] = True

    def __init__(self, conn_string: str = "locmem://") -> None:
        super().__init__(conn_string)
        self.trips: list[list[str | None]] = []
        self.waited: list[float] = []
        self.free = Event()
        self.free.set()
        self.error: BaseException | None = None
        self.on_trip: Callable[[], object] | None = None

    def push_commits(
        self, commits: Sequence[Commit], *, waited: float = 0.0
    ) -> list[AlligatorException | None]:
        self.trips.append([commit_id for _, commit_id in commits])
        self.waited.append(waited)
        if self.on_trip is not None:
            call, self.on_trip = self.on_trip, None
            call()
        assert self.free.wait(20)
        if self.error is not None:
            raise self.error
        return super().push_commits(commits, waited=waited)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def group(store: Store) -> GroupCommit:
    return GroupCommit(store)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * MOST) as pool:
        yield pool


Push = Callable[[str], "Future[None]"]


@pytest.fixture
def push(store: Store, group: GroupCommit, pool: ThreadPoolExecutor) -> Iterator[Push]:
    """Push, under a commit id, from a thread of its own."""

    def push(name: str) -> "Future[None]":
        return pool.submit(group.push_many, [Message("all", name, "{}")], commit_id=name)

    yield push
    store.free.set()


def hold(store: Store, group: GroupCommit, push: Push, first: str = "first") -> "Future[None]":
    """Let a trip be under way."""
    store.free.clear()
    future = push(first)
    eventually(lambda: store.trips == [[first]])
    return future


def gathered(group: GroupCommit, count: int) -> None:
    eventually(lambda: len(group._waiting) == count)


def test_who_is_alone_does_not_wait(store: Store, group: GroupCommit) -> None:
    for name in ("a", "b"):
        group.push_many([Message("all", name, "{}")], commit_id=name)

    assert store.trips == [["a"], ["b"]]


def test_those_who_come_during_a_trip_leave_together(
    store: Store, group: GroupCommit, push: Push
) -> None:
    futures = [hold(store, group, push)]
    for count, name in enumerate("abc", 1):
        futures.append(push(name))
        gathered(group, count)

    store.free.set()

    assert [future.result(20) for future in futures] == [None] * 4
    assert store.trips == [["first"], ["a", "b", "c"]]
    assert store.len("all") == 4


def test_one_trip_takes_so_many_and_the_next_the_others(
    store: Store, group: GroupCommit, push: Push
) -> None:
    futures = [hold(store, group, push)]
    futures += [push(str(number)) for number in range(MOST + 1)]
    gathered(group, MOST + 1)

    store.free.set()

    assert [future.result(20) for future in futures] == [None] * (MOST + 2)
    assert [len(trip) for trip in store.trips] == [1, MOST, 1]


def test_a_refusal_is_for_him_alone_who_is_refused(
    store: Store, group: GroupCommit, push: Push
) -> None:
    store.abort("refused", [])
    first = hold(store, group, push)
    futures = [push("fine"), push("refused"), push("good")]
    gathered(group, 3)

    store.free.set()

    with pytest.raises(BackendError):
        futures[1].result(20)
    assert first.result(20) is futures[0].result(20) is futures[2].result(20) is None
    assert len(store.trips) == 2


def test_a_trip_that_is_broken_off_fails_for_all_and_the_next_goes_on(
    store: Store, group: GroupCommit, push: Push
) -> None:
    first = hold(store, group, push)
    store.error = SystemExit()
    second = push("second")
    gathered(group, 1)

    store.free.set()
    with pytest.raises(SystemExit):
        first.result(20)
    with pytest.raises((SystemExit, BackendUnavailable)):
        second.result(20)
    store.error = None
    group.push_many([Message("all", "third", "{}")])

    assert store.len("all") == 1


def test_the_wait_for_a_turn_is_counted(store: Store, group: GroupCommit, push: Push) -> None:
    futures = [hold(store, group, push), push("second")]
    gathered(group, 1)
    began = group._waiting[0].began

    futures.append(push("third"))
    gathered(group, 2)
    later = group._waiting[1].began
    store.free.set()
    for future in futures:
        future.result(20)

    assert store.waited[1] > later - began  # that of the one who has waited for longest


def test_who_gives_up_before_his_turn_is_not_pushed(
    store: Store, group: GroupCommit, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hold(store, group, push)

    class Lock:
        def __enter__(self) -> None:
            raise KeyboardInterrupt

        def __exit__(self, *exc_info: object) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(group, "_turn", Lock)
        with pytest.raises(KeyboardInterrupt):
            group.push_many([Message("all", "gone", "{}")], commit_id="gone")
    store.free.set()
    first.result(20)

    assert store.trips == [["first"]]


def test_who_gives_up_when_another_has_taken_him_along_is_undone(
    store: Store, group: GroupCommit, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lock:
        def __enter__(self) -> None:
            group._waiting.clear()
            raise KeyboardInterrupt

        def __exit__(self, *exc_info: object) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(group, "_turn", Lock)
        with pytest.raises(KeyboardInterrupt):
            group.push_many([Message("all", "gone", "{}")], commit_id="gone")

    with pytest.raises(BackendError):  # should it still arrive
        store.push_many([Message("all", "gone", "{}")], commit_id="gone")


def test_a_signal_handler_may_push_while_its_thread_is_on_a_trip(
    store: Store, group: GroupCommit
) -> None:
    def handle(*args: object) -> None:
        group.push_many([Message("all", "handler", "{}")], commit_id="handler")

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        store.on_trip = lambda: os.kill(os.getpid(), signal.SIGUSR1)
        group.push_many([Message("all", "thread", "{}")], commit_id="thread")
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert store.trips == [["thread"], ["handler"]]
    assert store.len("all") == 2


def test_a_child_does_not_wait_for_the_turn_of_its_parent(
    store: Store, group: GroupCommit, push: Push
) -> None:
    first = hold(store, group, push)
    waiting = push("waits")
    gathered(group, 1)

    child = os.fork()
    if not child:
        store.free = Event()
        store.free.set()
        group.push_many([Message("all", "child", "{}")])
        os._exit(store.len("all"))
    _, status = os.waitpid(child, 0)
    store.free.set()

    assert first.result(20) is waiting.result(20) is None
    assert os.waitstatus_to_exitcode(status) == 1


# Coroutines.


def in_loop(group: GroupCommit, name: str) -> "asyncio.Task[None]":
    push = group.apush_many([Message("all", name, "{}")], commit_id=name)
    return asyncio.get_running_loop().create_task(push)


async def away(store: Store, *names: str) -> None:
    """Let the loop go on until a trip with *names* is under way."""
    while not store.trips or store.trips[-1] != [*names]:
        await asyncio.sleep(0)


def test_coroutines_leave_together_and_hold_up_nobody(store: Store, group: GroupCommit) -> None:
    async def main() -> None:
        store.free.clear()
        tasks = [in_loop(group, "first")]
        await away(store, "first")
        tasks += [in_loop(group, name) for name in "abc"]
        await asyncio.sleep(0)
        store.free.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())

    assert store.trips == [["first"], ["a", "b", "c"]]


def test_a_coroutine_is_told_that_it_is_refused(store: Store, group: GroupCommit) -> None:
    store.abort("refused", [])

    async def main() -> None:
        await asyncio.gather(in_loop(group, "refused"), in_loop(group, "fine"))

    with pytest.raises(BackendError):
        asyncio.run(main())

    assert store.len("all") == 1


@pytest.mark.parametrize("outcome", ["queued", "refused"])
def test_a_cancellation_waits_for_the_outcome(
    store: Store, group: GroupCommit, outcome: str
) -> None:
    seen: list[str] = []
    if outcome == "refused":
        store.abort("a", [])

    async def request() -> None:
        try:
            await group.apush_many([Message("all", "a", "{}")], commit_id="a")
        except BackendError:
            seen.append("refused")
        else:
            seen.append("queued")
        await asyncio.sleep(0)
        seen.append("went on")

    async def main() -> None:
        store.free.clear()
        task = asyncio.create_task(request())
        await away(store, "a")
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        store.free.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert seen == [outcome]


def test_a_time_limit_around_a_push_is_still_one_after_it(store: Store, group: GroupCommit) -> None:
    async def main() -> None:
        store.free.clear()
        asyncio.get_running_loop().call_later(0.05, store.free.set)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await group.apush_many([Message("all", "a", "{}")], commit_id="a")
                await asyncio.sleep(20)
        await asyncio.sleep(0)  # nothing of it is left over

    asyncio.run(main())

    assert store.len("all") == 1


def test_an_event_loop_that_ends_takes_its_pushes_with_it(store: Store, group: GroupCommit) -> None:
    async def main() -> None:
        store.free.clear()
        in_loop(group, "a")
        await away(store, "a")
        in_loop(group, "b")
        await asyncio.sleep(0)
        Timer(0.05, store.free.set).start()

    asyncio.run(main())
    group.push_many([Message("all", "c", "{}")], commit_id="c")

    assert store.trips == [["a"], ["c"]]


def test_an_event_loop_that_ends_lets_the_trip_under_way_have_its_outcome(
    store: Store, group: GroupCommit
) -> None:
    seen: list[str] = []

    async def request() -> None:
        await group.apush_many([Message("all", "a", "{}")], commit_id="a")
        seen.append("queued")

    async def main() -> None:
        store.free.clear()
        requests.append(asyncio.create_task(request()))
        await away(store, "a")
        Timer(0.05, store.free.set).start()

    requests: list[asyncio.Task[None]] = []
    asyncio.run(main())

    assert seen == ["queued"]


def test_an_event_loop_may_end_before_a_trip_has_begun(store: Store, group: GroupCommit) -> None:
    requests: list[asyncio.Task[None]] = []

    async def main() -> None:
        requests.append(in_loop(group, "a"))

    asyncio.run(main())

    assert isinstance(requests[0].exception(), BackendUnavailable)
    assert store.len("all") == 0


def test_without_a_thread_nothing_is_pushed(
    store: Store, group: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", fail)

    async def main() -> None:
        await in_loop(group, "a")

    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="broken off: RuntimeError"):
            asyncio.run(main())
    assert not store.trips


# The way there.


def gator_on(store: Store) -> Gator:
    return Gator("locmem://", backend_class=lambda _: store)


def test_transactions_of_one_loop_leave_together(store: Store) -> None:
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


def test_tasks_that_could_not_leave_say_so(store: Store) -> None:
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
