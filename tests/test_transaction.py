"""A transaction's tasks are on the queue when its work has succeeded, and not before or otherwise."""

import asyncio
import contextvars
import time
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Any

import anyio.to_thread
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from alligator import CANCELED, DEFERRED, SUCCESS, WAITING, Client, Gator, Task, Transaction
from alligator.backends.base import Message
from alligator.backends.locmem_backend import Client as Locmem
from alligator.constants import MAX_TASKS
from alligator.exceptions import BackendError, BackendUnavailable, InvalidOption, TooManyTasks
from tests.sample_tasks import add, fail


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


class Boom(Exception):
    """What the work of these tests fails with."""


class Recording(Locmem):
    """A store that notes the calls that put something in."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.pushes: list[tuple[list[str], str | None]] = []

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        self.pushes.append(([message.task_id for message in messages], commit_id))
        super().push_many(messages, commit_id=commit_id)


class Away(Locmem):
    """A store that takes nothing."""

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        raise BackendUnavailable("gone fishing")


class Broken(Locmem):
    """A store with a bug."""

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        raise ZeroDivisionError


class Slow(Locmem):
    """A store that takes its time: it answers when it is told to."""

    blocking = True

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.asked = Event()
        self.answer = Event()

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        self.asked.set()
        assert self.answer.wait(10)
        super().push_many(messages, commit_id=commit_id)


def untouchable(conn_string: str) -> Client:
    """Make a store that fails at whatever is asked of it."""

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise AssertionError("the store was asked")

    methods = dict.fromkeys(Client.__abstractmethods__, refuse)
    client: Client = type("Untouchable", (Client,), methods)(conn_string)
    return client


def ids(gator: Gator) -> list[str]:
    """Take all that is ready off the queue, in order."""
    return [lease.task_id for lease in gator.client.reserve(gator.queue_name, limit=10_000)]


# Commit and rollback.


def test_tasks_are_on_the_queue_after_a_clean_end_and_not_before(gator: Gator) -> None:
    with gator.transaction():
        task = gator.task(add, 1, 2)
        held = (gator.len(), task.status)

    assert held == (0, DEFERRED)
    assert (gator.len(), task.status) == (1, WAITING)


def test_tasks_leave_in_the_order_of_their_calls(gator: Gator) -> None:
    with gator.transaction():
        tasks = [gator.task(add, number, 0) for number in range(50)]

    assert ids(gator) == [task.task_id for task in tasks]


def test_an_exception_drops_the_tasks_and_goes_on_its_way(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        task = gator.task(add, 1, 2)
        raise Boom

    assert gator.len() == 0
    assert task.status == CANCELED


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_mere_exception_drops_the_tasks_too(
    gator: Gator, error: type[BaseException]
) -> None:
    with pytest.raises(error), gator.transaction():
        gator.task(add, 1, 2)
        raise error

    assert gator.len() == 0


def test_a_doomed_transaction_goes_on_and_discards_at_its_end(gator: Gator) -> None:
    with gator.transaction() as tx:
        before = gator.task(add, 1, 2)
        tx.doom()
        after = gator.task(add, 1, 2)

    assert gator.len() == 0
    assert [before.status, after.status] == [CANCELED, CANCELED]


def test_all_public_paths_lead_into_the_transaction(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
        gator.push(Task(), add, 1, 2)
        with gator.options(retries=1) as opts:
            opts.task(add, 1, 2)
        held = (gator.len(), len(tx.tasks))

    assert held == (0, 3)
    assert gator.len() == 3


def test_options_made_outside_lead_into_the_transaction_of_the_call(gator: Gator) -> None:
    opts = gator.options(retries=1)

    with gator.transaction() as tx:
        opts.task(add, 1, 2)
        held = len(tx.tasks)

    assert held == 1


def test_a_task_keeps_the_id_it_was_given_at_the_call(gator: Gator) -> None:
    with gator.transaction():
        task = gator.task(add, 1, 2)
        given = task.task_id

    assert ids(gator) == [given] == [task.task_id]


def test_a_commit_is_one_push(gator: Gator) -> None:
    gator = Gator("locmem://", backend_class=Recording)

    with gator.transaction() as tx:
        tasks = [gator.task(add, 1, 2) for _ in range(3)]
        with gator.transaction():
            tasks.append(gator.task(add, 1, 2))

    assert gator.backend.pushes == [([task.task_id for task in tasks], tx.commit_id)]


def test_an_empty_transaction_asks_the_store_nothing() -> None:
    gator = Gator("x://", backend_class=untouchable)

    with gator.transaction() as tx, gator.transaction():
        pass

    assert tx.tasks == ()


def test_collecting_and_discarding_asks_the_store_nothing() -> None:
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


def test_a_repeated_commit_changes_nothing(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
    again = gator.client

    again.push_many([Message("all", "other", "{}")], commit_id=tx.commit_id)
    tx.commit()

    assert gator.len() == 1


def test_it_may_be_committed_by_hand_and_takes_nothing_more(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
        tx.commit()
        committed = gator.len()
        late = gator.task(add, 1, 2)

    assert committed == 1
    assert gator.len() == 2
    assert late.status == WAITING


def test_it_may_be_rolled_back_by_hand(gator: Gator) -> None:
    with gator.transaction() as tx:
        task = gator.task(add, 1, 2)
        tx.rollback()

    assert gator.len() == 0
    assert task.status == CANCELED


# When the store does not take them.


@pytest.mark.parametrize("store", [Away, Broken])
def test_a_commit_that_fails_queues_nothing_and_says_so(store: type[Locmem]) -> None:
    gator = Gator("locmem://", backend_class=store)
    called: list[str] = []

    with pytest.raises((BackendError, ZeroDivisionError)), gator.transaction() as tx:
        tasks = [gator.task(add, 1, 2) for _ in range(3)]
        tx.on_commit(lambda: called.append("back"))

    assert [task.status for task in tasks] == [CANCELED] * 3
    assert gator.len() == 0
    assert called == []


def test_a_commit_that_fails_in_async_code_says_so_too() -> None:
    gator = Gator("locmem://", backend_class=Away)

    async def view() -> Task:
        with pytest.raises(BackendUnavailable):
            async with gator.transaction():
                task = gator.task(add, 1, 2)
        return task

    assert asyncio.run(view()).status == CANCELED


def test_undo_takes_back_what_no_worker_has_begun(gator: Gator) -> None:
    with gator.transaction() as tx:
        begun, waiting = gator.task(add, 1, 2), gator.task(add, 1, 2)
    leases = gator.client.reserve("all")

    tx.undo()

    assert [lease.task_id for lease in leases] == [begun.task_id]
    assert gator.len() == 0
    assert waiting.status == CANCELED


def test_an_undone_commit_does_not_arrive_later(gator: Gator) -> None:
    with gator.transaction() as tx:
        task = gator.task(add, 1, 2)
    message = Message("all", task.task_id, "{}")

    tx.undo()

    with pytest.raises(BackendError):
        gator.client.push_many([message], commit_id=tx.commit_id)
    assert gator.len() == 0


# One inside another.


def test_an_inner_transaction_waits_for_the_outer(gator: Gator) -> None:
    with gator.transaction():
        with gator.transaction():
            task = gator.task(add, 1, 2)
        after_inner = (gator.len(), task.status)

    assert after_inner == (0, DEFERRED)
    assert (gator.len(), task.status) == (1, WAITING)


def test_an_inner_failure_drops_only_its_own_tasks(gator: Gator) -> None:
    with gator.transaction():
        before = gator.task(add, 1, 2)
        with pytest.raises(Boom), gator.transaction():
            inner = gator.task(add, 1, 2)
            raise Boom
        after = gator.task(add, 1, 2)

    assert ids(gator) == [before.task_id, after.task_id]
    assert inner.status == CANCELED


def test_an_outer_failure_drops_what_an_inner_one_succeeded_with(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        with gator.transaction():
            inner = gator.task(add, 1, 2)
        raise Boom

    assert gator.len() == 0
    assert inner.status == CANCELED


def test_an_inner_doom_does_not_doom_the_outer(gator: Gator) -> None:
    with gator.transaction():
        outer = gator.task(add, 1, 2)
        with gator.transaction() as inner:
            gator.task(add, 1, 2)
            inner.doom()

    assert ids(gator) == [outer.task_id]


def test_the_transactions_of_two_gators_do_not_mix(gator: Gator) -> None:
    other = Gator("locmem://")

    with gator.transaction() as ours, other.transaction() as theirs:
        gator.task(add, 1, 2)
        other.task(add, 1, 2)
        other.task(add, 1, 2)
        theirs.doom()
        held = (len(ours.tasks), len(theirs.tasks))

    assert held == (1, 2)
    assert (gator.len(), other.len()) == (1, 0)


def test_a_transaction_joins_its_own_gators_across_that_of_another(gator: Gator) -> None:
    other = Gator("locmem://")

    with pytest.raises(Boom), gator.transaction():
        with other.transaction(), gator.transaction():
            gator.task(add, 1, 2)
            other.task(add, 1, 2)
        raise Boom

    assert (gator.len(), other.len()) == (0, 1)


def test_another_gator_is_not_held_by_this_ones_transaction(gator: Gator) -> None:
    other = Gator("locmem://")

    with gator.transaction():
        other.task(add, 1, 2)
        pushed = other.len()

    assert pushed == 1


def test_the_options_of_the_outer_transaction_hold_inside_the_inner_one(gator: Gator) -> None:
    with gator.transaction(retries=3, timeout=9), gator.transaction(timeout=5):
        task = gator.task(add, 1, 2)

    assert (task.retries, task.timeout) == (3, 5)


# Options.


def test_options_merge_from_the_gator_to_the_call() -> None:
    gator = Gator("locmem://", defaults={"retries": 1, "timeout": 1, "backoff": 7})

    with gator.transaction(retries=2, timeout=2), gator.options(retries=3) as opts:
        task = opts.task(add, 1, 2)

    assert (task.retries, task.timeout, task.backoff) == (3, 2, 7)


def test_update_is_for_the_tasks_that_follow(gator: Gator) -> None:
    with gator.transaction() as tx:
        before = gator.task(add, 1, 2)
        tx.update(retries=4)
        after = gator.task(add, 1, 2)

    assert (before.retries, after.retries) == (0, 4)


def test_an_option_that_no_task_takes_is_refused_where_it_is_said(gator: Gator) -> None:
    with pytest.raises(TypeError, match="retries"):
        gator.transaction(retrys=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidOption), gator.transaction() as tx:
        tx.update(retries=-1)


def test_a_delay_counts_from_the_call(gator: Gator) -> None:
    with gator.transaction():
        with gator.options(delay_by=0.05) as opts:
            opts.task(add, 1, 2)
        time.sleep(0.06)

    assert gator.stats().ready == 1


def test_a_change_after_the_call_changes_nothing(gator: Gator) -> None:
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
        with pytest.raises(TypeError, match=r"'a' of tests\.sample_tasks\.add"):
            gator.task(add, object(), 2)  # type: ignore[arg-type]
        held = len(tx.tasks)

    assert held == 0


# Tasks that do not wait, and tasks that survive.


def test_an_immediate_task_goes_out_at_once_whatever_becomes_of_the_rest(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        with gator.options(immediate=True) as opts:
            task = opts.task(add, 1, 2)
        at_once = (gator.len(), task.status)
        raise Boom

    assert at_once == (1, WAITING)
    assert ids(gator) == [task.task_id]


def test_an_always_task_waits_but_survives_a_veto(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
        with gator.options(always=True) as opts:
            audit = opts.task(add, 1, 2)
        held = gator.len()
        tx.doom()

    assert held == 0
    assert ids(gator) == [audit.task_id]


def test_an_always_task_survives_an_exception(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        gator.task(add, 1, 2)
        with gator.options(always=True) as opts:
            audit = opts.task(add, 1, 2)
        raise Boom

    assert ids(gator) == [audit.task_id]
    assert audit.status == WAITING


def test_an_always_task_of_an_inner_transaction_survives_both(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        with pytest.raises(Boom), gator.transaction():
            with gator.options(always=True) as opts:
                audit = opts.task(add, 1, 2)
            raise Boom
        held = gator.len()
        raise Boom

    assert held == 0
    assert ids(gator) == [audit.task_id]


def test_a_store_that_is_away_does_not_hide_the_exception_of_the_work() -> None:
    gator = Gator("locmem://", backend_class=Away)

    with pytest.raises(Boom) as caught, gator.transaction():
        with gator.options(always=True) as opts:
            audit = opts.task(add, 1, 2)
        raise Boom

    assert "could not queue 1" in caught.value.__notes__[0]
    assert audit.status == CANCELED


# Callbacks.


def test_callbacks_are_called_in_order_once_the_tasks_are_on_the_queue(gator: Gator) -> None:
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


def test_a_callback_that_fails_is_logged_and_hides_nothing(
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


def test_a_callback_that_comes_after_the_commit_is_called_at_once(gator: Gator) -> None:
    seen: list[str] = []
    with gator.transaction() as tx:
        pass

    tx.on_commit(lambda: seen.append("late"))

    assert seen == ["late"]


def test_a_callback_that_comes_after_a_rollback_is_never_called(gator: Gator) -> None:
    seen: list[str] = []
    with gator.transaction() as tx:
        tx.doom()

    tx.on_commit(lambda: seen.append("late"))

    assert seen == []


def test_a_callback_that_comes_after_an_inner_end_waits_for_the_outer_one(gator: Gator) -> None:
    seen: list[str] = []

    with pytest.raises(Boom), gator.transaction():
        with gator.transaction() as inner:
            pass
        inner.on_commit(lambda: seen.append("late"))
        raise Boom

    assert seen == []


def test_a_task_that_a_callback_starts_goes_out_at_once(gator: Gator) -> None:
    with gator.transaction() as tx:
        tx.on_commit(lambda: gator.task(add, 1, 2))

    assert gator.len() == 1


# How much it takes.


def test_it_takes_a_thousand_tasks_and_says_what_to_do_with_more(gator: Gator) -> None:
    with gator.transaction() as tx:
        for _ in range(MAX_TASKS):
            gator.task(add, 1, 2)
        with pytest.raises(TooManyTasks, match="1000 tasks"):
            gator.task(add, 1, 2)
        held = len(tx.tasks)

    assert held == gator.len() == MAX_TASKS


def test_tasks_of_inner_transactions_count_too(gator: Gator) -> None:
    with gator.transaction():
        with gator.transaction():
            for _ in range(MAX_TASKS - 1):
                gator.task(add, 1, 2)
        gator.task(add, 1, 2)
        with gator.transaction(), pytest.raises(TooManyTasks):
            gator.task(add, 1, 2)

    assert gator.len() == MAX_TASKS


def test_inner_transactions_side_by_side_do_not_exceed_it_together(gator: Gator) -> None:
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


# Threads.


def run_in_thread(call: Callable[[], object]) -> None:
    """Make the call in a raw thread, which has a context of its own."""
    # Since Python 3.14 a thread may inherit the context: this one is to begin with nothing.
    thread = Thread(target=lambda: contextvars.Context().run(call))
    thread.start()
    thread.join()


def test_a_raw_thread_does_not_see_the_transaction_and_pushes_at_once(gator: Gator) -> None:
    with gator.transaction() as tx:
        run_in_thread(lambda: gator.task(add, 1, 2))
        seen = (gator.len(), len(tx.tasks))

    assert seen == (1, 0)


def test_a_bound_function_carries_the_transaction_into_a_thread(gator: Gator) -> None:
    with gator.transaction() as tx:
        run_in_thread(tx.bind(lambda: gator.task(add, 1, 2)))
        seen = (gator.len(), len(tx.tasks))

    assert seen == (0, 1)
    assert gator.len() == 1


def test_a_bound_function_keeps_its_name_arguments_and_result(gator: Gator) -> None:
    with gator.transaction() as tx:
        bound = tx.bind(add)

    assert (bound.__name__, bound(1, b=2)) == ("add", 3)


def test_a_function_bound_to_a_transaction_that_has_ended_pushes_at_once(gator: Gator) -> None:
    with gator.transaction() as tx:
        bound = tx.bind(lambda: gator.task(add, 1, 2))

    run_in_thread(bound)

    assert gator.len() == 1


def test_to_thread_sees_the_transaction(gator: Gator) -> None:
    async def view() -> tuple[int, int]:
        async with gator.transaction() as tx:
            await asyncio.to_thread(gator.task, add, 1, 2)
            await anyio.to_thread.run_sync(lambda: gator.task(add, 1, 2))
            return gator.len(), len(tx.tasks)

    assert asyncio.run(view()) == (0, 2)
    assert gator.len() == 2


def test_many_threads_may_add_to_one_transaction(gator: Gator) -> None:
    with gator.transaction() as tx:
        add_ten = tx.bind(lambda: [gator.task(add, 1, 2) for _ in range(10)])
        threads = [Thread(target=add_ten) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert gator.len() == 200


def test_a_task_is_held_or_pushed_but_never_lost_when_threads_race_with_the_end(
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


# Coroutines.


def test_it_is_an_asynchronous_context_too(gator: Gator) -> None:
    async def view() -> int:
        async with gator.transaction():
            gator.task(add, 1, 2)
            await asyncio.sleep(0)
            return gator.len()

    assert asyncio.run(view()) == 0
    assert gator.len() == 1


def test_two_requests_on_one_loop_do_not_meet(gator: Gator) -> None:
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


def test_a_coroutine_that_is_waited_for_adds_to_the_transaction(gator: Gator) -> None:
    async def part() -> None:
        gator.task(add, 1, 2)

    async def view() -> int:
        async with gator.transaction():
            await asyncio.gather(part(), part())
            return gator.len()

    assert asyncio.run(view()) == 0
    assert gator.len() == 2


def test_a_coroutine_that_outlives_the_transaction_pushes_at_once(gator: Gator) -> None:
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


def test_a_late_coroutine_begins_transactions_of_its_own(gator: Gator) -> None:
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


def test_a_commit_does_not_stop_the_event_loop() -> None:
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


def test_tasks_that_run_at_the_commit_do_not_stop_the_event_loop() -> None:
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


def test_a_commit_that_is_cancelled_is_finished_first() -> None:
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
        for _ in range(3):
            request.cancel()
            await asyncio.sleep(0)
        cancelled_early = request.done()
        store.answer.set()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert not cancelled_early

    asyncio.run(server())

    assert gator.len() == 1
    assert tasks[0].status == WAITING


def test_a_request_that_is_cancelled_drops_its_tasks(gator: Gator) -> None:
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


def test_an_inner_end_in_async_code_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    gator = Gator("x://", backend_class=untouchable)
    ends: list[str] = []

    async def offload(call: Callable[[], object]) -> None:
        ends.append("outer")
        call()

    async def view() -> None:
        async with gator.transaction() as tx:
            async with gator.transaction():
                gator.task(add, 1, 2)
            ends.append("inner")
            tx.doom()

    monkeypatch.setattr("alligator.offload.offload", offload)
    asyncio.run(view())

    assert ends == ["inner", "outer"]


def test_it_may_be_left_in_another_context_than_it_was_entered_in(gator: Gator) -> None:
    # As frameworks do with a generator that they run in a pool of threads.
    tx = gator.transaction()

    contextvars.copy_context().run(tx.__enter__)
    tx.bind(lambda: gator.task(add, 1, 2))()
    tx.__exit__(None, None, None)

    assert gator.len() == 1
    assert gator.current is None


# Tasks of a gator whose tasks run in this process.


def test_tasks_run_at_the_commit_in_order() -> None:
    gator = Gator("x://", backend_class=untouchable, is_async=False)

    with gator.transaction():
        tasks = [gator.task(add, number, 1) for number in range(3)]
        before = [task.status for task in tasks]

    assert before == [DEFERRED] * 3
    assert [task.result for task in tasks] == [1, 2, 3]
    assert [task.status for task in tasks] == [SUCCESS] * 3


def test_a_failed_transaction_runs_nothing() -> None:
    gator = Gator("x://", backend_class=untouchable, is_async=False)

    with pytest.raises(Boom), gator.transaction():
        task = gator.task(fail)
        raise Boom

    assert task.status == CANCELED


def test_a_task_that_fails_at_the_commit_cancels_those_after_it_only() -> None:
    gator = Gator("x://", backend_class=untouchable, is_async=False)

    with pytest.raises(RuntimeError, match="no luck"), gator.transaction():
        first = gator.task(add, 1, 2)
        gator.task(fail)
        last = gator.task(add, 1, 2)

    assert (first.status, last.status) == (SUCCESS, CANCELED)


def start_something_impossible() -> None:
    """Raise one of Alligator's own errors."""
    Gator("locmem://").task(lambda: None)


