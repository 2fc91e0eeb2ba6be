"""Receive messages from SQS as leases."""

from collections.abc import Sequence
from logging import Logger, getLogger
from math import ceil
from typing import Any, NamedTuple

from ...exceptions import BackendError
from ..base import Lease, bounded
from .connection import BATCH, Connection, FindQueue
from .envelope import (
    SYSTEM_ATTRIBUTES,
    Item,
    read_message,
    sent_at,
    server_time,
    times_received,
    token_of,
)
from .queue_stats import StatsCache
from .unbatching import Unbatcher

MAX_LEASE = 12 * 60 * 60
"""How long SQS hides a message at most, in seconds."""

log: Logger = getLogger("alligator")


class Received(NamedTuple):
    """The result of one receive call."""

    leases: list[Lease]
    number: int
    """How many messages were received."""
    is_unbatched: bool
    """Whether a message was split, so that each of its tasks is on the queue now."""
    is_stuck: bool
    """Whether a message could not be split."""


class Receiver:
    """Receives messages, and splits those that hold several tasks or a task that is not due."""

    def __init__(self, sqs: Connection, find_queue: FindQueue, stats: StatsCache) -> None:
        self._sqs = sqs
        self._find_queue = find_queue
        self._stats = stats
        self._unbatcher = Unbatcher(sqs)

    def receive(self, name: str, most: int, lease_for: float, wait_seconds: int) -> Received:
        """Receive up to *most* messages with one call; a long poll takes up to *wait_seconds*."""
        url = self._find_queue(name)
        reply = self._sqs.call(
            "receive_message",
            QueueUrl=url,
            MaxNumberOfMessages=most,
            VisibilityTimeout=lease_seconds(lease_for),
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=[*SYSTEM_ATTRIBUTES],
        )
        messages = reply.get("Messages", ())
        now = server_time(reply)
        leases: list[Lease] = []
        is_unbatched = is_stuck = False
        for message in messages:
            items = _items(message, now)
            if len(items) == 1 and not items[0].delay:
                leases.append(_lease(name, items[0], message))
            elif self._unbatch(name, url, message, items, lease_seconds(lease_for)):
                is_unbatched = True
            else:
                is_stuck = True
        if messages:
            self._stats.forget(name)
        return Received(leases, len(messages), is_unbatched, is_stuck)

    def receive_more(
        self, leases: list[Lease], name: str, limit: int, lease_for: float, wait_seconds: int
    ) -> list[Lease]:
        """Return *leases* with newly received ones, up to *limit*.

        Raises an error only when there would be nothing to return.
        """
        while len(leases) < limit:
            asked = min(BATCH, limit - len(leases))
            try:
                got = self.receive(name, asked, lease_for, 0 if leases else wait_seconds)
            except BackendError:
                if not leases:
                    raise
                break
            leases = [*leases, *got.leases]
            if got.is_stuck or (got.number < asked and not got.is_unbatched):
                break
        return leases

    def _unbatch(
        self,
        name: str,
        url: str,
        message: dict[str, Any],
        items: Sequence[Item],
        lease_for: int,
    ) -> bool:
        """Split a message; return False if that failed."""
        receipt = message["ReceiptHandle"]
        try:
            self._unbatcher.split(url, message["MessageId"], receipt, items, lease_for)
        except BackendError as error:
            log.warning(
                "could not split a message of %d tasks on queue %s; SQS delivers it again soon: %s",
                len(items),
                name,
                error,
            )
            return False
        return True


def lease_seconds(lease_for: float) -> int:
    """Return *lease_for* in whole seconds, as long as SQS allows."""
    return min(MAX_LEASE, ceil(bounded(lease_for)))


def _items(message: dict[str, Any], now: float) -> list[Item]:
    """Return the tasks of a message, with their delays from *now*."""
    age = max(0.0, now - sent_at(message, now))
    return [item._replace(delay=max(0.0, item.delay - age)) for item in read_message(message).items]


def _lease(name: str, item: Item, message: dict[str, Any]) -> Lease:
    lost = item.lost + times_received(message) - 1
    return Lease(name, item.task_id, item.data, token_of(message["ReceiptHandle"]), lost)
