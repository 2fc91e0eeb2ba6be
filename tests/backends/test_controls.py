"""What a gator does with queues besides pushing: above all, pauses and limits."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import inf
from threading import Event
from typing import Any

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Limit
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


# Limits.


def test_gator_limits_its_queue(gator: Gator) -> None:
    gator.limit(at_once=3, per_minute=100)
    assert gator.stats().limit == Limit(3, 100, 60.0)

    gator.limit(per_second=5)
    assert gator.stats().limit == Limit(None, 5, 1.0)
    gator.unlimit()
    assert gator.stats().limit is None


def test_gator_limits_another_queue(gator: Gator) -> None:
    gator.limit("mail", at_once=1)

    assert (gator.stats("mail").limit, gator.stats().limit) == (Limit(1), None)
    gator.unlimit("mail")
    assert gator.stats("mail").limit is None


@pytest.mark.parametrize("name", ["at_once", "per_second", "per_minute"])
@pytest.mark.parametrize("number", [0, -1, 1.5, 100_001, 10**30, True, "3", float("nan")])
def test_limit_refuses_what_is_no_number_of_tasks(gator: Gator, name: str, number: Any) -> None:
    with pytest.raises(InvalidOption, match=f"{name} is a whole number from 1 to 100,000, not "):
        gator.limit(**{name: number})

    assert gator.stats().limit is None


@pytest.mark.parametrize(
    ("numbers", "message"),
    [({}, "Give at_once="), ({"per_second": 1, "per_minute": 2}, "not both")],
)
def test_limit_needs_one_rate_or_none(gator: Gator, numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        gator.limit(**numbers)


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


def test_store_that_cannot_limit_says_so() -> None:
    gator = Gator("five://", backend_class=lambda _: FiveMethods())

    with pytest.raises(BackendError, match="FiveMethods cannot limit a queue: start fewer"):
        gator.limit(at_once=1)


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


def test_worker_keeps_the_limit_in_all_its_threads(gator: Gator) -> None:
    gator.limit(at_once=2)
    for name in "abc":
        workers.gates[name] = Event()
        gator.task(workers.note_and_wait, name)

    with workers.workers_running(Worker(gator, concurrency=3)):
        assert becomes(lambda: sorted(workers.ran) == ["a", "b"])
        assert becomes(lambda: gator.stats().limited == 1)
        workers.gates["b"].set()
        assert becomes(lambda: sorted(workers.ran) == ["a", "b", "c"])
        workers.gates["a"].set()
        workers.gates["c"].set()
        assert becomes(lambda: gator.stats().succeeded == 3)


def test_worker_serves_other_queues_while_a_limit_is_reached(gator: Gator) -> None:
    gator.limit("mail", per_minute=1)
    for name in ("first", "second"):
        with gator.options(queue_name="mail") as opts:
            opts.task(workers.note, name)
    with gator.options(queue_name="print") as opts:
        opts.task(workers.note, "print")

    workers.burst(gator, to_consume=["mail", "print"])

    assert sorted(workers.ran) == ["first", "print"]
    assert gator.stats("mail").limited == 1


def test_burst_runs_the_tasks_of_a_queue_with_places_one_by_one(gator: Gator) -> None:
    gator.limit(at_once=1)
    for name in "abcde":
        gator.task(workers.note, name)

    workers.burst(gator)

    assert workers.ran == [*"abcde"]


def test_tasks_in_this_process_have_no_limits(gator: Gator) -> None:
    inline = Gator("locmem://", is_async=False)
    inline.limit(per_minute=1)

    inline.task(workers.note, "a")
    inline.task(workers.note, "b")

    assert workers.ran == ["a", "b"]


@pytest.mark.parametrize("limit", [-1, 1.5, 10**30, True, "2", None])
def test_limit_of_dead_letters_that_is_no_whole_number_is_an_error(
    gator: Gator, limit: Any
) -> None:
    with pytest.raises(InvalidOption, match=r"^limit is a whole number"):
        gator.dead_letters(limit)
