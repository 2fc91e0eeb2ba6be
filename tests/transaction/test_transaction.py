"""The tasks of a transaction are queued when its work has succeeded, not before, not otherwise."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import NoReturn

import pytest

from alligator import CANCELED, DEFERRED, WAITING, Gator, Task
from alligator.backends.base import Message
from alligator.exceptions import BackendUnavailable, InvalidOption
from tests.harness.sample_tasks import add, fail
from tests.harness.transactions import Boom, Recording, ids, untouchable


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


# Commit and rollback.


def test_tasks_are_queued_after_a_clean_end_and_not_before(gator: Gator) -> None:
    with gator.transaction():
        task = gator.task(add, 1, 2)
        held = (gator.len(), task.status)

    assert held == (0, DEFERRED)
    assert (gator.len(), task.status) == (1, WAITING)


def test_tasks_are_queued_in_the_order_of_their_calls(gator: Gator) -> None:
    with gator.transaction():
        tasks = [gator.task(add, number, 0) for number in range(50)]

    assert ids(gator) == [task.task_id for task in tasks]


def test_exception_discards_the_tasks_and_is_raised(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        task = gator.task(add, 1, 2)
        raise Boom

    assert gator.len() == 0
    assert task.status == CANCELED


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_base_exception_discards_the_tasks_too(gator: Gator, error: type[BaseException]) -> None:
    with pytest.raises(error), gator.transaction():
        gator.task(add, 1, 2)
        raise error

    assert gator.len() == 0


def test_doomed_transaction_continues_and_discards_at_its_end(gator: Gator) -> None:
    with gator.transaction() as tx:
        before = gator.task(add, 1, 2)
        tx.doom()
        after = gator.task(add, 1, 2)

    assert gator.len() == 0
    assert [before.status, after.status] == [CANCELED, CANCELED]


def test_transaction_holds_tasks_of_all_public_methods(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
        gator.push(Task(), add, 1, 2)
        with gator.options(retries=1) as opts:
            opts.task(add, 1, 2)
        held = (gator.len(), len(tx.tasks))

    assert held == (0, 3)
    assert gator.len() == 3


def test_options_made_outside_use_the_transaction_of_the_call(gator: Gator) -> None:
    opts = gator.options(retries=1)

    with gator.transaction() as tx:
        opts.task(add, 1, 2)
        held = len(tx.tasks)

    assert held == 1


def test_task_keeps_the_id_of_the_call(gator: Gator) -> None:
    with gator.transaction():
        task = gator.task(add, 1, 2)
        given = task.task_id

    assert ids(gator) == [given] == [task.task_id]


def test_commit_is_one_push(gator: Gator) -> None:
    gator = Gator("locmem://", backend_class=Recording)

    with gator.transaction() as tx:
        tasks = [gator.task(add, 1, 2) for _ in range(3)]
        with gator.transaction():
            tasks.append(gator.task(add, 1, 2))

    assert gator.backend.pushes == [([task.task_id for task in tasks], tx.commit_id)]


def test_empty_transaction_does_not_call_the_store() -> None:
    gator = Gator("x://", backend_class=untouchable)

    with gator.transaction() as tx, gator.transaction():
        pass

    assert tx.tasks == ()


def test_discarded_transaction_does_not_call_the_store() -> None:
    gator = Gator("x://", backend_class=untouchable)

    with gator.transaction(retries=2) as tx:
        gator.task(add, 1, 2)
        with gator.options(always=False) as opts:
            opts.task(add, 1, 2)
        with gator.transaction():
            gator.push(Task(), add, 1, 2)
        held = len(tx.tasks)
        tx.doom()

    assert held == 3


def test_repeated_commit_changes_nothing(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
    again = gator.client

    again.push_many([Message("all", "other", "{}")], commit_id=tx.commit_id)
    tx.commit()

    assert gator.len() == 1


def test_transaction_committed_by_hand_holds_nothing_more(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
        tx.commit()
        committed = gator.len()
        late = gator.task(add, 1, 2)

    assert committed == 1
    assert gator.len() == 2
    assert late.status == WAITING


def test_transaction_can_be_rolled_back_by_hand(gator: Gator) -> None:
    with gator.transaction() as tx:
        task = gator.task(add, 1, 2)
        tx.rollback()

    assert gator.len() == 0
    assert task.status == CANCELED


# Nesting.


def test_inner_transaction_waits_for_the_outer(gator: Gator) -> None:
    with gator.transaction():
        with gator.transaction():
            task = gator.task(add, 1, 2)
        after_inner = (gator.len(), task.status)

    assert after_inner == (0, DEFERRED)
    assert (gator.len(), task.status) == (1, WAITING)


def test_inner_failure_discards_only_its_own_tasks(gator: Gator) -> None:
    with gator.transaction():
        before = gator.task(add, 1, 2)
        with pytest.raises(Boom), gator.transaction():
            inner = gator.task(add, 1, 2)
            raise Boom
        after = gator.task(add, 1, 2)

    assert ids(gator) == [before.task_id, after.task_id]
    assert inner.status == CANCELED


def test_outer_failure_discards_tasks_of_a_successful_inner_one(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        with gator.transaction():
            inner = gator.task(add, 1, 2)
        raise Boom

    assert gator.len() == 0
    assert inner.status == CANCELED


def test_inner_doom_does_not_doom_the_outer(gator: Gator) -> None:
    with gator.transaction():
        outer = gator.task(add, 1, 2)
        with gator.transaction() as inner:
            gator.task(add, 1, 2)
            inner.doom()

    assert ids(gator) == [outer.task_id]


def test_options_of_the_outer_transaction_apply_inside_the_inner_one(gator: Gator) -> None:
    with gator.transaction(retries=3, timeout=9), gator.transaction(timeout=5):
        task = gator.task(add, 1, 2)

    assert (task.retries, task.timeout) == (3, 5)


# Options.


def test_options_merge_from_the_gator_to_the_call() -> None:
    gator = Gator("locmem://", defaults={"retries": 1, "timeout": 1, "backoff": 7})

    with gator.transaction(retries=2, timeout=2), gator.options(retries=3) as opts:
        task = opts.task(add, 1, 2)

    assert (task.retries, task.timeout, task.backoff) == (3, 2, 7)


def test_update_applies_to_the_tasks_that_follow(gator: Gator) -> None:
    with gator.transaction() as tx:
        before = gator.task(add, 1, 2)
        tx.update(retries=4)
        after = gator.task(add, 1, 2)

    assert (before.retries, after.retries) == (0, 4)


def test_unknown_option_is_refused_where_it_is_set(gator: Gator) -> None:
    with pytest.raises(TypeError, match="retries"):
        gator.transaction(retrys=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidOption), gator.transaction() as tx:
        tx.update(retries=-1)


def test_delay_counts_from_the_call(gator: Gator) -> None:
    with gator.transaction():
        with gator.options(delay_by=0.05) as opts:
            opts.task(add, 1, 2)
        time.sleep(0.06)

    assert gator.stats().ready == 1


def test_change_after_the_call_has_no_effect(gator: Gator) -> None:
    basket = {"items": [1]}

    with gator.transaction():
        task = gator.task(add, basket, {})  # type: ignore[arg-type]
        basket["items"].append(2)
        task.to_call(fail)
        task.queue_name = "elsewhere"
        task.delay_until = time.time() + 100

    [lease] = gator.client.reserve("all")
    assert '"args":[{"items":[1]},{}]' in lease.data
    assert '"callable":"add"' in lease.data


def test_arguments_are_checked_at_the_call_not_at_the_end(gator: Gator) -> None:
    with gator.transaction() as tx:
        with pytest.raises(TypeError, match=r"'a' of tests\.harness\.sample_tasks\.add"):
            gator.task(add, object(), 2)  # type: ignore[arg-type]
        held = len(tx.tasks)

    assert held == 0


# Immediate tasks, and tasks with always=True.


def test_immediate_task_is_pushed_at_once_whatever_the_ending(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        with gator.options(immediate=True) as opts:
            task = opts.task(add, 1, 2)
        at_once = (gator.len(), task.status)
        raise Boom

    assert at_once == (1, WAITING)
    assert ids(gator) == [task.task_id]


def test_always_task_waits_but_survives_a_veto(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
        with gator.options(always=True) as opts:
            audit = opts.task(add, 1, 2)
        held = gator.len()
        tx.doom()

    assert held == 0
    assert ids(gator) == [audit.task_id]


def test_always_task_survives_an_exception(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        gator.task(add, 1, 2)
        with gator.options(always=True) as opts:
            audit = opts.task(add, 1, 2)
        raise Boom

    assert ids(gator) == [audit.task_id]
    assert audit.status == WAITING


def test_always_task_of_an_inner_transaction_survives_both(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        with pytest.raises(Boom), gator.transaction():
            with gator.options(always=True) as opts:
                audit = opts.task(add, 1, 2)
            raise Boom
        held = gator.len()
        raise Boom

    assert held == 0
    assert ids(gator) == [audit.task_id]


@pytest.mark.parametrize("error", [BackendUnavailable("gone fishing"), OverflowError("too far")])
def test_failed_push_of_always_tasks_does_not_hide_the_exception(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    gator = Gator("locmem://")

    def push_many(*given: object, **named: object) -> NoReturn:
        raise error

    monkeypatch.setattr(gator.client, "push_many", push_many)

    with pytest.raises(Boom) as caught, gator.transaction():
        with gator.options(always=True) as opts:
            audit = opts.task(add, 1, 2)
        raise Boom

    assert "could not queue 1" in caught.value.__notes__[0]
    assert audit.status == CANCELED


# Callbacks.


def test_callbacks_are_called_in_order_once_the_tasks_are_queued(gator: Gator) -> None:
    seen: list[tuple[str, int]] = []

    with gator.transaction() as tx:
        tx.on_commit(lambda: seen.append(("first", gator.len())))
        with gator.transaction() as inner:
            inner.on_commit(lambda: seen.append(("inner", gator.len())))
        gator.task(add, 1, 2)

    assert seen == [("first", 1), ("inner", 1)]


def test_callbacks_are_called_without_tasks_too(gator: Gator) -> None:
    seen: list[str] = []

    with gator.transaction() as tx:
        tx.on_commit(lambda: seen.append("committed"))

    assert seen == ["committed"]


@pytest.mark.parametrize("ending", ["doom", "raise", "inner"])
def test_callbacks_are_not_called_when_nothing_commits(gator: Gator, ending: str) -> None:
    seen: list[str] = []

    with pytest.raises(Boom), gator.transaction() as tx:
        if ending == "inner":
            with gator.transaction() as inner:
                inner.on_commit(lambda: seen.append("inner"))
        tx.on_commit(lambda: seen.append("outer"))
        if ending == "doom":
            tx.doom()
            tx.commit()
        raise Boom

    assert seen == []


async def wait() -> None:
    await asyncio.sleep(0)


def generate() -> Iterator[None]:
    yield


async def generate_later() -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("callback", [wait, generate, generate_later, partial(wait)])
def test_callback_that_would_not_run_is_refused_at_the_call(
    gator: Gator, callback: Callable[[], object]
) -> None:
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
        with pytest.raises(InvalidOption, match=r"^callback is a (coroutine|generator) function"):
            tx.on_commit(callback)

    assert gator.len() == 1


def test_callback_that_fails_is_logged_and_hides_nothing(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def break_down() -> None:
        raise Boom

    with gator.transaction() as tx:
        gator.task(add, 1, 2)
        tx.on_commit(break_down)
        tx.on_commit(lambda: seen.append("next"))

    assert gator.len() == 1
    assert seen == ["next"]
    assert "on_commit" in caplog.text


def test_callback_registered_after_the_commit_is_called_at_once(gator: Gator) -> None:
    seen: list[str] = []
    with gator.transaction() as tx:
        pass

    tx.on_commit(lambda: seen.append("late"))

    assert seen == ["late"]


def test_callback_registered_after_a_rollback_is_never_called(gator: Gator) -> None:
    seen: list[str] = []
    with gator.transaction() as tx:
        tx.doom()

    tx.on_commit(lambda: seen.append("late"))

    assert seen == []


def test_callback_registered_after_an_inner_end_waits_for_the_outer(gator: Gator) -> None:
    seen: list[str] = []

    with pytest.raises(Boom), gator.transaction():
        with gator.transaction() as inner:
            pass
        inner.on_commit(lambda: seen.append("late"))
        raise Boom

    assert seen == []


def test_task_started_by_a_callback_is_pushed_at_once(gator: Gator) -> None:
    with gator.transaction() as tx:
        tx.on_commit(lambda: gator.task(add, 1, 2))

    assert gator.len() == 1


# Threads.


# Coroutines.


def test_cancelled_request_discards_its_tasks(gator: Gator) -> None:
    async def view() -> None:
        async with gator.transaction():
            gator.task(add, 1, 2)
            await asyncio.sleep(60)

    async def server() -> None:
        request = asyncio.create_task(view())
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(server())

    assert gator.len() == 0


def test_inner_end_in_async_code_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    gator = Gator("x://", backend_class=untouchable)
    ends: list[str] = []

    async def run_in_thread(call: Callable[[], object], *undo: object, **apart: object) -> None:
        ends.append("outer")
        call()

    async def view() -> None:
        async with gator.transaction() as tx:
            async with gator.transaction():
                gator.task(add, 1, 2)
            ends.append("inner")
            tx.doom()

    monkeypatch.setattr("alligator._runtime.threads.run_in_thread", run_in_thread)
    asyncio.run(view())

    assert ends == ["inner", "outer"]
