"""Helpers of the tests of the contract: short ways to push, reserve and wait."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from alligator.backends.base import (
    Client,
    Lease,
    Message,
    QueueStats,
)
from alligator.constants import MAX_TASKS

Connect = Callable[[], Client]

AT_ONCE = 0.0
"""A lease for this long has expired as soon as it is given."""

HOUR = 3600.0


def push(client: Client, *task_ids: str, queue: str = "mail", delay: float = 0.0) -> None:
    client.push_many([Message(queue, task_id, f"data of {task_id}", delay) for task_id in task_ids])


def take(client: Client, queue: str = "mail", *, lease_for: float = HOUR) -> Lease:
    (lease,) = client.reserve(queue, lease_for=lease_for)
    return lease


def ids(leases: Sequence[Lease]) -> list[str]:
    return [lease.task_id for lease in leases]


def drain(client: Client, queue: str = "mail") -> list[str]:
    return ids(client.reserve(queue, limit=MAX_TASKS))


def becomes(question: Callable[[], bool], within: float = 30.0) -> bool:
    end = time.monotonic() + within
    while not (answer := question()) and time.monotonic() < end:
        time.sleep(0.005)
    return answer


@contextmanager
def elsewhere(action: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run *action* in a thread, and wait for its end."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield thread
    thread.join(20)
    assert not thread.is_alive()
    assert not errors


def balance(stats: QueueStats) -> bool:
    here = stats.ready + stats.scheduled + stats.leased + stats.dead
    return stats.pushed == stats.succeeded + stats.canceled + stats.dropped + here
