"""The delivery of a commit: to the store, or by runs in this process."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import pytest

from alligator import (
    CANCELED,
    DEFERRED,
    DUPLICATE,
    SUCCESS,
    WAITING,
    Gator,
    Task,
    Transaction,
)
from alligator.backends.base import Duplicates, Message
from alligator.backends.locmem_backend import Client as Locmem
from alligator.exceptions import BackendError, BackendUnavailable
from tests.harness.sample_tasks import add, fail
from tests.harness.transactions import Boom, untouchable


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


class Away(Locmem):
    """A store that accepts no tasks."""

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        raise BackendUnavailable("gone fishing")


class Deaf(Locmem):
    """A store that takes everything, and whose replies are lost at first."""

    answers = False

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        duplicates = super().push_many(messages, commit_id=commit_id, undo=undo)
        if not self.answers:
            raise BackendUnavailable("no reply")
        return duplicates


class Broken(Locmem):
    """A store with a bug."""

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        raise ZeroDivisionError


class Slow(Locmem):
    """A slow store: it answers when the test sets an event."""

    blocking = True

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.asked = Event()
        self.answer = Event()
        self.undone = Event()

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        self.asked.set()
        assert self.answer.wait(10)
        super().push_many(messages, commit_id=commit_id)

    def abort(self, commit_id: str, messages: Sequence[Message]) -> None:
        super().abort(commit_id, messages)
        self.undone.set()


@pytest.mark.parametrize("store", [Away, Broken])
def test_failed_commit_queues_nothing_and_raises(store: type[Locmem]) -> None:
    gator = Gator("locmem://", backend_class=store)
    called: list[str] = []

    with pytest.raises((BackendError, ZeroDivisionError)), gator.transaction() as tx:
        tasks = [gator.task(add, 1, 2) for _ in range(3)]
        tx.on_commit(lambda: called.append("back"))

    assert [task.status for task in tasks] == [CANCELED] * 3
    assert gator.len() == 0
    assert called == []


def test_failed_commit_raises_in_async_code() -> None:
    gator = Gator("locmem://", backend_class=Away)

    async def view() -> Task:
        with pytest.raises(BackendUnavailable):
            async with gator.transaction():
                task = gator.task(add, 1, 2)
        return task

    assert asyncio.run(view()).status == CANCELED


def test_undo_removes_tasks_that_no_worker_has_begun(gator: Gator) -> None:
    with gator.transaction() as tx:
        begun, waiting = gator.task(add, 1, 2), gator.task(add, 1, 2)
    leases = gator.client.reserve("all")

    tx.undo()

    assert [lease.task_id for lease in leases] == [begun.task_id]
    assert gator.len() == 0
    assert waiting.status == CANCELED


def test_undone_commit_does_not_arrive_later(gator: Gator) -> None:
    with gator.transaction() as tx:
        task = gator.task(add, 1, 2)
    message = Message("all", task.task_id, "{}")

    tx.undo()

    with pytest.raises(BackendError):
        gator.client.push_many([message], commit_id=tx.commit_id)
    assert gator.len() == 0


def test_transactions_under_one_chosen_id_queue_the_tasks_of_the_first(gator: Gator) -> None:
    for _ in range(2):
        with gator.transaction() as tx:
            tx.commit_under("key-1")
            task = gator.task(add, 1, 2)
        tx.undo()  # it may be the commit of another

    assert gator.len() == 1
    assert task.status == WAITING


@pytest.mark.parametrize("is_async", [False, True])
def test_failed_commit_under_a_chosen_id_is_settled_by_another(is_async: bool) -> None:
    gator = Gator("locmem://", backend_class=Deaf)
    store: Deaf = gator.backend

    def begin() -> Transaction:
        transaction = gator.transaction()
        transaction.commit_under("key-1")
        return transaction

    def commit() -> None:
        with begin():
            gator.task(add, 1, 2)

    async def acommit() -> None:
        async with begin():
            gator.task(add, 1, 2)

    def attempt() -> None:
        asyncio.run(acommit()) if is_async else commit()

    with pytest.raises(BackendUnavailable):
        attempt()
    store.answers = True
    attempt()

    assert gator.len() == 1


def test_tasks_that_survive_a_rollback_do_not_take_the_chosen_id(gator: Gator) -> None:
    for _ in range(2):
        with pytest.raises(Boom), gator.transaction() as tx:
            tx.commit_under("key-1")
            gator.options(always=True).task(add, 1, 2)
            raise Boom
    assert gator.len() == 1

    with gator.transaction() as tx:
        tx.commit_under("key-1")
        gator.task(add, 1, 2)

    assert gator.len() == 2


def test_commit_does_not_block_the_event_loop() -> None:
    gator = Gator("locmem://", backend_class=Slow)
    store: Slow = gator.backend
    beats = 0

    async def heart() -> None:
        nonlocal beats
        while not store.asked.is_set():
            await asyncio.sleep(0)
        for _ in range(10):
            beats += 1
            await asyncio.sleep(0)
        store.answer.set()

    async def server() -> None:
        beating = asyncio.create_task(heart())
        async with gator.transaction():
            gator.task(add, 1, 2)
        await beating

    asyncio.run(server())

    assert beats == 10
    assert gator.len() == 1


def test_inline_tasks_do_not_block_the_event_loop() -> None:
    gator = Gator("locmem://", is_async=False)
    ran = Event()
    gator.task_context = lambda: _Waiting(ran)

    async def server() -> Task:
        asyncio.get_running_loop().call_later(0.01, ran.set)
        async with gator.transaction():
            return gator.task(add, 1, 2)

    assert asyncio.run(server()).status == SUCCESS


class _Waiting:
    """A context that is entered when an event has been set."""

    def __init__(self, event: Event) -> None:
        self.event = event

    def __enter__(self) -> None:
        assert self.event.wait(5)

    def __exit__(self, *exc_info: object) -> None:
        pass


def test_cancelled_commit_ends_at_once_and_is_undone() -> None:
    gator = Gator("locmem://", backend_class=Slow)
    store: Slow = gator.backend
    tasks: list[Task] = []

    async def view() -> None:
        async with gator.transaction():
            tasks.append(gator.task(add, 1, 2))

    async def server() -> None:
        request = asyncio.create_task(view())
        while not store.asked.is_set():
            await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert gator.len() == 0
        store.answer.set()
        await asyncio.to_thread(store.undone.wait, 10)

    asyncio.run(server())

    assert gator.len() == 0
    assert tasks[0].status == CANCELED


def test_inline_tasks_run_at_the_commit_in_order() -> None:
    gator = Gator("x://", backend_class=untouchable, is_async=False)

    with gator.transaction():
        tasks = [gator.task(add, number, 1) for number in range(3)]
        before = [task.status for task in tasks]

    assert before == [DEFERRED] * 3
    assert [task.result for task in tasks] == [1, 2, 3]
    assert [task.status for task in tasks] == [SUCCESS] * 3


def test_failed_transaction_runs_no_inline_task() -> None:
    gator = Gator("x://", backend_class=untouchable, is_async=False)

    with pytest.raises(Boom), gator.transaction():
        task = gator.task(fail)
        raise Boom

    assert task.status == CANCELED


def stop() -> None:
    """Raise what ends an iterator, and what Python lets no coroutine raise."""
    raise StopIteration


def test_error_of_an_inline_task_is_raised_as_it_is() -> None:
    gator = Gator("x://", backend_class=untouchable, is_async=False)

    with pytest.raises(StopIteration), gator.transaction():
        gator.task(stop)


def test_failed_inline_task_cancels_only_those_after_it() -> None:
    gator = Gator("x://", backend_class=untouchable, is_async=False)

    with pytest.raises(RuntimeError, match="no luck"), gator.transaction():
        first = gator.task(add, 1, 2)
        gator.task(fail)
        last = gator.task(add, 1, 2)

    assert (first.status, last.status) == (SUCCESS, CANCELED)


def start_something_impossible() -> None:
    """Raise one of Alligator's own errors."""
    Gator("locmem://").task(lambda: None)


