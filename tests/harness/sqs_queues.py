"""Queues of SQS in tests: past the client, through it, and with faults."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from alligator.backends.base import Lease, Message
from alligator.backends.sqs_backend import Client
from alligator.backends.sqs_backend.connection import PUSH_TIMEOUTS, SHORT_TIMEOUTS
from alligator.exceptions import BackendUnavailable
from tests.harness.sqs_proxy import Refuse, Rule

HOUR = 3600.0


class RawQueue:
    """A queue as SQS shows it, without our client."""

    def __init__(self, client: Client, queue: str = "mail", *, dead: bool = False) -> None:
        self.sqs = client._sqs.client()
        self.url = client._sqs.queue(queue, dead=dead)

    def send(self, body: str, **params: Any) -> str:
        """Send a message, and return its id."""
        return str(
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body, **params)["MessageId"]
        )

    def bodies(self) -> list[str]:
        """Return up to ten messages, and leave them on the queue."""
        reply = self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return [message["Body"] for message in reply.get("Messages", ())]

    def count(self, state: str = "") -> int:
        """Return how many messages are in a *state*: visible, ``Delayed`` or ``NotVisible``."""
        name = f"ApproximateNumberOfMessages{state}"
        reply = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])
        return int(reply["Attributes"][name])

    def set(self, **attributes: object) -> None:
        """Change attributes of the queue."""
        given = {name: str(value) for name, value in attributes.items()}
        self.sqs.set_queue_attributes(QueueUrl=self.url, Attributes=given)


def create_queue(client: Client, name: str, **attributes: str) -> None:
    """Create a queue by its name in SQS, without its dead letter queue."""
    client._sqs.call("create_queue", QueueName=name, Attributes=attributes)


def open_clients(client: Client) -> None:
    """Open the clients of boto3 that a push uses, which takes time on a busy machine."""
    for timeouts in (PUSH_TIMEOUTS, SHORT_TIMEOUTS):
        client._sqs._credentials.client(timeouts, time.monotonic() + 60)


def push(client: Client, *task_ids: str, queue: str = "mail", delay: float = 0.0) -> None:
    """Push tasks in one commit."""
    client.push_many([Message(queue, task_id, f"data of {task_id}", delay) for task_id in task_ids])


def take(client: Client, *, lease_for: float = HOUR) -> Lease:
    """Return the lease of one task."""
    (lease,) = client.reserve("mail", lease_for=lease_for)
    return lease


def drain(client: Client, queue: str = "mail") -> list[str]:
    """Return the ids of all ready tasks, in the order in which they are reserved."""
    return [lease.task_id for lease in client.reserve(queue, limit=100)]


def run_all(client: Client, queue: str = "mail", rounds: int = 400) -> list[str]:
    """Run all tasks although requests fail, and return their ids in that order."""
    ran: list[str] = []
    for _ in range(rounds):
        try:
            leases = client.reserve(queue, limit=10, lease_for=2)
        except BackendUnavailable:
            continue
        for lease in leases:
            ran.append(lease.task_id)
            for _ in range(20):
                try:
                    client.ack(lease)
                    break
                except BackendUnavailable:
                    pass
        client._stats.forget(queue)
        if not leases:
            try:
                stats = client.stats(queue)
            except BackendUnavailable:
                continue
            if not (stats.ready + stats.scheduled + stats.leased):
                break
            time.sleep(0.05)
    return ran


def intercept(
    client: Client, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str, dict[str, Any]], Any]
) -> None:
    """Pass each request to *answer* first. What it returns, unless None, replaces the reply of SQS."""
    real = client._sqs.call

    def call(operation: str, *, deadline: float | None = None, **params: Any) -> dict[str, Any]:
        reply: dict[str, Any] | None = answer(operation, params)
        return real(operation, deadline=deadline, **params) if reply is None else reply

    monkeypatch.setattr(client._sqs, "call", call)


def denies(*operations: str, queue: str = "", code: str = "AccessDenied") -> Rule:
    """Return a rule that refuses *operations* on queues whose name ends with *queue*."""
    return lambda request: (
        Refuse(code) if request.operation in operations and request.queue.endswith(queue) else None
    )
