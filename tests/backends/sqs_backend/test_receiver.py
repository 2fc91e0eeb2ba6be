"""Received messages."""

import time

from alligator.backends.sqs_backend import Client
from tests.harness.sqs_queues import drain, push


def test_lease_of_part_of_a_second_is_rounded_up(client: Client) -> None:
    push(client, "a")
    client.reserve("mail", lease_for=0.05)

    time.sleep(0.2)
    assert drain(client) == []
    time.sleep(1)
    assert drain(client) == ["a"]