def test_backend_error_of_inline_task_keeps_those_before_it() -> None:
    gator = Gator("x://", backend_class=untouchable, is_async=False)

    with pytest.raises(TypeError, match="lambda"), gator.transaction():
        first = gator.task(add, 1, 2)
        gator.task(start_something_impossible)

    assert first.status == SUCCESS


def test_task_with_is_async_false_at_the_call_runs_at_once(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        with gator.options(is_async=False) as opts:
            task = opts.task(add, 1, 2)
        raise Boom

    assert (task.status, task.result) == (SUCCESS, 3)


def test_failed_inline_task_removes_pushed_tasks_of_its_commit(gator: Gator) -> None:
    with pytest.raises(RuntimeError, match="no"), gator.transaction(is_async=False):
        with gator.options(is_async=True) as opts:
            queued = opts.task(add, 1, 2)
        gator.task(fail, "no")

    assert gator.len() == 0
    assert queued.status == CANCELED


@pytest.mark.parametrize("scheme", ["locmem://", "sqlite://{}/queue.db"])
def test_task_with_a_waiting_id_is_reported_as_a_duplicate(scheme: str, tmp_path: Path) -> None:
    gator = Gator(scheme.format(tmp_path))

    first, second = (gator.options(task_id="a").task(add, 1, number) for number in range(2))
    with gator.transaction():
        third = gator.options(task_id="a").task(add, 1, 2)
        other = gator.task(add, 1, 3)
        here = gator.options(is_async=False).task(add, 1, 4)

    assert [task.status for task in (first, second, third, other, here)] == [
        *(WAITING, DUPLICATE, DUPLICATE, WAITING, SUCCESS),
    ]
    assert gator.stats().pushed == 2


def test_duplicate_is_reported_in_async_code_too(tmp_path: Path) -> None:
    gator = Gator(f"sqlite://{tmp_path}/queue.db")

    async def push_twice() -> list[int]:
        tasks = []
        for _ in range(2):
            async with gator.transaction():
                tasks.append(gator.options(task_id="a").task(add, 1, 2))
        return [task.status for task in tasks]

    assert asyncio.run(push_twice()) == [WAITING, DUPLICATE]


def test_id_is_free_again_while_its_task_runs_and_when_it_is_dead() -> None:
    gator = Gator("locmem://")
    options = gator.options(task_id="a")
    options.task(fail)
    with pytest.raises(RuntimeError):
        gator.pop()

    again = options.task(add, 1, 2)

    assert again.status == WAITING
    assert [letter.task_id for letter in gator.dead_letters()] == ["a"]
    task = gator.pop()
    assert task is not None
    assert task.status == SUCCESS
