"""Messages that a wait has received."""

import time
from collections.abc import Callable
from threading import Thread

import pytest

from alligator.backends.sqs_backend import Client
from alligator.exceptions import BackendUnavailable
from tests.harness.sqs_proxy import SqsProxy
from tests.harness.sqs_queues import HOUR, denies, drain, push, take


def test_message_received_by_wait_is_returned_by_the_next_step(client: Client) -> None:
    push(client, "a", "b")
    drain(client)
    push(client, "c")

    client.wait(["mail"], 20)

    assert client.stats("mail").leased == 3
    assert drain(client, "print") == []
    assert drain(client) == ["c"]


def test_message_received_by_wait_gets_the_lease_of_the_step(client: Client) -> None:
    push(client, "a")
    client.wait(["mail"], 20)

    assert [lease.task_id for lease in client.reserve("mail", lease_for=0)] == ["a"]

    assert take(client).lost == 1


def test_message_received_by_wait_is_kept_if_extending_fails(
    client: Client, proxy: SqsProxy
) -> None:
    push(client, "a")
    client.wait(["mail"], 20)
    extend = "ChangeMessageVisibilityBatch"

    with (
        proxy.rule(denies(extend, code="ThrottlingException")),
        pytest.raises(BackendUnavailable),
    ):
        client.reserve("mail", lease_for=HOUR)

    (lease,) = client.reserve("mail", lease_for=HOUR)
    assert (lease.task_id, lease.lost) == ("a", 0)


def test_interrupted_wait_releases_what_it_received(client: Client) -> None:
    push(client, "before")
    drain(client)
    interrupted = Thread(target=client.wait, args=(["mail"], 20))
    interrupted.start()
    time.sleep(0.3)
    client.interrupt()

    push(client, "a")
    interrupted.join(10)

    assert not interrupted.is_alive()
    lease = take(client)
    assert (lease.task_id, lease.lost) == ("a", 0)


def test_closed_client_releases_what_wait_received(
    connect: Callable[..., Client],
) -> None:
    client, other = connect(), connect()
    push(client, "a")
    client.wait(["mail"], 20)

    client.close()

    lease = take(other)
    assert (lease.task_id, lease.lost) == ("a", 0)
