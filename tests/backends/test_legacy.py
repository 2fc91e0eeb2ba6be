"""Backends of Alligator 1.0, with five methods and no base class."""

import time

import pytest

from alligator import (
    CANCELED,
    Gator,
    Worker,
)
from alligator.backends.base import Commit, Message
from alligator.constants import AT_LEAST_ONCE, AT_MOST_ONCE
from alligator.exceptions import (
    BackendError,
)
from tests.harness.sample_tasks import add, fail


class Duck:
    """A backend as Alligator 1.0 knew them: five methods and no base class."""

    def __init__(self, conn_string: str) -> None:
        self.conn_string = conn_string
        self.queues: dict[str, dict[str, str]] = {}
        self.delays: list[float | None] = []
        self.fails_at = 0

    def len(self, queue_name: str) -> int:
        return len(self.queues.get(queue_name, {}))

    def drop_all(self, queue_name: str) -> None:
        self.queues.pop(queue_name, None)

    def push(
        self, queue_name: str, task_id: str, data: str, delay_until: float | None = None
    ) -> str:
        self.queues.setdefault(queue_name, {})[task_id] = data
        self.delays.append(delay_until)
        self.fails_at -= 1
        if self.fails_at == 0:
            raise ConnectionError("the answer was lost")
        return task_id

    def pop(self, queue_name: str) -> str | None:
        queue = self.queues.get(queue_name)
        return queue.pop(next(iter(queue))) if queue else None

    def get(self, queue_name: str, task_id: str) -> str | None:
        return self.queues.get(queue_name, {}).pop(task_id, None)


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


@pytest.fixture
def duck() -> Gator:
    return Gator("duck://pond", backend_class=Duck)


def test_five_method_backend_runs_tasks(duck: Gator) -> None:
    first, second = duck.task(add, 1, 2), duck.task(add, 3, 4)

    assert isinstance(duck.backend, Duck)
    assert duck.backend.conn_string == "duck://pond"
    assert duck.len() == 2
    assert duck.cancel(second.task_id) is not None
    popped = duck.pop()
    assert popped is not None
    assert (popped.task_id, popped.result) == (first.task_id, 3)
    assert duck.pop() is None


def test_five_method_backend_receives_the_moment_of_a_delay(duck: Gator) -> None:
    duck.task(add, 1, 2)
    duck.options(delay_by=60).task(add, 1, 2)

    none, moment = duck.backend.delays

    assert none is None
    assert abs(moment - time.time() - 60) < 5


def test_five_method_backend_warns_that_it_may_lose_tasks(gator: Gator, duck: Gator) -> None:
    assert duck.client.delivery == AT_MOST_ONCE
    assert "a task whose worker dies is lost" in duck.client.warnings()[0]
    assert gator.client.delivery == AT_LEAST_ONCE


def test_worker_runs_the_tasks_of_a_five_method_backend(
    duck: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    duck.task(add, 1, 2)
    duck.options(retries=1, backoff=0).task(fail, "no luck")
    duck.backend.push("all", "bad", "garbage")

    worker = Worker(duck, burst=True)
    worker.run_forever()

    assert (worker.tasks_complete, duck.len()) == (4, 0)
    assert "no luck" in caplog.text
    assert "keeps no dead letters" in caplog.text


@pytest.mark.parametrize("place", [1, 2, 3])
def test_commit_that_fails_midway_leaves_nothing(duck: Gator, place: int) -> None:
    duck.backend.fails_at = place

    with pytest.raises(BackendError, match="the answer was lost"), duck.transaction():
        tasks = [duck.task(add, 1, 2) for _ in range(3)]

    assert duck.len() == 0
    assert [task.status for task in tasks] == [CANCELED] * 3


def test_commit_under_a_chosen_id_that_fails_midway_is_not_undone(duck: Gator) -> None:
    duck.backend.fails_at = 2
    messages = [Message("all", task_id, "{}") for task_id in "ab"]

    with pytest.raises(BackendError, match="the answer was lost"):
        duck.committer.push(Commit(messages, "row-1", undo=False))

    assert duck.len() == 2


def test_commit_to_a_five_method_backend_can_be_undone(duck: Gator) -> None:
    with duck.transaction() as tx:
        duck.task(add, 1, 2)

    tx.undo()

    assert duck.len() == 0
