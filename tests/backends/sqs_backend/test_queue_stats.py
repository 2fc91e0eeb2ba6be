"""Cached numbers of queues."""

import pytest

from alligator.backends.sqs_backend import Client, queue_stats
from tests.harness.sqs_proxy import SqsProxy
from tests.harness.sqs_queues import push


def test_stats_are_cached_until_a_push(
    client: Client, proxy: SqsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_stats, "FRESH_SECONDS", 3600.0)
    push(client, "a")
    client.stats("mail")
    measured = proxy.count("GetQueueAttributes")

    client.stats("mail")
    assert proxy.count("GetQueueAttributes") == measured
    push(client, "b")
    assert client.stats("mail").ready == 2
