"""Outcomes of tasks, also those that SQS refuses."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Outcome
from alligator.backends.sqs_backend import Client
from alligator.exceptions import BackendError, BackendUnavailable
from alligator.workers.threads import WorkerThread
from tests.harness import sample_tasks
from tests.harness.sqs_proxy import Fault, Refuse, Request, SqsProxy
from tests.harness.sqs_queues import HOUR, create_queue, denies, drain, intercept, push, take


def test_outcomes_of_all_kinds_are_reported(client: Client) -> None:
    push(client, "ack", "retry", "release", "dead")
    push(client, "other", queue="print")
    by_id = {lease.task_id: lease for lease in client.reserve("mail", limit=4)}
    (other,) = client.reserve("print")
    outcomes = [
        Outcome("ack", by_id["ack"]),
        Outcome("retry", by_id["retry"], HOUR),
        Outcome("release", by_id["release"]),
        Outcome("dead", by_id["dead"], reason="no luck"),
        Outcome("ack", other),
    ]

    for _ in range(2):  # an outcome that is reported again counts once
        client.step((), 0, outcomes=outcomes)

    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled, stats.leased, stats.dead) == (1, 1, 0, 1)
    assert client.stats("print").leased == 0


def test_late_ack_deletes_its_task(client: Client) -> None:
    push(client, "a")
    late = take(client, lease_for=0)

    client.ack(late)

    assert drain(client) == []


def test_lost_count_is_kept_through_retries_and_releases(client: Client) -> None:
    push(client, "a")
    take(client, lease_for=0)

    client.release(take(client))
    client.nack(take(client), data="other")

    lease = take(client)
    assert (lease.data, lease.lost) == ("other", 1)


def test_task_that_cannot_be_moved_stays_on_its_queue(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(client, *"ab")
    one, two = client.reserve("mail", limit=2)
    away = True

    def answer(operation: str, params: dict[str, Any]) -> dict[str, Any] | None:
        if not away or operation != "send_message_batch":
            return None
        error = {"SenderFault": False, "Code": "InternalError"}
        return {"Failed": [{"Id": entry["Id"], **error} for entry in params["Entries"]]}

    intercept(client, monkeypatch, answer)

    with pytest.raises(BackendUnavailable, match="InternalError"):
        client.step((), 0, outcomes=[Outcome("ack", one), Outcome("retry", two)])
    assert client.stats("mail").leased == 1
    away = False
    client.step((), 0, outcomes=[Outcome("ack", one), Outcome("retry", two)])

    assert drain(client) == ["b"]


# Outcomes that SQS refuses.


def test_refused_outcome_does_not_block_the_others(client: Client, proxy: SqsProxy) -> None:
    push(client, "bad", "good")
    push(client, "other", queue="print")
    leases = {lease.task_id: lease for lease in client.reserve("mail", limit=2)}
    (other,) = client.reserve("print")
    outcomes = [
        Outcome("dead", leases["bad"], reason="no luck"),
        Outcome("ack", leases["good"]),
        Outcome("ack", other),
    ]

    with (
        proxy.rule(denies("SendMessage", "SendMessageBatch", queue="mail_dead")),
        pytest.raises(BackendError, match="IAM policy") as caught,
    ):
        client.step((), 0, outcomes=outcomes)

    assert not isinstance(caught.value, BackendUnavailable)
    assert client.stats("mail").leased == 1
    assert client.stats("print").leased == 0


def test_missing_dead_letter_queue_blocks_no_other_outcome(
    connect: Callable[..., Client],
) -> None:
    client = connect("&create=no")
    create_queue(client, f"{client._sqs.settings.prefix}mail")
    push(client, "bad", "good")
    leases = {lease.task_id: lease for lease in client.reserve("mail", limit=2)}
    outcomes = [Outcome("dead", leases["bad"], reason="no luck"), Outcome("ack", leases["good"])]

    with pytest.raises(BackendError, match="aws sqs create-queue"):
        client.step((), 0, outcomes=outcomes)

    assert client.stats("mail").leased == 1


def test_permanent_error_is_reported_before_a_transient_one(
    client: Client, proxy: SqsProxy
) -> None:
    push(client, "a")
    push(client, "b", queue="print")
    (a,), (b,) = client.reserve("mail"), client.reserve("print")

    def rule(request: Request) -> Fault:
        if request.operation != "DeleteMessageBatch":
            return None
        return Refuse("AccessDenied" if request.queue.endswith("print") else "ThrottlingException")

    with proxy.rule(rule), pytest.raises(BackendError, match="IAM policy"):
        client.step((), 0, outcomes=[Outcome("ack", a), Outcome("ack", b)])


@pytest.mark.parametrize("concurrency", [1, 2])
def test_task_that_cannot_be_dead_lettered_stops_no_worker_thread(
    dsn: str,
    connect: Callable[..., Client],
    caplog: pytest.LogCaptureFixture,
    concurrency: int,
    tmp_path: Any,
) -> None:
    client = connect()
    prefix = client._sqs.settings.prefix
    create_queue(client, f"{prefix}all")  # and none of its dead letters
    gator, ran = Gator(f"{dsn}&create=no"), tmp_path / "ran"
    bad = [gator.options(retries=0).task(sample_tasks.fail) for _ in range(3)]
    for n in range(5):
        gator.task(sample_tasks.record, str(ran), str(n))

    Worker(gator, max_tasks=8, concurrency=concurrency).run_forever()

    assert sorted(ran.read_text().split()) == [*"01234"]
    errors = [r.getMessage() for r in caplog.records if "dropped the outcome" in r.getMessage()]
    for task in bad:
        assert any(
            task is not None and str(task.task_id) in text and "all_dead" in text for text in errors
        )
    gator.client.close()


def test_outcome_refused_for_longer_than_its_lease_is_given_up(
    dsn: str, proxy: SqsProxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gator = Gator(dsn)
    for _ in range(2):
        gator.task(sample_tasks.add, 1, 2)
    worker_thread = WorkerThread(gator, ["all"], HOUR, 5)
    first = worker_thread.next(1)
    assert first is not None
    worker_thread.run(first)
    now = time.perf_counter()

    with proxy.rule(denies("DeleteMessageBatch", code="ThrottlingException")):
        with pytest.raises(BackendUnavailable):
            worker_thread.next(1)
        assert not caplog.records
        monkeypatch.setattr("alligator.workers.reservations.perf_counter", lambda: now + HOUR)
        with proxy.rule(denies("ReceiveMessage", code="ThrottlingException")):
            with pytest.raises(BackendUnavailable):
                worker_thread.next(1)
            assert not caplog.records  # SQS is away: that says nothing of the outcome
        monkeypatch.setattr("alligator.workers.reservations.perf_counter", lambda: now + 3 * HOUR)
        second = worker_thread.next(1)

    assert second is not None
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert first.task_id in record.getMessage()
    worker_thread.release_reserved()
    gator.client.close()


def test_outcome_is_kept_while_sqs_refuses_everything(
    dsn: str, proxy: SqsProxy, caplog: pytest.LogCaptureFixture
) -> None:
    gator = Gator(dsn)
    gator.task(sample_tasks.add, 1, 2)
    worker_thread = WorkerThread(gator, ["all"], HOUR, 5)
    lease = worker_thread.next(1)
    assert lease is not None
    worker_thread.run(lease)

    with proxy.rule(lambda _: Refuse("AccessDenied")):
        for _ in range(2):
            with pytest.raises(BackendError, match="IAM policy"):
                worker_thread.next(1)
        with pytest.raises(BackendError, match="IAM policy"):
            worker_thread.report_outcomes()
    worker_thread.report_outcomes()

    assert not caplog.records
    assert gator.stats().leased == 0
    gator.client.close()
