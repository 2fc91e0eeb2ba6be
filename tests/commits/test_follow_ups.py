"""Follow-ups that run in this process, or are captured."""

from collections.abc import Iterator

import pytest

from alligator import CANCELED, FAILED, SUCCESS, Gator
from alligator.testing import capture, drain, sync
from alligator.transaction.enlistment import Enlister, Enlistment
from tests.harness import workers
from tests.harness.sample_tasks import fail
from tests.harness.workers import note
from tests.tasks.test_follow_ups import start_more, tell, workers_gator
from tests.transaction.test_enlistment import Database


@pytest.fixture
def gator() -> Iterator[Gator]:
    with workers.traces_cleaned(), Gator("locmem://") as gator:
        workers_gator[:] = [gator]
        yield gator


def test_follow_up_runs_last_in_this_process() -> None:
    with workers.traces_cleaned(), Gator("locmem://", is_async=False) as gator:
        with gator.transaction() as tx:
            follow_up = tx.then(tell)
            gator.task(note, 1)
            gator.task(note, 2)

        assert workers.ran == [1, 2, ("then", (2, 0))]
        assert follow_up.status == SUCCESS


def test_follow_up_runs_last_under_sync(gator: Gator) -> None:
    with sync(), gator.transaction() as tx:
        tx.then(tell)
        gator.task(note, 1)

    assert workers.ran == [1, ("then", (1, 0))]


def test_failed_task_cancels_the_follow_up_under_sync(gator: Gator) -> None:
    with pytest.raises(RuntimeError), sync(), gator.transaction() as tx:
        follow_up = tx.then(tell)
        gator.task(fail)

    assert follow_up.status == CANCELED
    assert workers.ran == []


def test_follow_up_learns_of_failed_tasks_that_are_logged(gator: Gator) -> None:
    with sync(propagate=False), gator.transaction() as tx:
        gator.task(fail)
        gator.task(note, 1)
        tx.then(tell)

    assert workers.ran == [1, ("then", (2, 1))]


def test_follow_up_of_a_task_that_runs_in_this_process_runs_after_its_own(gator: Gator) -> None:
    with sync(), gator.transaction() as tx:
        gator.task(start_more)
        gator.task(note, 1)
        tx.then(tell)

    assert workers.ran.index(1) < workers.ran.index(("then", (2, 0)))
    assert workers.ran.index("inner") < workers.ran.index(("inner then", (1, 0)))


def test_captured_follow_up_runs_last(gator: Gator) -> None:
    with capture() as tasks:
        with gator.transaction() as tx:
            follow_up = tx.then(tell)
            gator.task(note, 1)
            gator.task(fail)
        tasks.assert_pushed(tell, times=1)
        tasks.run(propagate=False)

    assert workers.ran == [1, ("then", (2, 1))]
    assert follow_up.status == SUCCESS
    assert [task.status for task in tasks] == [SUCCESS, FAILED, SUCCESS]


def test_captured_follow_up_waits_for_the_next_run_after_a_failure(gator: Gator) -> None:
    with capture() as tasks:
        with gator.transaction() as tx:
            tx.then(tell)
            gator.task(fail)
        with pytest.raises(RuntimeError):
            tasks.run()
        assert workers.ran == []
        tasks.run()

    assert workers.ran == [("then", (1, 1))]


def test_drain_runs_the_follow_up(gator: Gator) -> None:
    with gator.transaction() as tx:
        tx.then(tell)
        gator.task(note, 1)

    assert drain(gator) == 2
    assert workers.ran == [1, ("then", (1, 0))]


def test_follow_up_belongs_to_the_commit_of_the_enlisted_database(gator: Gator) -> None:
    database = Database(gator)
    with gator.transaction() as tx:
        gator.task(note, "request")
        database.begin()
        gator.task(note, "row")
        tx.then(tell)
        database.commit()
        database.open = None

    [commit] = database.commits
    assert [message.follows for message in commit.messages] == [False, True]
    assert gator.len() == 1


def test_savepoint_that_is_rolled_back_discards_its_follow_up(gator: Gator) -> None:
    enlistment = Enlistment(gator, Database(gator))
    gator.enlisters[:] = [Enlister(lambda: enlistment)]
    with gator.transaction() as tx:
        gator.task(note, 1)
        mark = enlistment.mark()
        gator.task(note, 2)
        follow_up = tx.then(tell)
        enlistment.cut(mark)
    commit = enlistment.prepare()

    assert follow_up.status == CANCELED
    assert commit is not None
    assert [message.follows for message in commit.messages] == [False]
