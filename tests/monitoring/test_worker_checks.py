"""What health reports of the workers of a store."""

import pytest

from alligator import Gator
from alligator.backends.base import WorkerInfo
from alligator.monitoring.health import Health
from tests.harness.health import Durable, outputs, push, with_worker, work_on


def test_function_that_a_worker_cannot_run_is_a_warning() -> None:
    gator = with_worker(Gator("locmem://", backend_class=Durable))
    assert Health(gator).verdict().checks["workers:unrunnable"][0]["status"] == "pass"
    names = {f"shop.mail.send_{number}": "no shop" for number in range(7)}
    gator.client.beat(WorkerInfo(name="wrong:1:ab", queues=["all"], unrunnable=names), 60)

    verdict = Health(gator).verdict()

    (entry,) = verdict.checks["workers:unrunnable"]
    assert (verdict.status, entry["status"], entry["observedValue"]) == ("warn", "warn", 7)
    assert entry["output"] == (
        "a worker cannot run shop.mail.send_0, shop.mail.send_1, shop.mail.send_2, "
        "shop.mail.send_3, shop.mail.send_4 and 2 more: its log says why"
    )


def test_queue_without_a_worker_is_a_warning() -> None:
    verdict = Health(Gator("locmem://", "mail", backend_class=Durable)).verdict()

    assert verdict.status == "warn"
    (workers,) = verdict.checks["workers:connections"]
    assert workers["observedValue"] == 0
    assert "mail" in workers["output"]


def test_worker_of_another_queue_does_not_count() -> None:
    gator = with_worker(Gator("locmem://", "mail", backend_class=Durable))
    other = Gator("locmem://", "video", backend_class=Durable)
    other.client.beat(WorkerInfo(name="host:1:ab", queues=["mail"]), 60)

    assert Health(gator).verdict().status == "pass"
    assert Health(other).verdict().status == "warn"


def test_workers_are_listed_with_their_last_heartbeat(gator: Gator) -> None:
    (seen,) = Health(gator).verdict().checks["workers:lastSeen"]

    assert seen["componentId"] == "host:1:ab"
    assert 0 <= seen["observedValue"] < 60


@pytest.mark.parametrize("delay", [0.0, 3600.0])
def test_tasks_that_no_worker_takes_are_a_warning(gator: Gator, delay: float) -> None:
    push(gator, "payments", 23, delay)

    verdict = Health(gator).verdict()

    assert verdict.status == "warn"
    assert outputs(verdict) == ["no worker takes tasks from payments: start latergator"]
    work_on(gator, "payments")
    assert Health(gator).verdict().status == "pass"


def test_task_whose_only_worker_died_is_a_warning(gator: Gator) -> None:
    push(gator, "payments")
    gator.client.reserve("payments")

    assert outputs(Health(gator).verdict()) == [
        "no worker takes tasks from payments: start latergator"
    ]


def test_empty_queue_needs_no_worker(gator: Gator) -> None:
    push(gator, "payments")
    gator.client.cancel("payments", "payments-0")

    assert Health(gator).verdict().status == "pass"


def test_message_names_some_of_many_queues_without_a_worker(gator: Gator) -> None:
    for number in range(9):
        push(gator, f"q{number}")

    (output,) = outputs(Health(gator).verdict())

    assert output == "no worker takes tasks from q0, q1, q2, q3, q4 and 4 more: start latergator"
