"""What a step reserves."""

import time
from collections.abc import Callable

import pytest

from alligator.backends.sqs_backend import Client
from alligator.exceptions import BackendError
from tests.harness.sqs_proxy import SqsProxy
from tests.harness.sqs_queues import denies, drain, push


def test_task_that_was_lost_too_often_is_dead(client: Client) -> None:
    push(client, "a")
    found = [client.step(["mail"], 1, lease_for=0, max_lost=3).leases for _ in range(4)]

    assert [[lease.lost for lease in leases] for leases in found] == [[0], [1], [2], []]
    (letter,) = client.dead_letters("mail")
    assert (letter.task_id, letter.data) == ("a", "data of a")
    assert "lost 3 times" in letter.reason
    stats = client.stats("mail")
    assert (stats.ready, stats.leased, stats.dead) == (0, 0, 1)


def test_step_polls_before_it_returns_nothing(connect: Callable[..., Client]) -> None:
    client = connect("&poll=1")
    push(client, "a")
    drain(client)
    began = time.monotonic()

    assert not client.step(["mail"], 1).leases

    assert 0.9 < time.monotonic() - began < 5


def test_refused_queue_does_not_block_the_others(client: Client, proxy: SqsProxy) -> None:
    push(client, "a")
    push(client, "b", queue="print")

    with proxy.rule(denies("ReceiveMessage", queue="mail")):
        found = client.step(["mail", "print"], 5).leases
        with pytest.raises(BackendError, match="IAM policy"):
            client.step(["mail", "print"], 5)

    assert [lease.task_id for lease in found] == ["b"]
