"""Health checks of SQS: whether a push would succeed, and the set-up of queues."""

import json
from collections.abc import Callable

import pytest

from alligator import Gator
from alligator.backends.sqs_backend import Client
from alligator.cli.worker import check_store
from alligator.exceptions import BackendError
from alligator.monitoring.health import Health
from tests.backends.conftest import PATIENCE
from tests.harness.sqs_proxy import SqsProxy
from tests.harness.sqs_queues import RawQueue, create_queue, denies, push


def test_health_warns_about_a_setup_that_loses_tasks(
    client: Client, connect: Callable[..., Client]
) -> None:
    push(client, "a")
    elsewhere = client._sqs.attributes(client._sqs.queue("other", dead=True), "QueueArn")
    policy = {"deadLetterTargetArn": elsewhere["QueueArn"], "maxReceiveCount": 3}
    RawQueue(client).set(MessageRetentionPeriod=4 * 86_400, RedrivePolicy=json.dumps(policy))
    RawQueue(client, dead=True).set(MessageRetentionPeriod=86_400)

    warnings = [text for text in connect().warnings() if "mail" in text]

    for text, part in zip(
        warnings,
        ["after 4 days", "maxReceiveCount", "`latergator dead` does not look", "after 1 days"],
        strict=True,
    ):
        assert part in text


def health_of(gator: Gator) -> tuple[str, str]:
    verdict = Health(gator, timeout=PATIENCE).verdict()
    outputs = [
        each.get("output", "")
        for name, entries in verdict.checks.items()
        if name != "limits"
        for each in entries
    ]
    return verdict.status, " ".join(outputs)


@pytest.mark.parametrize("missing", ["mail", "mail_dead"])
def test_health_fails_when_a_queue_is_missing_with_create_no(
    dsn: str, client: Client, missing: str
) -> None:
    prefix = client._sqs.settings.prefix
    for name in {"mail", "mail_dead"} - {missing}:
        create_queue(client, prefix + name)
    gator = Gator(f"{dsn}&create=no", "mail")

    status, output = health_of(gator)

    assert status == "fail"
    assert f"aws sqs create-queue --queue-name {prefix}{missing} " in output
    gator.client.close()


def test_worker_does_not_start_without_a_dead_letter_queue(dsn: str, client: Client) -> None:
    create_queue(client, f"{client._sqs.settings.prefix}mail")
    gator = Gator(f"{dsn}&create=no")

    with pytest.raises(BackendError, match=r"aws sqs create-queue --queue-name .*mail_dead "):
        check_store(gator, False, ["mail"])

    gator.client.close()


def test_health_fails_when_sending_is_denied(dsn: str, client: Client, proxy: SqsProxy) -> None:
    push(client, "a")
    gator = Gator(dsn, "mail")
    rule = denies("SendMessage", "SendMessageBatch", queue="mail")

    assert health_of(gator)[0] == "pass"
    with proxy.rule(rule):
        status, output = health_of(Gator(dsn, "mail"))

    assert status == "fail"
    assert "IAM policy lacks that action" in output
    assert client.len("mail") == 1
    gator.client.close()


def test_health_warns_when_dead_tasks_cannot_be_stored(
    dsn: str, client: Client, proxy: SqsProxy
) -> None:
    push(client, "a")
    url = client._sqs.queue("mail", dead=True)
    client._sqs.call(
        "set_queue_attributes", QueueUrl=url, Attributes={"MaximumMessageSize": "262144"}
    )

    with proxy.rule(denies("SendMessage", "SendMessageBatch", queue="mail_dead")):
        status, output = health_of(Gator(dsn, "mail"))

    assert status == "warn"
    assert "dead tasks of mail cannot be put on" in output
    assert "Set MaximumMessageSize to 1048576" in output
