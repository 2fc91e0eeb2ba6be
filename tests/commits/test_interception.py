"""An interceptor replaces the delivery of all gators, as `alligator.testing` does."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from alligator import CANCELED, WAITING, Gator
from alligator.backends.base import Commit
from alligator.commits.deferred import OutgoingTask
from alligator.commits.interception import InterceptedDelivery, set_interceptor
from tests.harness.sample_tasks import add
from tests.harness.transactions import untouchable


class Recorder:
    """Records the tasks that gators deliver."""

    inline = False

    def __init__(self) -> None:
        self.delivered: list[OutgoingTask] = []

    def delivery_of(self, gator: Any) -> InterceptedDelivery:
        recorder = self

        class Recording(InterceptedDelivery):
            async def deliver(
                self, tasks: Sequence[OutgoingTask], commit: Commit | None = None, **how: bool
            ) -> None:
                await super().deliver(tasks, commit, **how)
                recorder.delivered += tasks

        return Recording(gator)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    before = set_interceptor(recorder)
    yield recorder
    set_interceptor(before)


def test_interceptor_delivers_in_place_of_all_stores(recorder: Recorder) -> None:
    gators = [Gator("x://", backend_class=untouchable) for _ in range(2)]

    tasks = [gator.task(add, 1, 2) for gator in gators]

    assert [each.task for each in recorder.delivered] == tasks
    assert [task.status for task in tasks] == [WAITING, WAITING]


def test_interceptor_delivers_a_transaction_begun_before_it() -> None:
    gator, recorder = Gator("x://", backend_class=untouchable), Recorder()

    with gator.transaction():
        task = gator.task(add, 1, 2)
        before = set_interceptor(recorder)
    set_interceptor(before)

    assert [each.task for each in recorder.delivered] == [task]


def test_intercepted_commit_that_is_undone_does_not_call_the_store(recorder: Recorder) -> None:
    gator = Gator("x://", backend_class=untouchable)

    with gator.transaction() as tx:
        task = gator.task(add, 1, 2)
    tx.undo()

    assert task.status == CANCELED


def test_set_interceptor_returns_the_one_before(recorder: Recorder) -> None:
    assert set_interceptor(None) is recorder
    assert set_interceptor(recorder) is None
