"""An enlistment holds tasks until its database transaction has ended."""

import logging
from collections.abc import Iterator

import pytest

from alligator import CANCELED, DEFERRED, SUCCESS, WAITING, Gator
from alligator.backends.base import Commit
from alligator.exceptions import TooManyTasks
from alligator.testing import capture, sync
from alligator.transaction.enlistment import Enlister, Enlistment
from tests.harness.sample_tasks import add


class Database:
    """A database whose only transaction is the one that a test has begun."""

    def __init__(self, gator: Gator) -> None:
        self.gator = gator
        self.needed = True
        self.commits: list[Commit] = []
        self.open: Enlistment | None = None
        gator.enlisters.append(Enlister(lambda: self.open))

    def begin(self) -> Enlistment:
        self.open = Enlistment(self.gator, self)
        return self.open

    def is_needed(self) -> bool:
        return self.needed

    def committed(self, commit: Commit) -> None:
        self.commits.append(commit)

    def commit(self) -> None:
        assert self.open is not None
        self.open.prepare()
        self.open.committed()
        self.open.close()


@pytest.fixture
def gator() -> Iterator[Gator]:
    with Gator("locmem://") as gator:
        yield gator


@pytest.fixture
def database(gator: Gator) -> Database:
    """Return an enlisted database."""
    return Database(gator)


def test_commit_has_all_tasks_in_order(gator: Gator, database: Database) -> None:
    database.begin()
    tasks = [gator.task(add, number, 0) for number in range(3)]
    held = [task.status for task in tasks]
    database.commit()

    [commit] = database.commits
    assert held == [DEFERRED] * 3
    assert [message.task_id for message in commit.messages] == [task.task_id for task in tasks]
    assert [task.status for task in tasks] == [WAITING] * 3
    assert gator.len() == 0  # the relay pushes them


def test_rollback_discards_also_what_was_prepared(gator: Gator, database: Database) -> None:
    enlistment = database.begin()
    first = gator.task(add, 1, 2)
    enlistment.prepare()
    second = gator.task(add, 3, 4)
    enlistment.rolled_back()
    enlistment.close()

    assert (first.status, second.status) == (CANCELED, CANCELED)
    assert database.commits == []


def test_task_after_the_end_is_pushed(gator: Gator, database: Database) -> None:
    database.begin()
    database.commit()

    assert gator.task(add, 1, 2).status == WAITING
    assert gator.len() == 1


def test_database_in_memory_delivers_after_the_commit(gator: Gator, database: Database) -> None:
    database.needed = False
    database.begin()
    gator.task(add, 1, 2)
    before = gator.len()
    database.commit()

    assert (before, gator.len(), database.commits) == (0, 1, [])


def test_inline_tasks_run_after_the_commit_only(database: Database) -> None:
    gator = database.gator
    with sync():
        enlistment = database.begin()
        discarded = gator.task(add, 1, 2)
        enlistment.rolled_back()
        enlistment.close()
        database.begin()
        task = gator.task(add, 3, 4)
        before = task.status
        database.commit()

    assert (discarded.status, before, task.status) == (CANCELED, DEFERRED, SUCCESS)


def test_capture_sees_committed_tasks_only(gator: Gator, database: Database) -> None:
    with capture() as tasks:
        database.begin()
        gator.task(add, 1, 2)
        tasks.assert_not_pushed()
        database.commit()
        enlistment = database.begin()
        gator.task(add, 3, 4)
        enlistment.rolled_back()
        enlistment.close()

    tasks.assert_pushed(add, args=[1, 2], times=1)
    tasks.assert_not_pushed(add, args=[3, 4])
    assert len(tasks.discarded) == 1


def test_switched_off_tasks_run_after_the_commit(database: Database) -> None:
    gator = database.gator
    gator.is_async = False
    database.begin()
    task = gator.task(add, 1, 2)
    before = task.status
    database.commit()

    assert (before, task.status, task.result) == (DEFERRED, SUCCESS, 3)


def test_undecided_task_of_a_failed_request_is_discarded(
    gator: Gator, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with pytest.raises(ZeroDivisionError), gator.transaction():
        enlistment = database.begin()
        task = gator.task(add, 1, 2)
        raise ZeroDivisionError
    enlistment.close()  # as FastAPI closes a session after the response

    assert task.status == CANCELED
    assert gator.len() == 0
    assert "its transaction has failed" in caplog.text


def test_undecided_task_of_an_inner_transaction_goes_to_the_outer_one(
    gator: Gator, database: Database
) -> None:
    with gator.transaction():
        with gator.transaction():
            enlistment = database.begin()
            gator.task(add, 1, 2)
        enlistment.close()
        during = gator.len()

    assert (during, gator.len()) == (0, 1)


def test_transaction_of_another_request_is_not_used(gator: Gator, database: Database) -> None:
    from alligator.transaction import Transaction

    first = Transaction(gator, {}, {"headers": []}).begin(None)
    enlistment = database.begin()
    first.leave()
    second = Transaction(gator, {}, {"headers": []}).begin(None)
    other = enlistment.is_here
    second.leave()

    assert other is False
    assert enlistment.is_here


def test_too_many_tasks_are_refused_at_the_call(gator: Gator, database: Database) -> None:
    database.begin()
    for number in range(1000):
        gator.task(add, number, 0)

    with pytest.raises(TooManyTasks):
        gator.task(add, 0, 0)
    database.commit()
    assert len(database.commits[0].messages) == 1000
