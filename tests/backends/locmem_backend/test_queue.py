"""The two heaps of a queue in memory."""

import pytest

from alligator.backends.base import Message
from alligator.backends.locmem_backend import Client
from alligator.backends.locmem_backend.waiting import PLAIN, STALE


@pytest.mark.parametrize("key", [None, "a"])
def test_canceled_scheduled_tasks_leave_nothing_in_the_heap(key: str | None) -> None:
    client = Client("locmem://")
    numbers = [str(number) for number in range(10 * STALE)]
    client.push_many([Message("all", number, "{}", 1e6, limit_key=key) for number in numbers])
    client.push_many([Message("all", "next", "{}", 1e6), Message("all", "now", "{}")])

    for number in numbers:
        client.cancel("all", number)

    waiting = client._store.queues["all"]._waiting
    assert len(waiting._lines[0][PLAIN]) + len(waiting._arrived) <= STALE + 4
    assert [lease.task_id for lease in client.reserve("all", limit=9)] == ["now"]
    assert [each.task_id for each in client.scheduled("all")] == ["next"]
