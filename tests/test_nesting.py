"""Callbacks of a transaction, and transactions in one another, when threads and failures interleave."""

import asyncio
from collections.abc import Callable, Sequence
from threading import Event, RLock, Thread
from typing import Any, ClassVar

import pytest

from alligator import CANCELED, WAITING, Gator, Task
from alligator.backends.base import Message
from alligator.backends.locmem_backend import Client as Locmem
from alligator.exceptions import AlligatorException, BackendUnavailable, InvalidOption
from alligator.options import TaskOptions, merge_options
from alligator.web.middleware import Middleware
from tests.harness.sample_tasks import add


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


class Boom(Exception):
    """The error of the work in these tests."""


class Away(Locmem):
    """A store that accepts no tasks."""

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        raise BackendUnavailable("gone fishing")


class Watched(Locmem):
    """A store that does something in the midst of a commit."""

    groups_commits: ClassVar[bool] = True
    blocking = True
    on_push: Callable[[], object] = staticmethod(lambda: None)

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        super().push_many(messages, commit_id=commit_id)
        self.on_push()


def in_thread(call: Callable[[], object]) -> None:
    thread = Thread(target=call)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


# Callbacks.


def test_callback_that_a_callback_registers_is_called(gator: Gator) -> None:
    seen: list[str] = []

    with gator.transaction() as tx:
        gator.task(add, 1, 2)

        def outer() -> None:
            tx.on_commit(lambda: seen.append("inner"))
            seen.append("outer")

        tx.on_commit(outer)

    assert seen == ["outer", "inner"]


@pytest.mark.parametrize("way", ["commit", "acommit", "acommit with a callback"])
@pytest.mark.parametrize("fails", [False, True])
def test_callback_registered_during_the_commit_is_called_if_it_succeeds(
    way: str, fails: bool
) -> None:
    gator = Gator("locmem://", backend_class=Watched)
    store: Watched = gator.backend
    seen: list[str] = []

    def during() -> None:
        in_thread(lambda: tx.on_commit(lambda: seen.append("during")))
        if fails:
            raise BackendUnavailable("away")

    store.on_push = during
    tx = gator.transaction()

    async def commit() -> None:
        async with tx:
            gator.task(add, 1, 2)
            if way == "acommit with a callback":
                tx.on_commit(lambda: seen.append("before"))

    try:
        if way == "commit":
            with tx:
                gator.task(add, 1, 2)
        else:
            asyncio.run(commit())
    except BackendUnavailable:
        assert fails
    tx.on_commit(lambda: seen.append("after"))

    before = ["before"] if way == "acommit with a callback" else []
    assert seen == ([] if fails else [*before, "during", "after"])


def test_callbacks_that_many_threads_register_are_all_called(gator: Gator) -> None:
    registered: list[int] = []
    called: list[int] = []

    for number in range(30):
        with gator.transaction() as tx:
            gator.task(add, 1, 2)
            ready = Event()

            def register(number: int = number, tx: Any = tx, ready: Event = ready) -> None:
                for _ in range(100):
                    registered.append(number)
                    tx.on_commit(lambda: called.append(number))
                    ready.set()

            threads = [Thread(target=register) for _ in range(3)]
            for thread in threads:
                thread.start()
            ready.wait(20)
        for thread in threads:
            thread.join()

    assert len(called) == len(registered) == 30 * 300


def test_no_callback_is_called_for_a_request_that_another_gator_undid(gator: Gator) -> None:
    away = Gator("locmem://", backend_class=Away)
    middleware = Middleware(object(), [gator, away])
    counts: list[tuple[str, int]] = []
    gator.counters.add = lambda ending, tasks: counts.append((ending, tasks))  # type: ignore[method-assign]
    seen: list[str] = []

    transactions = middleware.begin({})
    task = gator.task(add, 1, 2)
    away.task(add, 1, 2)
    transactions[0].on_commit(lambda: seen.append("queued"))
    middleware.leave(transactions)
    replacement = middleware.end(transactions, 200, [])
    transactions[0].on_commit(lambda: seen.append("late"))

    assert replacement is not None
    assert replacement.status == 503
    assert (seen, gator.len(), task.status) == ([], 0, CANCELED)
    assert counts == [("committed", 1), ("undone", 1)]


