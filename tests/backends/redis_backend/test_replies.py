"""Records in Redis that other programs have changed."""

import pytest
from redis import Redis

from alligator.backends.base import (
    Message,
    Outcome,
)
from alligator.backends.redis_backend import Client
from tests.harness.redis_network import (
    ids,
    messages,
)

pytestmark = pytest.mark.usefixtures("closed", "note_earlier")


def test_task_without_a_payload_does_not_stop_the_queue(client: Client) -> None:
    client.push_many(messages("a", "b", "c"))
    client.conn.hdel("{alligator}:all:job", "a", "b")

    step = client.step(["all"], 2)

    assert not step.leases
    assert step.pause == 0
    assert ids(client.step(["all"], 2).leases) == ["c"]
    stats = client.stats("all")
    assert stats.pushed == stats.dropped + stats.leased == 3


def test_task_without_a_payload_is_skipped(client: Client) -> None:
    client.push_many([*messages("a", "b", "c"), Message("other", "d", "{}")])
    client.release(client.reserve("all")[0])
    client.conn.hdel("{alligator}:all:job", "b")

    step = client.step(["all", "other"], 9)

    found = [(lease.queue_name, lease.task_id, lease.data) for lease in step.leases]
    assert found == [("all", "a", "{}"), ("all", "c", "{}"), ("other", "d", "{}")]
    assert not client.extend(step.leases)
    client.step((), 0, outcomes=[Outcome("ack", lease) for lease in step.leases])
    stats = client.stats("all")
    assert (stats.succeeded, stats.dropped, stats.leased, stats.ready) == (2, 1, 0, 0)


def test_payload_that_is_not_text_can_be_dead_lettered(client: Client) -> None:
    client.push_many(messages("a"))
    with Redis.from_url(client.conn_string) as raw:
        raw.hset("{alligator}:all:job", "a", b"\xff\xfe")
        raw.hset("{alligator}:all:job", b"\xffb", "{}")
        raw.zadd("{alligator}:all:due", {b"\xffb": 1})

    for lease in client.reserve("all", limit=2):
        client.dead_letter(lease, reason="no text")

    assert client.stats("all").dead == 2
    assert client.drop_dead("all", "a")
