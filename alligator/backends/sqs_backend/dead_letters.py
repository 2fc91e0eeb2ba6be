"""Dead letters in SQS: a reader receives them, and makes them visible again afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ...constants import MAX_TASKS
from ..base import DeadLetter
from .connection import BATCH, RECEIVES, Connection
from .envelope import (
    SYSTEM_ATTRIBUTES,
    Envelope,
    Item,
    read_message,
    sent_at,
    server_time,
    write,
    write_dead,
)
from .errors import QueueNotFound, raise_first

HIDE_SECONDS = 30
"""How long dead letters are hidden from other readers."""


class _DeadMessage(NamedTuple):
    """A message on the queue of dead letters."""

    receipt: str
    envelope: Envelope
    died_at: float

    def has(self, task_id: str | None) -> bool:
        return any(item.task_id == task_id for item in self.envelope.items)


class DeadLetters:
    """The dead letters of all queues of a connection."""

    def __init__(self, sqs: Connection) -> None:
        self._sqs = sqs

    def read(self, queue_name: str, limit: int) -> list[DeadLetter]:
        """Return up to *limit* dead letters, the latest of up to 1,000 first.

        Two readers at the same time each see a part of them.
        """
        with self._received(queue_name) as messages:
            letters = [
                DeadLetter(
                    queue_name,
                    item.task_id,
                    item.data,
                    message.envelope.reason
                    or f"received {RECEIVES} times: SQS moved it to the dead letters",
                    message.envelope.traceback,
                    message.died_at,
                )
                for message in messages
                for item in message.envelope.items
            ]
        letters.sort(key=lambda letter: letter.died_at, reverse=True)
        return letters[: max(0, limit)]

    def take(self, queue_name: str, task_id: str, *, retry: bool) -> bool:
        """Remove a dead letter, and push its task if *retry*; return False if there is none."""
        with self._received(queue_name, task_id) as messages:
            message = next((each for each in messages if each.has(task_id)), None)
            if message is None:
                return False
            items = {item.task_id: item for item in message.envelope.items}
            wanted = items.pop(task_id)
            if retry:
                self._push(queue_name, wanted)
            self._replace(queue_name, message, [*items.values()])
        return True

    def _push(self, queue_name: str, item: Item) -> None:
        body = write(item._replace(delay=0.0, lost=0))
        raise_first(self._sqs.send(self._sqs.queue(queue_name), [body]))

    def _replace(self, queue_name: str, message: _DeadMessage, rest: list[Item]) -> None:
        """Delete a message, after its other tasks were sent one by one.

        A message has several tasks when SQS itself dead-lettered a commit.
        """
        url = self._sqs.queue(queue_name, dead=True)
        envelope = message.envelope
        bodies = [
            write_dead(item._replace(delay=0.0, lost=0), envelope.reason, envelope.traceback)
            for item in rest
        ]
        raise_first(self._sqs.send(url, bodies))
        raise_first(self._sqs.delete(url, [message.receipt]))

    @contextmanager
    def _received(
        self, queue_name: str, task_id: str | None = None
    ) -> "Iterator[list[_DeadMessage]]":
        """Receive all dead letters, or until *task_id* is found; make them visible again at the end."""
        url = self._sqs.find(queue_name, dead=True)
        found: dict[str, _DeadMessage] = {}
        try:
            while url is not None and len(found) < MAX_TASKS:
                try:
                    reply = self._receive(url)
                except QueueNotFound:
                    break
                now = server_time(reply)
                received = {
                    message["MessageId"]: _DeadMessage(
                        message["ReceiptHandle"], read_message(message), sent_at(message, now)
                    )
                    for message in reply.get("Messages", ())
                }
                has_new = not received.keys() <= found.keys()
                found |= received
                if not has_new or any(message.has(task_id) for message in received.values()):
                    break
            yield [*found.values()]
        finally:
            if url is not None and found:
                # If this fails, they stay hidden for half a minute more.
                self._sqs.hide(url, [each.receipt for each in found.values()], 0)

    def _receive(self, url: str) -> dict[str, Any]:
        return self._sqs.call(
            "receive_message",
            QueueUrl=url,
            MaxNumberOfMessages=BATCH,
            VisibilityTimeout=HIDE_SECONDS,
            WaitTimeSeconds=min(1, self._sqs.settings.poll),
            MessageSystemAttributeNames=[*SYSTEM_ATTRIBUTES],
        )
