"""The two heaps of a queue in memory."""

from alligator.backends.base import Message
from alligator.backends.locmem_backend import Client
from alligator.backends.locmem_backend.queue import STALE


def test_canceled_scheduled_tasks_leave_nothing_in_the_heap() -> None:
    client = Client("locmem://")
    numbers = [str(number) for number in range(10 * STALE)]
    client.push_many([Message("all", number, "{}", 1e6) for number in numbers])
    client.push_many([Message("all", "next", "{}", 1e6), Message("all", "now", "{}")])

    for number in numbers:
        client.cancel("all", number)

    assert len(client._store.queues["all"]._waiting) <= STALE + 4
    assert [lease.task_id for lease in client.reserve("all", limit=9)] == ["now"]
    assert [each.task_id for each in client.scheduled("all")] == ["next"]
