"""Look at the dead letters of a queue in SQS: to look is to receive, and to show again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..constants import MAX_TASKS
from .base import DeadLetter
from .sqs_connection import BATCH, RECEIVES, Connection, NoQueue, raise_any
from .sqs_parcel import ABOUT, Parcel, parcel_of, sent_at, server_time, write, write_dead

LOOK_SECONDS = 30
"""How long dead letters are hidden from others who look at them."""


class _Dead(NamedTuple):
    """A message among the dead."""

    receipt: str
    parcel: Parcel
    died_at: float


class Dead:
    """The dead letters of the queues of a connection."""

    def __init__(self, sqs: Connection) -> None:
        self._sqs = sqs

    def letters(self, queue_name: str, limit: int) -> list[DeadLetter]:
        """List up to *limit* of the dead, the latest of up to 1,000 first.

        To look at them is to receive them: two people at once each see a part.
        """
        with self._looking_at(queue_name) as dead:
            letters = [
                DeadLetter(
                    queue_name,
                    item.task_id,
                    item.data,
                    each.parcel.reason or f"received {RECEIVES} times: SQS has put it away",
                    each.parcel.traceback,
                    each.died_at,
                )
                for each in dead
                for item in each.parcel.items
            ]
        letters.sort(key=lambda letter: letter.died_at, reverse=True)
        return letters[: max(0, limit)]

    def take(self, queue_name: str, task_id: str, *, again: bool) -> bool:
        """Take one away, to be run *again* or not; False if none goes by that id."""
        with self._looking_at(queue_name, task_id) as dead:
            for each in dead:
                items = {
                    item.task_id: item._replace(delay=0.0, lost=0) for item in each.parcel.items
                }
                wanted = items.pop(task_id, None)
                if wanted is None:
                    continue
                if again:
                    raise_any(self._sqs.send(self._sqs.queue(queue_name), [write(wanted)]))
                url = self._sqs.queue(queue_name, dead=True)
                # SQS itself buries a message as it is, with all of its tasks.
                rest = [
                    write_dead(item, each.parcel.reason, each.parcel.traceback)
                    for item in items.values()
                ]
                raise_any(self._sqs.send(url, rest))
                raise_any(self._sqs.delete(url, [each.receipt]))
                return True
        return False

    @contextmanager
    def _looking_at(self, queue_name: str, task_id: str | None = None) -> "Iterator[list[_Dead]]":
        """Receive the dead of a queue, until *task_id* is among them, and show them again after."""
        url = self._sqs.find(queue_name, dead=True)
        found: dict[str, _Dead] = {}
        try:
            while url is not None and len(found) < MAX_TASKS:
                try:
                    reply = self._sqs.call(
                        "receive_message",
                        QueueUrl=url,
                        MaxNumberOfMessages=BATCH,
                        VisibilityTimeout=LOOK_SECONDS,
                        WaitTimeSeconds=min(1, self._sqs.settings.poll),
                        MessageSystemAttributeNames=[*ABOUT],
                    )
                except NoQueue:
                    break
                now = server_time(reply)
                fresh = {
                    message["MessageId"]: _Dead(
                        message["ReceiptHandle"], parcel_of(message), sent_at(message, now)
                    )
                    for message in reply.get("Messages", ())
                }
                wanted = any(
                    item.task_id == task_id for each in fresh.values() for item in each.parcel.items
                )
                is_new = not fresh.keys() <= found.keys()
                found |= fresh
                if wanted or not is_new:
                    break
            yield [*found.values()]
        finally:
            if url is not None and found:
                # A failure hides them for half a minute more.
                self._sqs.hide(url, [each.receipt for each in found.values()], 0)
