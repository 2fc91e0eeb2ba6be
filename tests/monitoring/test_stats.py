"""The document for operators."""

from collections.abc import Sequence
from json import dumps, loads

import pytest

from alligator import Gator, Worker
from alligator.backends import locmem_backend
from alligator.backends.base import Figures, KeyStats, Message, Running, Sample, WorkerInfo
from alligator.exceptions import BackendError
from alligator.monitoring.stats import SCHEMA, measure
from tests.harness import sample_tasks


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def test_states_of_a_queue_are_counted(gator: Gator) -> None:
    gator.task(sample_tasks.add, 1, 2)
    gator.task(sample_tasks.add, 3, 4)
    gator.options(delay_by=60).task(sample_tasks.add, 5, 6)
    gator.client.reserve("all")

    document = measure(gator)

    assert document["schema"] == SCHEMA
    (queue,) = document["stores"][0]["queues"]
    assert (queue["ready"], queue["scheduled"], queue["leased"], queue["dead"]) == (1, 1, 1, 0)
    assert queue["oldest_age"] >= 0
    assert queue["counters"]["pushed"] == 3


def test_queues_of_the_gators_are_listed_before_others_of_the_store(gator: Gator) -> None:
    gator.options(queue_name="a-slow-one").task(sample_tasks.add, 1, 2)

    (store,) = measure(gator)["stores"]

    assert [queue["name"] for queue in store["queues"]] == ["all", "a-slow-one"]


def test_workers_are_listed_with_their_heartbeat(gator: Gator) -> None:
    gator.client.beat(
        WorkerInfo(
            name="host:1:ab", queues=["all"], running=[Running("1", "app:send", 0.0, "mail")]
        ),
        60,
    )

    (store,) = measure(gator)["stores"]

    (worker,) = store["workers"]
    assert worker["name"] == "host:1:ab"
    assert worker["queues"] == ["all"]
    assert worker["running"] == [
        {
            "task_id": "1",
            "function": "app:send",
            "queue": "mail",
            "since": "1970-01-01T00:00:00.000Z",
        }
    ]
    assert 0 <= worker["seen_ago"] < 10
    assert worker["started"].endswith("Z")


def test_document_contains_no_dsn_and_no_arguments() -> None:
    gator = Gator("locmem://user:p4ssw0rd@host")
    gator.task(sample_tasks.fail, "a private matter")
    gator.task(sample_tasks.fail, "another one")
    with pytest.raises(RuntimeError):
        gator.pop()

    text = dumps(measure(gator))

    assert loads(text)["stores"][0]["queues"][0]["dead"] == 1
    assert "p4ssw0rd" not in text
    assert "private" not in text
    assert "another" not in text


# Limit keys.


def test_limit_keys_that_cannot_be_read_are_unknown() -> None:
    class Changed(locmem_backend.Client):
        def key_stats(self, queue_names: Sequence[str]) -> dict[str, KeyStats]:
            if "mail" in queue_names:
                raise BackendError("not a hash")
            return super().key_stats(queue_names)

    gator = Gator("locmem://", backend_class=Changed)
    for name in ("mail", "all"):
        gator.options(queue_name=name, limit_key="tenant-7").task(sample_tasks.add, 1, 2)

    queues = {queue["name"]: queue for queue in measure(gator)["stores"][0]["queues"]}

    assert queues["mail"]["limit_keys"] is None
    assert queues["mail"]["ready"] == 1
    assert queues["all"]["limit_keys"]["waiting"] == 1


# Rates.


def sample(age: float, pushed: int) -> Sample:
    return Sample(age, 0, 0, 0, 0, pushed, 0, 0)


class Remembering(locmem_backend.Client):
    """A store whose history was made up."""

    samples: Sequence[Sample] = ()

    def history(self, queue_name: str) -> list[Sample]:
        return list(self.samples)


def rates_with(*samples: Sample) -> dict[str, float | None]:
    """Return the pushes per second of a queue with these samples and 1000 pushed tasks."""
    gator = Gator("locmem://", backend_class=Remembering)
    gator.client.push_many([Message("all", str(n), "") for n in range(1000)])
    Remembering.samples = samples
    (queue,) = measure(gator)["stores"][0]["queues"]
    rates: dict[str, float | None] = queue["rates"]["pushed"]
    return rates


def test_rate_is_over_the_window_that_its_name_says() -> None:
    rates = rates_with(sample(900, 100), sample(300, 400), sample(60, 940), sample(10, 1000))

    assert rates == {"1m": 1.0, "5m": 2.0, "15m": 1.0}


def test_rate_is_over_less_time_when_there_is_no_older_sample() -> None:
    assert rates_with(sample(20, 980)) == {"1m": 1.0, "5m": 1.0, "15m": 1.0}


def test_rate_is_unknown_without_samples() -> None:
    assert rates_with() == {"1m": None, "5m": None, "15m": None}
    assert rates_with(sample(0.1, 980)) == {"1m": None, "5m": None, "15m": None}


def test_rate_is_not_negative_after_a_commit_was_undone() -> None:
    assert rates_with(sample(60, 1001))["1m"] == 0


# Times.


def test_run_time_and_latency_come_from_the_workers() -> None:
    gator = Gator("locmem://")
    for _ in range(3):
        gator.task(sample_tasks.add, 1, 2)
    gator.options(queue_name="mail").task(sample_tasks.add, 1, 2)

    Worker(gator, to_consume=["all", "mail"], burst=True, concurrency=2).run_forever()

    queues = {queue["name"]: queue for queue in measure(gator)["stores"][0]["queues"]}
    assert queues["all"]["run_time"]["count"] == queues["all"]["latency"]["count"] == 3
    assert queues["mail"]["run_time"]["count"] == 1
    assert 0 <= queues["all"]["run_time"]["p50"] <= queues["all"]["run_time"]["p99"] < 10
    assert len(queues["all"]["history"]) == 1


@pytest.mark.parametrize("is_counted", [False, True], ids=["refused", "its reply lost"])
def test_figures_that_were_refused_come_with_the_next_heartbeat(is_counted: bool) -> None:
    class Shy(locmem_backend.Client):
        refusals = 1

        def note(
            self,
            figures: Figures,
            queue_names: Sequence[str] = (),
            *,
            report_id: str | None = None,
        ) -> None:
            if is_counted:
                super().note(figures, queue_names, report_id=report_id)
            if self.refusals and figures:
                self.refusals -= 1
                raise BackendError("not now")
            if not is_counted:
                super().note(figures, queue_names, report_id=report_id)

    gator = Gator("locmem://", backend_class=Shy)
    gator.task(sample_tasks.add, 1, 2)
    worker = Worker(gator)
    worker.check_and_run_task()
    with pytest.raises(BackendError):
        worker._announce(alive=True)

    worker._announce(alive=True)
    worker._announce(alive=True)

    (queue,) = measure(gator)["stores"][0]["queues"]
    assert queue["run_time"]["count"] == 1


def test_payload_that_never_ran_has_no_run_time() -> None:
    gator = Gator("locmem://")
    gator.client.push("all", "a", "no task")

    Worker(gator, burst=True).run_forever()

    (queue,) = measure(gator)["stores"][0]["queues"]
    assert queue["counters"]["failed"] == queue["dead"] == 1
    assert queue["run_time"]["count"] == 0
