"""What a gator does with queues besides pushing: above all, pause and resume."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import inf
from threading import Event
from typing import Any

import pytest

from alligator import Gator, Worker
from alligator.exceptions import BackendError, InvalidOption
from tests.harness import workers
from tests.harness.contract import becomes


@pytest.fixture(autouse=True)
def traces() -> Iterator[None]:
    with workers.traces_cleaned():
        yield


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def test_gator_pauses_and_resumes_its_queue(gator: Gator) -> None:
    gator.pause()
    assert gator.stats().paused == inf

    gator.resume()
    assert gator.stats().paused == 0


def test_gator_pauses_another_queue(gator: Gator) -> None:
    gator.pause("mail")

    assert (gator.stats("mail").paused, gator.stats().paused) == (inf, 0)


DAY = timedelta(days=1)


@pytest.mark.parametrize("until", [86_400, DAY, datetime.now(UTC) + DAY])
def test_pause_ends_at_a_moment(gator: Gator, until: Any) -> None:
    gator.pause(until=until)

    assert 3600 < gator.stats().paused <= 86_400


def test_pause_until_a_moment_that_is_past_is_none(gator: Gator) -> None:
    gator.pause(until=datetime(2020, 1, 1, tzinfo=UTC))

    assert gator.stats().paused == 0


@pytest.mark.parametrize("until", [0, -1, "tomorrow", float("nan"), True])
def test_pause_refuses_what_is_no_moment(gator: Gator, until: Any) -> None:
    with pytest.raises(InvalidOption, match="until is a number of seconds"):
        gator.pause(until=until)


class FiveMethods:
    """A store of Alligator 1.0."""

    def len(self, queue_name: str) -> int:
        return 0

    def drop_all(self, queue_name: str) -> None: ...

    def push(
        self, queue_name: str, task_id: str, data: str, delay_until: float | None = None
    ) -> None: ...

    def pop(self, queue_name: str) -> None: ...

    def get(self, queue_name: str, task_id: str) -> None: ...


def test_store_that_cannot_pause_says_so() -> None:
    gator = Gator("five://", backend_class=lambda _: FiveMethods())

    with pytest.raises(BackendError, match="FiveMethods cannot pause a queue"):
        gator.pause()


# Workers.


def test_worker_serves_other_queues_during_a_pause(gator: Gator) -> None:
    gator.pause("mail")
    with gator.options(queue_name="mail") as opts:
        opts.task(workers.note, "mail")
    with gator.options(queue_name="print") as opts:
        opts.task(workers.note, "print")

    workers.burst(gator, to_consume=["mail", "print"])

    assert workers.ran == ["print"]
    gator.resume("mail")
    workers.burst(gator, to_consume=["mail", "print"])
    assert workers.ran == ["print", "mail"]


def test_running_task_ends_during_a_pause(gator: Gator) -> None:
    workers.gates["x"] = Event()
    gator.task(workers.note_and_wait, "x")

    with workers.workers_running(Worker(gator)):
        assert becomes(lambda: workers.ran == ["x"])
        gator.pause()
        gator.task(workers.note, "later")
        workers.gates["x"].set()
        assert becomes(lambda: gator.stats().succeeded == 1)
        assert gator.stats().ready == 1
        gator.resume()
        assert becomes(lambda: workers.ran == ["x", "later"])


def test_worker_wakes_at_the_end_of_a_pause(gator: Gator) -> None:
    gator.pause(until=0.2)
    gator.task(workers.note, "a")

    with workers.workers_running(Worker(gator)):
        assert becomes(lambda: workers.ran == ["a"])


@pytest.mark.parametrize("limit", [-1, 1.5, 10**30, True, "2", None])
def test_limit_of_dead_letters_that_is_no_whole_number_is_an_error(
    gator: Gator, limit: Any
) -> None:
    with pytest.raises(InvalidOption, match=r"^limit is a whole number"):
        gator.dead_letters(limit)
