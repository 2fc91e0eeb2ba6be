"""Follow-ups: tasks that run after the other tasks of their commit."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from alligator import CANCELED, DEFERRED, WAITING, Gator, Lease, Snooze, Task, current_task
from alligator.commits.databases import ddl
from alligator.exceptions import AlligatorException, InvalidOption, TooManyTasks, UnknownOption
from alligator.payload.batch import Batch
from tests.harness import workers
from tests.harness.programs import eventually
from tests.harness.sample_tasks import add, fail
from tests.harness.transactions import Boom
from tests.harness.workers import note
from tests.tasks.test_unique import Away, open_five_methods, open_sqs

HOUR = 3600.0


@pytest.fixture(params=["locmem", "sqlite", "signed"])
def gator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gator]:
    dsn = f"sqlite://{tmp_path}/q.db" if request.param == "sqlite" else "locmem://"
    secret = "not so secret" if request.param == "signed" else None
    with workers.traces_cleaned(), Gator(dsn, secret=secret) as gator:
        yield gator


def tell(name: str = "then") -> None:
    """Leave the numbers of the batch behind."""
    task = current_task()
    assert task is not None
    workers.ran.append((name, task.batch and tuple(task.batch)))


def tell_when_ready() -> None:
    """Fail at first, then snooze, then leave the numbers of the batch behind."""
    task = current_task()
    assert task is not None
    workers.ran.append(task.attempt)
    if len(workers.ran) == 1:
        raise RuntimeError("not yet")
    if len(workers.ran) == 2:
        raise Snooze(0.001)
    tell()


def start_more() -> None:
    """Start tasks, and one that follows them, from within a task."""
    task = current_task()
    assert task is not None
    with workers_gator[0].transaction() as tx:
        workers_gator[0].task(note, "inner")
        tx.then(tell, "inner then")


workers_gator: list[Gator] = []


def ran(gator: Gator) -> list[Any]:
    """Run what is ready, and return the traces."""
    workers.burst(gator)
    return workers.ran


def test_follow_up_runs_after_all_others(gator: Gator) -> None:
    with gator.transaction() as tx:
        follow_up = tx.then(tell)
        for number in range(3):
            gator.task(note, number)
        held = follow_up.status

    assert (held, follow_up.status) == (DEFERRED, WAITING)
    assert gator.len() == 3
    assert ran(gator) == [0, 1, 2, ("then", (3, 0))]
    assert gator.stats().succeeded == 4


def test_follow_up_learns_how_many_are_dead(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(fail)
        gator.options(retries=1, backoff=0).task(fail)
        canceled = gator.task(note, 1)
        gator.task(note, 2)
        tx.then(tell)
    gator.cancel(canceled.task_id)

    assert ran(gator) == [2, ("then", (4, 3))]


def test_other_tasks_have_no_batch(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(tell, "other")
        tx.then(tell)

    assert ran(gator) == [("other", None), ("then", (1, 0))]
    assert Task().batch is None


def test_follow_up_keeps_its_batch_when_it_is_retried(gator: Gator) -> None:
    with gator.transaction(retries=1, backoff=0) as tx:
        gator.task(add, 1, 2)
        tx.update(expires=HOUR)
        tx.then(tell_when_ready)

    def has_run() -> bool:
        return len(ran(gator)) == 4

    eventually(has_run)
    assert workers.ran == [1, 2, 2, ("then", (1, 0))]


def test_dead_follow_up_keeps_its_batch(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
        follow_up = tx.then(fail)
    workers.burst(gator)
    [letter] = gator.client.dead_letters("all")

    assert letter.task_id == follow_up.task_id
    assert gator.read(Lease(*letter[:3])).batch == Batch(1, 0)


def test_follow_up_that_this_worker_cannot_run_keeps_its_batch(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(add, 1, 2)
        tx.then(tell)
    workers.burst(gator, max_tasks=1)
    [lease] = gator.client.reserve("all")

    data, _ = gator.guard.note_release(*lease[:3])

    assert gator.guard.read("all", lease.task_id, data, Task).batch == Batch(1, 0)
    if gator.guard.signs:
        assert "hmac" in data


def test_tasks_of_tasks_are_waited_for_only_by_a_follow_up_of_their_own(gator: Gator) -> None:
    workers_gator[:] = [gator]
    with gator.transaction() as tx:
        gator.task(start_more)
        tx.then(tell)

    assert sorted(map(str, ran(gator))) == [
        *("('inner then', (1, 0))", "('then', (1, 0))"),
        "inner",
    ]


def test_all_follow_ups_of_a_transaction_are_queued(gator: Gator) -> None:
    with gator.transaction() as tx:
        tx.then(tell, "first")
        gator.task(note, 1)
        tx.then(tell, "second")

    assert ran(gator) == [1, ("first", (1, 0)), ("second", (1, 0))]


def test_transaction_without_other_tasks_queues_its_follow_up_at_once(gator: Gator) -> None:
    with gator.transaction() as tx:
        tx.then(tell)

    assert gator.len() == 1
    assert ran(gator) == [("then", (0, 0))]


def test_duplicates_are_not_waited_for(gator: Gator) -> None:
    first = gator.options(unique="k", delay_by=HOUR).task(note, 1)
    with gator.transaction() as tx:
        second = gator.options(unique="k").task(note, 2)
        gator.task(note, 3)
        tx.then(tell)

    assert second.task_id == first.task_id
    assert ran(gator) == [3, ("then", (1, 0))]


# Options.


def test_follow_up_has_the_options_of_the_transaction_without_a_delay(gator: Gator) -> None:
    with gator.transaction(delay_by=HOUR, retries=2, queue_name="reports") as tx:
        task = gator.task(note, 1)
        tx.update(priority="high")
        follow_up = tx.then(tell)

    assert (follow_up.retries, follow_up.priority) == (2, "high")
    assert (task.queue_name, follow_up.queue_name) == ("reports", "reports")
    assert task.delay_until is not None
    assert follow_up.delay_until is None
    gator.cancel(task.task_id, "reports")
    assert gator.stats("reports").ready == 1


def test_immediate_tasks_are_not_waited_for(gator: Gator) -> None:
    with gator.transaction(immediate=True) as tx:
        gator.task(note, 1)
        follow_up = tx.then(tell)
        assert follow_up.status == DEFERRED
        assert gator.len() == 1

    assert gator.len() == 2


def test_call_that_cannot_become_a_task_is_an_error(gator: Gator) -> None:
    with gator.transaction() as tx:
        with pytest.raises(TypeError):
            tx.then(tell, "a", "b")  # type: ignore[call-arg]
        with pytest.raises(UnknownOption):
            gator.options(follows=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("open_gator", [open_sqs, open_five_methods])
def test_store_that_cannot_count_is_an_error_at_the_call(open_gator: Callable[[], Gator]) -> None:
    with open_gator() as gator:
        tx = gator.transaction()
        with pytest.raises(InvalidOption, match="cannot tell when all tasks"):
            tx.then(tell)
        assert tx.tasks == ()


# The transaction.


def test_transaction_that_has_ended_takes_no_follow_up(gator: Gator) -> None:
    for start in (lambda: None, lambda: gator.task(note, 1)):
        with gator.transaction() as tx:
            start()
        with pytest.raises(AlligatorException, match="has ended"):
            tx.then(tell)


def test_follow_up_of_an_inner_transaction_waits_for_the_whole_commit(gator: Gator) -> None:
    with gator.transaction():
        gator.task(note, 1)
        with gator.transaction() as inner:
            gator.task(note, 2)
            inner.then(tell)
        assert gator.len() == 0
        gator.task(note, 3)

    assert ran(gator) == [1, 2, 3, ("then", (3, 0))]


def test_failed_inner_transaction_discards_its_follow_up(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(note, 1)
        with pytest.raises(Boom), gator.transaction() as inner:
            gator.task(note, 2)
            dropped = inner.then(tell, "inner")
            raise Boom
        tx.then(tell)

    assert dropped.status == CANCELED
    assert ran(gator) == [1, ("then", (1, 0))]


@pytest.mark.parametrize("way", ["raise", "doom", "cancel"])
def test_follow_up_is_discarded_with_its_transaction(gator: Gator, way: str) -> None:
    try:
        with gator.transaction() as tx:
            gator.options(always=True).task(note, 1)
            follow_up = tx.then(tell)
            if way == "doom":
                tx.doom()
            elif way == "cancel":
                gator.cancel(follow_up.task_id)
            else:
                raise Boom
    except Boom:
        pass

    assert follow_up.status == CANCELED
    assert ran(gator) == [1]


def test_follow_up_is_queued_with_tasks_that_are_queued_in_any_case(gator: Gator) -> None:
    with pytest.raises(Boom), gator.transaction(always=True) as tx:
        gator.task(note, 1)
        tx.then(tell)
        raise Boom

    assert ran(gator) == [1, ("then", (1, 0))]


def test_undone_commit_takes_its_follow_up_along(gator: Gator) -> None:
    with gator.transaction() as tx:
        gator.task(note, 1)
        follow_up = tx.then(tell)
    tx.undo()

    assert follow_up.status == CANCELED
    assert ran(gator) == []


def test_repeated_request_counts_its_tasks_once(gator: Gator) -> None:
    for _ in range(2):
        with gator.transaction() as tx:
            tx.commit_under("day-7")
            gator.task(note, 1)
            tx.then(tell)

    assert ran(gator) == [1, ("then", (1, 0))]


def test_follow_up_counts_as_a_task_of_the_transaction(gator: Gator) -> None:
    with gator.transaction() as tx:
        for number in range(1000):
            gator.task(note, number)
        with pytest.raises(TooManyTasks):
            tx.then(tell)
        tx.doom()


# The spool and the outbox.


def test_spool_keeps_the_follow_up_of_a_commit(tmp_path: Path) -> None:
    store, spool = Away("locmem://"), str(tmp_path / "spool.db")
    with (
        workers.traces_cleaned(),
        Gator("locmem://", backend_class=lambda _: store, breaker=False, spool=spool) as gator,
    ):
        with gator.transaction() as tx:
            tx.then(tell)
            gator.options(priority="low").task(note, 1)
        store.away = False
        eventually(lambda: gator.spool is None or not gator.spool.content().tasks)

        assert ran(gator) == [1, ("then", (1, 0))]


def test_outbox_keeps_the_follow_up_of_a_commit(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{ddl('sqlite')}; CREATE TABLE orders (name TEXT)")
        with workers.traces_cleaned(), Gator("locmem://") as gator:
            gator.relay_from(lambda: sqlite3.connect(path))
            connection.execute("INSERT INTO orders VALUES ('a')")
            with connection, gator.transaction(on=connection) as tx:
                gator.task(note, 1)
                tx.then(tell)
            eventually(lambda: gator.len() == 1)

            assert ran(gator) == [1, ("then", (1, 0))]