def test_an_error_of_ours_from_a_task_does_not_cancel_what_has_run_before_it() -> None:
    gator = Gator("x://", backend_class=untouchable, is_async=False)

    with pytest.raises(TypeError, match="lambda"), gator.transaction():
        first = gator.task(add, 1, 2)
        gator.task(start_something_impossible)

    assert first.status == SUCCESS


def test_is_async_false_at_the_call_runs_at_once(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        with gator.options(is_async=False) as opts:
            task = opts.task(add, 1, 2)
        raise Boom

    assert (task.status, task.result) == (SUCCESS, 3)


# All of it at random, against a model of what should come out.


class Nesting(RuleBasedStateMachine):
    """Transactions inside of one another, begun, doomed and ended in every order that `with` allows."""

    def __init__(self) -> None:
        super().__init__()
        self.gator = Gator("locmem://")
        self.stack: list[tuple[Transaction, dict[str, Any]]] = []
        self.tasks: dict[str, Task] = {}
        self.queued: list[str] = []
        self.dropped: set[str] = set()
        self.seen: list[str] = []

    @initialize()
    def begin_with_nothing(self) -> None:
        assert self.gator.len() == 0

    @precondition(lambda self: len(self.stack) < 5)
    @rule()
    def begin(self) -> None:
        transaction = self.gator.transaction()
        transaction.__enter__()
        self.stack.append((transaction, {"held": [], "always": set(), "doomed": False}))

    @rule()
    def start(self) -> None:
        self._start()

    @rule()
    def start_always(self) -> None:
        self._start(always=True)

    @rule()
    def start_immediately(self) -> None:
        self._start(immediate=True)

    @precondition(lambda self: self.stack)
    @rule()
    def doom(self) -> None:
        transaction, model = self.stack[-1]
        transaction.doom()
        model["doomed"] = True

    @precondition(lambda self: self.stack)
    @rule()
    def end_well(self) -> None:
        transaction, model = self.stack.pop()
        transaction.__exit__(None, None, None)
        self._end(model, commits=not model["doomed"])

    @precondition(lambda self: self.stack)
    @rule()
    def end_with_an_error(self) -> None:
        transaction, model = self.stack.pop()
        error = Boom()
        transaction.__exit__(Boom, error, None)
        self._end(model, commits=False)

    @invariant()
    def the_queue_holds_what_it_should_in_order(self) -> None:
        self.seen += ids(self.gator)
        assert self.seen == self.queued

    @invariant()
    def each_status_says_where_the_task_is(self) -> None:
        held = {name for _, model in self.stack for name in model["held"]}
        for name, task in self.tasks.items():
            expected = DEFERRED if name in held else CANCELED if name in self.dropped else WAITING
            assert task.status == expected

    def teardown(self) -> None:
        while self.stack:
            self.end_well()
        self.the_queue_holds_what_it_should_in_order()
        self.each_status_says_where_the_task_is()
        assert self.gator.current is None

    def _start(self, *, always: bool = False, immediate: bool = False) -> None:
        with self.gator.options(always=always, immediate=immediate) as opts:
            task = opts.task(add, 1, 2)
        self.tasks[task.task_id] = task
        if immediate or not self.stack:
            self.queued.append(task.task_id)
            return
        model = self.stack[-1][1]
        model["held"].append(task.task_id)
        if always:
            model["always"].add(task.task_id)

    def _end(self, model: dict[str, Any], *, commits: bool) -> None:
        kept = [name for name in model["held"] if commits or name in model["always"]]
        self.dropped |= set(model["held"]) - set(kept)
        if self.stack:
            self.stack[-1][1]["held"] += kept
            self.stack[-1][1]["always"] |= model["always"]
        else:
            self.queued += kept


Nesting.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_nested_transactions_do_what_a_simple_model_does = Nesting.TestCase


# Canceling.


def test_a_task_that_is_held_can_be_canceled(gator: Gator) -> None:
    with gator.transaction():
        kept = gator.task(add, 1, 2)
        dropped = gator.task(add, 3, 4)

        canceled = gator.cancel(dropped.task_id)

    assert canceled is dropped
    assert (kept.status, dropped.status) == (WAITING, CANCELED)
    assert gator.len() == 1


def test_a_task_that_an_outer_transaction_holds_can_be_canceled_inside(gator: Gator) -> None:
    with gator.transaction():
        task = gator.task(add, 1, 2)

        with gator.transaction():
            canceled = gator.cancel(task.task_id)

    assert canceled is task
    assert gator.len() == 0


def test_when_a_task_that_runs_here_fails_the_others_are_taken_back(gator: Gator) -> None:
    with pytest.raises(RuntimeError, match="no"), gator.transaction(is_async=False):
        with gator.options(is_async=True) as opts:
            queued = opts.task(add, 1, 2)
        gator.task(fail, "no")

    assert gator.len() == 0
    assert queued.status == CANCELED