def test_callbacks_are_called_when_all_gators_have_committed(gator: Gator) -> None:
    other = Gator("locmem://")
    middleware = Middleware(object(), [gator, other])
    seen: list[tuple[int, int]] = []

    transactions = middleware.begin({})
    gator.task(add, 1, 2)
    other.task(add, 1, 2)
    transactions[0].on_commit(lambda: seen.append((gator.len(), other.len())))
    middleware.leave(transactions)
    middleware.end(transactions, 200, [])

    assert seen == [(1, 1)]


def test_undo_keeps_always_tasks(gator: Gator) -> None:
    with gator.transaction() as tx:
        task = gator.task(add, 1, 2)
        with gator.options(always=True) as opts:
            audit = opts.task(add, 1, 2)

    tx.undo()
    tx.undo()

    assert [lease.task_id for lease in gator.client.reserve("all", limit=9)] == [audit.task_id]
    assert (task.status, audit.status) == (CANCELED, WAITING)


def test_commit_that_a_store_has_forgotten_is_not_undone(
    gator: Gator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with gator.transaction() as tx:
        task = gator.task(add, 1, 2)

    monkeypatch.setattr("alligator.transaction.COMMIT_MEMORY", -1.0)
    tx.undo()

    assert (task.status, gator.len()) == (WAITING, 1)
    assert "cannot remove 1 tasks" in caplog.text


# An inner transaction that ends after its outer.


def late_end(gator: Gator, end_outer: Callable[[Any], object]) -> list[Task]:
    """End an inner transaction, in a thread, after its outer one has ended."""
    begun, go_on = Event(), Event()
    tasks: list[Task] = []

    def work() -> None:
        with gator.transaction():
            tasks.append(gator.task(add, 1, 2))
            with gator.options(always=True) as opts:
                tasks.append(opts.task(add, 3, 4))
            begun.set()
            assert go_on.wait(20)

    outer = gator.transaction()
    outer.__enter__()
    thread = Thread(target=outer.bind(work))
    thread.start()
    assert begun.wait(20)
    end_outer(outer)
    go_on.set()
    thread.join(20)
    return tasks


def test_inner_end_after_a_rollback_discards(gator: Gator) -> None:
    task, audit = late_end(gator, lambda outer: outer.__exit__(Boom, Boom(), None))

    assert (task.status, audit.status) == (CANCELED, WAITING)
    assert [lease.task_id for lease in gator.client.reserve("all", limit=9)] == [audit.task_id]


def test_inner_end_after_a_doom_discards(gator: Gator) -> None:
    def end(outer: Any) -> None:
        outer.doom()
        outer.__exit__(None, None, None)

    task, _ = late_end(gator, end)

    assert task.status == CANCELED


def test_inner_end_after_a_commit_queues(gator: Gator) -> None:
    task, _ = late_end(gator, lambda outer: outer.__exit__(None, None, None))

    assert task.status == WAITING
    assert gator.len() == 2


@pytest.mark.parametrize("commits", [True, False])
def test_inner_end_after_its_outer_end_passes_tasks_to_the_next_outer(
    gator: Gator, commits: bool
) -> None:
    with gator.transaction() as outermost:
        task, _ = late_end(gator, lambda outer: outer.__exit__(None, None, None))
        held = (gator.len(), len(outermost.tasks))
        if not commits:
            outermost.doom()

    assert held == (0, 2)
    assert task.status == (WAITING if commits else CANCELED)


def test_coroutine_that_outlives_a_failed_transaction_discards_with_it(gator: Gator) -> None:
    async def part(go_on: asyncio.Event) -> None:
        async with gator.transaction():
            gator.task(add, 1, 2)
            await go_on.wait()

    async def main() -> None:
        go_on = asyncio.Event()
        children: list[asyncio.Task[None]] = []
        with pytest.raises(Boom):
            async with gator.transaction():
                children.append(asyncio.create_task(part(go_on)))
                await asyncio.sleep(0)
                raise Boom
        go_on.set()
        await children[0]

    asyncio.run(main())

    assert gator.len() == 0


# Used once.


def test_transaction_is_used_once(gator: Gator) -> None:
    tx = gator.transaction()
    with tx:
        gator.task(add, 1, 2)

    with pytest.raises(AlligatorException, match="used once"), tx:
        gator.task(add, 1, 2)

    assert gator.len() == 1
    assert gator.current is None


def test_transaction_is_not_nested_in_itself(gator: Gator) -> None:
    with gator.transaction() as tx:
        with pytest.raises(AlligatorException, match="used once"), tx:
            pass
        gator.task(add, 1, 2)

    assert gator.len() == 1


# The status.


class Contended:
    """A lock that says when a thread waits for it."""

    def __init__(self) -> None:
        self._lock = RLock()
        self.waits = Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.waits.set()
            self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


def until_it_waits_or_ends(lock: Contended, call: Callable[[], object]) -> Thread:
    """Start *call* in a thread, and return when it waits for *lock* or has ended."""

    def run() -> None:
        call()
        lock.waits.set()

    thread = Thread(target=run)
    thread.start()
    assert lock.waits.wait(20)
    return thread


def test_status_is_true_when_the_call_returns() -> None:
    class Interrupted(Task):
        """One whose transaction is committed by another thread while it is being held."""

        def to_deferred(self) -> None:
            committing.append(until_it_waits_or_ends(lock, tx.commit))
            super().to_deferred()

    gator = Gator("locmem://", task_class=Interrupted)
    tx, lock = gator.transaction(), Contended()
    tx.deferred.lock = lock  # type: ignore[assignment]
    committing: list[Thread] = []

    with tx:
        task = gator.task(add, 1, 2)
        committing[0].join(20)

        assert task.status == WAITING
        assert gator.len() == 1


def test_update_keeps_the_options_of_two_threads(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    tx, lock = gator.transaction(), Contended()
    tx.deferred.lock = lock  # type: ignore[assignment]
    updating: list[Thread] = []

    def merge_late(*given: Any) -> Any:
        if not updating:
            updating.append(Thread())
            updating[0] = until_it_waits_or_ends(lock, lambda: tx.update(retries=7))
        return merge_options(*given)

    with tx:
        monkeypatch.setattr("alligator.transaction.merge_options", merge_late)
        tx.update(timeout=7.0)
        updating[0].join(20)
        task = gator.task(add, 1, 2)

    assert (task.retries, task.timeout) == (7, 7.0)


# An id for several tasks.


def test_task_id_cannot_be_shared_by_the_tasks_of_a_transaction(gator: Gator) -> None:
    shared: TaskOptions = {"task_id": "nightly"}

    with pytest.raises(InvalidOption, match="task_id is an option of one task"):
        gator.transaction(**shared)
    with pytest.raises(InvalidOption, match="task_id"), gator.transaction() as tx:
        tx.update(task_id="nightly")
    with pytest.raises(InvalidOption, match="task_id"):
        Gator("locmem://", defaults=shared)
    with pytest.raises(InvalidOption, match="task_id"):
        Middleware(object(), gator, options={**shared})
    with pytest.raises(InvalidOption, match="task_id"):
        Middleware(object(), gator, options=lambda request: {**shared}).begin({})


def test_task_id_can_be_given_to_one_task_of_a_transaction(gator: Gator) -> None:
    with gator.transaction():
        task = gator.options(task_id="nightly").task(add, 1, 2)

    assert (task.task_id, gator.len()) == ("nightly", 1)
