"""What health reports of one store."""

import threading
from collections.abc import Callable, Iterator, Sequence
from threading import Event
from time import monotonic

import pytest

from alligator import Gator
from alligator.backends.base import QueueStats
from alligator.exceptions import BackendError, BackendUnavailable
from alligator.monitoring.health import Health
from tests.harness.health import Durable, Frozen, gator_on, outputs, push, work_on
from tests.harness.programs import SLACK, eventually


class Away(Durable):
    """A store that cannot be reached."""

    def ping(self) -> None:
        raise BackendUnavailable("redis://app:***@db cannot be reached")


class Mute(Durable):
    """A store that answers, but says nothing about itself."""

    def stats(self, queue_name: str) -> QueueStats:
        raise BackendError("no permission to run INFO")

    def warnings(self) -> list[str]:
        raise BackendError("no permission to run INFO")


class Forgetful(Durable):
    """A store that says what is wrong with it."""

    def warnings(self) -> list[str]:
        return ["it would forget accepted tasks when it restarts"]


def ping_threads() -> int:
    return sum(thread.name == "alligator-health" for thread in threading.enumerate())


def test_store_that_answers_and_has_a_worker_passes(gator: Gator) -> None:
    verdict = Health(gator).verdict()

    assert verdict.status == "pass"
    (answer,) = verdict.checks["backend:responseTime"]
    assert answer["observedUnit"] == "ms"
    assert answer["observedValue"] < 500
    assert verdict.checks["delivery"][0]["observedValue"] == "at-least-once"
    assert verdict.checks["workers:connections"][0]["observedValue"] == 1


def test_store_that_cannot_be_reached_fails() -> None:
    verdict = Health(gator_on(Away)).verdict()

    assert verdict.status == "fail"
    (answer,) = verdict.checks["backend:responseTime"]
    assert answer["output"] == "redis://app:***@db cannot be reached"
    assert "observedValue" not in answer


def test_store_that_hangs_fails_within_the_timeout(frozen: Frozen) -> None:
    health = Health(gator_on(lambda _: frozen))

    began = monotonic()
    verdict = health.verdict()

    assert monotonic() - began < 0.5 + SLACK
    assert verdict.status == "fail"
    assert verdict.checks["backend:responseTime"][0]["output"] == "no answer within 500 ms"


def test_store_that_hung_passes_once_it_answers(frozen: Frozen) -> None:
    health = Health(gator_on(lambda _: frozen), timeout=0.05, fresh_for=0)
    assert health.verdict().status == "fail"

    frozen.thawed.set()

    eventually(lambda: health.verdict().status == "pass")


def test_store_that_answers_too_late_fails(frozen: Frozen) -> None:
    health = Health(gator_on(lambda _: frozen), timeout=0.05, fresh_for=60)
    health.verdict()

    frozen.thawed.set()
    eventually(lambda: not ping_threads())

    (answer,) = health.verdict().checks["backend:responseTime"]
    assert answer["status"] == "fail"
    assert answer["output"].startswith("the answer took")


def test_store_that_is_not_durable_is_a_warning() -> None:
    verdict = Health(gator_on(Forgetful)).verdict()

    assert verdict.status == "warn"
    (durability,) = verdict.checks["durability"]
    assert durability["output"] == "it would forget accepted tasks when it restarts"


def test_store_that_hides_its_details_is_a_warning() -> None:
    verdict = Health(gator_on(Mute)).verdict()

    assert verdict.status == "warn"
    assert verdict.checks["backend:responseTime"][0]["status"] == "pass"
    assert verdict.checks["workers:connections"][0]["status"] == "pass"
    assert verdict.checks["durability"][0]["status"] == "warn"
    assert verdict.checks["queue/all:depth"][0]["status"] == "warn"


def test_backend_of_five_methods_is_judged_by_what_it_can_know() -> None:
    class Five:
        def __init__(self, conn_string: str) -> None:
            pass

        def len(self, queue_name: str) -> int:
            return 3

    verdict = Health(Gator("five://", backend_class=Five)).verdict()

    assert verdict.status == "warn"
    assert verdict.checks["delivery"][0]["observedValue"] == "at-most-once"
    assert verdict.checks["queue/all:depth"][0]["observedValue"] == 3
    assert "workers:connections" not in verdict.checks


def test_queue_that_cannot_be_measured_hides_no_other() -> None:
    class Damaged(Durable):
        def stats(self, queue_name: str) -> QueueStats:
            if queue_name == "b":
                raise BackendError("WRONGTYPE of b")
            return super().stats(queue_name)

    gator = Gator("locmem://", "mail", backend_class=Damaged)
    for name in "abc":
        push(gator, name)
    work_on(gator, "mail", "a", "b", "c")

    verdict = Health(gator).verdict()

    assert outputs(verdict) == ["b: WRONGTYPE of b"]
    assert verdict.checks["queue/c:depth"][0]["observedValue"] == 1


class Slow(Durable):
    """A store that measures one queue at once, and then blocks until the test releases it."""

    def __init__(self, conn_string: str) -> None:
        super().__init__(conn_string)
        self.let_go = Event()

    def queue_names(self) -> list[str]:
        return [f"q{number:05}" for number in range(10_000)]

    def stats_of(self, queue_names: Sequence[str]) -> list[QueueStats]:
        if len(queue_names) > 1:
            self.let_go.wait(60)
        return super().stats_of(queue_names)


@pytest.fixture
def slow() -> Iterator[Callable[[str], Slow]]:
    client = Slow("locmem://")
    yield lambda _: client
    client.let_go.set()


def test_own_queue_is_measured_in_time_even_if_others_are_not(
    slow: Callable[[str], Slow],
) -> None:
    gator = Gator("locmem://", "mail", backend_class=slow)
    work_on(gator, "mail")

    verdict = Health(gator, timeout=0.2).verdict()

    assert verdict.status == "warn"
    assert verdict.checks["queue/mail:depth"][0]["status"] == "pass"
    assert outputs(verdict) == [
        "1 of 10,001 queues are listed; 10,000 were not measured, as there was no time"
    ]
