"""Unique tasks: a key that another task holds makes a task a duplicate of it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from alligator import CANCELED, DUPLICATE, WAITING, Gator, Snooze, Task, current_task
from alligator.backends.base import Duplicates, Message
from alligator.backends.locmem_backend import Client as Locmem
from alligator.backends.unique import Unique
from alligator.exceptions import BackendUnavailable, InvalidOption
from alligator.tasks.stored_options import to_unique
from alligator.testing import sync
from tests.harness import workers
from tests.harness.programs import eventually
from tests.harness.sample_tasks import add, fail
from tests.harness.transactions import Boom
from tests.harness.workers import note

HOUR = 3600.0


@pytest.fixture(params=["locmem", "sqlite"])
def gator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gator]:
    dsn = "locmem://" if request.param == "locmem" else f"sqlite://{tmp_path}/q.db"
    with workers.traces_cleaned(), Gator(dsn) as gator:
        yield gator


class FiveMethods:
    """A store of Alligator 1.0."""

    def __init__(self, conn_string: str) -> None:
        pass

    def len(self, queue_name: str) -> int:
        return 0

    def drop_all(self, queue_name: str) -> None: ...

    def push(self, queue_name: str, task_id: str, data: str, delay_until: Any = None) -> None: ...

    def pop(self, queue_name: str) -> None: ...

    def get(self, queue_name: str, task_id: str) -> None: ...


def once(gator: Gator, *args: Any, key: str = "k", func: Any = note, **options: Any) -> Task:
    """Push a task with a key."""
    with gator.options(unique=key, **options) as opts:
        return opts.task(func, *args)


def look(gator: Gator, until: Any) -> None:
    """Start the task again from within itself."""
    again = gator.options(unique="k", unique_until=until).task(add, 1, 2)
    workers.ran.append(again.status)


def look_at(path: str, until: str) -> None:
    with Gator(f"sqlite://{path}") as gator:
        look(gator, until)


def test_second_call_is_a_duplicate_with_the_id_of_the_first(gator: Gator) -> None:
    first, second, other = once(gator, 1), once(gator, 2), once(gator, 3, key="other")
    third = gator.task(note, 4)

    assert [task.status for task in (first, second, other, third)] == [
        *(WAITING, DUPLICATE, WAITING, WAITING)
    ]
    assert second.task_id == first.task_id
    assert len({first.task_id, other.task_id, third.task_id}) == 3
    assert gator.len() == 3


def test_duplicate_can_be_used_to_cancel_the_first(gator: Gator) -> None:
    once(gator, 1, delay_by=HOUR)

    canceled = gator.cancel(once(gator, 2).task_id)

    assert canceled is not None
    assert canceled.func_args == (1,)
    assert once(gator, 3).status == WAITING


@pytest.mark.parametrize("until", ["start", "done"])
def test_key_is_free_from_the_start_or_when_it_is_done(tmp_path: Path, until: str) -> None:
    with workers.traces_cleaned(), Gator(f"sqlite://{tmp_path}/q.db") as gator:
        once(gator, f"{tmp_path}/q.db", until, func=look_at, unique_until=until)
        workers.burst(gator)

        assert workers.ran == [WAITING if until == "start" else DUPLICATE]
        assert once(gator, 1).status == WAITING


def test_key_is_held_for_some_time_after_the_end(gator: Gator) -> None:
    first = once(gator, 1, unique_for=HOUR)
    workers.burst(gator)

    assert once(gator, 2).status == DUPLICATE
    assert once(gator, 2).task_id == first.task_id


def test_failed_task_frees_its_key_with_its_last_attempt(gator: Gator) -> None:
    options: dict[str, Any] = {"unique_until": "done", "unique_for": HOUR, "func": fail}
    first = once(gator, retries=1, backoff=HOUR, **options)
    workers.burst(gator)
    assert once(gator, **options).task_id == first.task_id

    gator.client.cancel("all", first.task_id)
    once(gator, **options)
    workers.burst(gator)

    assert gator.stats().dead == 1
    assert once(gator, **options).status == WAITING


def snooze_once() -> None:
    task = current_task()
    assert task is not None
    workers.ran.append(task.task_id)
    if len(workers.ran) == 1:
        raise Snooze(HOUR)


@pytest.mark.parametrize(("until", "status"), [("start", WAITING), ("done", DUPLICATE)])
def test_snoozing_task_holds_its_key_until_it_is_done(
    gator: Gator, until: str, status: int
) -> None:
    once(gator, func=snooze_once, unique_until=until)
    workers.burst(gator)

    assert once(gator, 1).status == status


def test_retried_dead_letter_has_no_key(gator: Gator) -> None:
    first = once(gator, func=fail, unique_until="done")
    workers.burst(gator)
    second = once(gator, 1, unique_until="done")
    assert gator.retry_dead(first.task_id)

    assert gator.len() == 2
    assert once(gator, 2).task_id == second.task_id
    gator.cancel(second.task_id)
    assert once(gator, 2).status == WAITING


# Replacing.


def test_last_call_replaces_those_before(gator: Gator) -> None:
    tasks = [once(gator, number, delay_by=HOUR, replace=True) for number in range(3)]
    last = once(gator, 3, replace=True)

    assert {task.status for task in (*tasks, last)} == {WAITING}
    assert gator.stats().canceled == 3
    workers.burst(gator)
    assert workers.ran == [3]


def test_call_without_replace_is_a_duplicate_of_one_with_it(gator: Gator) -> None:
    first = once(gator, 1, replace=True)

    assert once(gator, 2).task_id == first.task_id
    once(gator, 3, replace=True)
    workers.burst(gator)
    assert workers.ran == [3]


def test_rollback_replaces_nothing(gator: Gator) -> None:
    once(gator, 1, replace=True)
    with pytest.raises(Boom), gator.transaction():
        once(gator, 2, replace=True)
        raise Boom

    workers.burst(gator)
    assert workers.ran == [1]


def test_undone_commit_brings_back_what_it_has_replaced(gator: Gator) -> None:
    first = once(gator, 1, replace=True)
    with gator.transaction() as transaction:
        second = once(gator, 2, replace=True)
    transaction.undo()

    assert second.status == CANCELED
    assert once(gator, 3).task_id == first.task_id
    workers.burst(gator)
    assert workers.ran == [1]


@pytest.mark.parametrize(
    "options",
    [
        {"replace": True},
        {"unique": "k", "replace": True, "unique_until": "start"},
        {"unique": "k", "replace": True, "unique_until": "done"},
        {"unique": "k", "replace": True, "unique_for": 60},
        {"unique": "k", "replace": "perhaps"},
    ],
)
def test_invalid_replacing_is_an_error_at_the_call(gator: Gator, options: Any) -> None:
    with pytest.raises(InvalidOption, match="replace"):
        gator.options(**options).task(note, 1)
    with pytest.raises(InvalidOption, match="replace"):
        Task(**options)


# Transactions.


def test_key_is_decided_at_the_commit(gator: Gator) -> None:
    with gator.transaction():
        first, second = once(gator, 1), once(gator, 2)
        own = second.task_id
        assert own != first.task_id
        earlier = gator.options(unique="k", immediate=True).task(note, 3)

    assert earlier.status == WAITING
    assert (first.status, second.status) == (DUPLICATE, DUPLICATE)
    assert {first.task_id, second.task_id} == {earlier.task_id}
    assert gator.len() == 1


def test_delayed_task_of_a_transaction_has_its_key(gator: Gator) -> None:
    with gator.transaction():
        once(gator, 1, delay_by=HOUR)
        gator.task(note, 2)

    assert once(gator, 3).status == DUPLICATE


def test_rollback_takes_no_key(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction():
        once(gator, 1)
        always = once(gator, 2, key="always", always=True)
        raise Boom

    assert once(gator, 3).status == WAITING
    assert once(gator, 4, key="always").task_id == always.task_id


def test_undone_commit_frees_its_keys(gator: Gator) -> None:
    with gator.transaction() as transaction:
        task = once(gator, 1)
        once(gator, 2, key="always", always=True)
    duplicate = once(gator, 3)
    assert duplicate.task_id == task.task_id

    transaction.undo()

    assert task.status == CANCELED
    assert once(gator, 3).status == WAITING
    assert once(gator, 4, key="always").status == DUPLICATE


def test_repeated_request_gets_the_same_ids(gator: Gator) -> None:
    first = once(gator, 1)
    found = []
    for _ in range(2):
        with gator.transaction() as transaction:
            transaction.commit_under("day-7")
            found += [once(gator, 2), gator.options(task_id="other").task(note, 3)]

    assert [task.task_id for task in found] == [first.task_id, "other"] * 2
    assert [task.status for task in found] == [DUPLICATE, WAITING] * 2
    assert gator.len() == 2


class Away(Locmem):
    """A store that can be away."""

    away = True

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> Duplicates | None:
        self.ping()
        return super().push_many(messages, commit_id=commit_id, undo=undo)

    def ping(self) -> None:
        if self.away:
            raise BackendUnavailable("the store does not answer")


def test_key_of_a_task_in_the_spool_is_decided_when_it_is_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Away("locmem://")
    spool = str(tmp_path / "spool.db")
    with Gator("locmem://", backend_class=lambda _: store, breaker=False, spool=spool) as gator:
        tasks = [once(gator, number, unique_until="done") for number in (1, 2)]
        assert [task.status for task in tasks] == [WAITING, WAITING]

        store.away = False
        eventually(lambda: gator.spool is None or not gator.spool.content().tasks)

        assert gator.len() == 1
        assert once(gator, 3).task_id == tasks[0].task_id
    assert f"{tasks[1].task_id} was kept" in caplog.text


def test_coroutine_gets_the_id_of_the_first(gator: Gator) -> None:
    first = once(gator, 1)

    async def start() -> Task:
        async with gator.transaction():
            return once(gator, 2)

    assert asyncio.run(start()).task_id == first.task_id


# The options.


@pytest.mark.parametrize(
    "options",
    [
        {"unique": ""},
        {"unique": 7},
        {"unique": "a\nb"},
        {"unique": "k" * 201},
        {"unique": "k", "unique_until": "end"},
        {"unique": "k", "unique_until": True},
        {"unique": "k", "unique_for": 0},
        {"unique": "k", "unique_for": "hour"},
        {"unique_until": "done"},
        {"unique_for": 60},
    ],
)
def test_invalid_key_is_an_error_at_the_call(gator: Gator, options: Any) -> None:
    with pytest.raises(InvalidOption, match="unique"):
        gator.options(**options)
    with pytest.raises(InvalidOption, match="unique"):
        Task(**options)


@pytest.mark.parametrize("name", ["unique", "unique_until", "unique_for", "replace"])
def test_several_tasks_share_no_key(gator: Gator, name: str) -> None:
    options: Any = {name: "k"}
    with pytest.raises(InvalidOption, match=rf"gator.options\({name}="):
        gator.transaction(**options)
    with pytest.raises(InvalidOption, match=rf"gator.options\({name}="):
        Gator("locmem://", defaults=options)


def test_options_describe_the_key() -> None:
    assert to_unique(None, None, None) is None
    assert to_unique("k", None, None) == Unique("k", True, 0.0)
    assert to_unique("k", "start", 5) == Unique("k", True, 5.0)
    assert Task(unique="k", unique_until="done").unique == Unique("k", False, 0.0)
    assert Task(unique="k", replace=True).unique == Unique("k", True, 0.0, True)


def open_sqs() -> Gator:
    return Gator("sqs://eu-west-1/")


def open_five_methods() -> Gator:
    return Gator("none://", backend_class=FiveMethods)


@pytest.mark.parametrize("open_gator", [open_sqs, open_five_methods])
def test_store_without_keys_is_an_error_at_the_call(open_gator: Callable[[], Gator]) -> None:
    with open_gator() as gator:
        for start in (
            lambda: once(gator, 1),
            lambda: gator.push(Task(unique="k"), note, 1),
            lambda: gator.every(30, add, 1, 2, unique="k"),
        ):
            with pytest.raises(InvalidOption, match="cannot tell whether"):
                start()


def test_tasks_that_run_in_this_process_need_no_key(gator: Gator) -> None:
    with sync():
        once(gator, 1)
        once(gator, 2)
    once(gator, 3, is_async=False)

    assert workers.ran == [1, 2, 3]


def test_tasks_of_a_schedule_may_have_a_key(gator: Gator) -> None:
    gator.every(30, add, 1, 2, unique="poll", unique_until="done")
    first = gator.run_schedule("add")
    second = gator.run_schedule("add")

    assert second.task_id == first.task_id
    assert gator.schedules["add"].message(0).unique == Unique("poll", False, 0.0)
