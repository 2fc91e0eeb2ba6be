"""The content of messages."""

import json

import pytest

from alligator.backends.base import Message
from alligator.backends.sqs_backend import Client
from tests.harness.sqs_queues import HOUR, RawQueue, drain, push, take


def test_delay_of_more_than_fifteen_minutes_is_sent_again(client: Client) -> None:
    push(client, "a", delay=HOUR)
    raw = RawQueue(client)
    assert raw.count("Delayed") == 1
    # What is left when SQS has held it for as long as it can.
    late = {"alligator": 1, "tasks": [{"id": "b", "data": "2", "delay": 2000, "lost": 2}]}
    raw.send(json.dumps(late))

    assert drain(client) == []

    assert (raw.count("Delayed"), raw.count(), raw.count("NotVisible")) == (2, 0, 0)


def test_task_of_alligator_1_is_read(client: Client) -> None:
    RawQueue(client).send('{"task_id": "old", "module": "mail"}')

    lease = take(client)

    assert (lease.task_id, lease.data) == ("old", '{"task_id": "old", "module": "mail"}')


@pytest.mark.parametrize(
    "body",
    [
        "garbage",
        "[1]",
        '{"alligator": 2, "tasks": [{"id": "a", "data": "1"}]}',
        '{"alligator": 1, "tasks": []}',
        '{"alligator": 1, "tasks": [{"id": "a"}]}',
        '{"alligator": 1, "tasks": 7}',
        '{"task_id": 7}',
        "[" * 10_000,
    ],
)
def test_message_that_is_no_task_can_be_dead_lettered(client: Client, body: str) -> None:
    message_id = RawQueue(client).send(body)

    lease = take(client)
    client.dead_letter(lease, reason="not a task")

    assert (lease.task_id, lease.data) == (message_id, body)
    assert [letter.data for letter in client.dead_letters("mail")] == [body]


def test_traceback_that_does_not_fit_is_omitted(client: Client) -> None:
    client.push_many([Message("mail", "a", "x" * 1_000_000)])

    client.dead_letter(take(client), reason="no luck", traceback="x" * 60_000)

    (letter,) = client.dead_letters("mail")
    assert (letter.reason, letter.traceback) == ("no luck", "")
