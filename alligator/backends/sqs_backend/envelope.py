"""The content of an SQS message: a task, or all tasks of a commit.

A message is JSON in ASCII, because SQS accepts no control characters::

    {"alligator": 1, "tasks": [{"id": "…", "data": "…"}]}

A task may have a ``delay`` in seconds from the sending of the message, and how often it was ``lost``.
A dead letter also has a ``reason`` and a ``traceback``.
"""

import json
from collections.abc import Iterable, Sequence
from email.utils import parsedate_to_datetime
from math import ceil
from time import time
from typing import Any, NamedTuple

from ...exceptions import TaskTooLarge
from ...payload.envelope import task_id_in

VERSION = 1

MAX_BYTES = 1024 * 1024
"""The size limit of SQS for one message, and for all messages of one call."""

MAX_DELAY = 900
"""How long SQS delays a message at most, in seconds. After that, workers send it again."""

SYSTEM_ATTRIBUTES = ("SentTimestamp", "ApproximateReceiveCount")
"""The attributes that SQS returns with each message."""

HEAD, TAIL = f'{{"alligator": {VERSION}, "tasks": [', "]}"


class Item(NamedTuple):
    """A task in a message."""

    task_id: str
    data: str
    delay: float = 0.0
    """When it is due, in seconds from the sending of its message."""
    lost: int = 0


class Body(NamedTuple):
    """The body of a message to send."""

    text: str
    delay: int = 0
    """Whole seconds for which SQS delays it."""


class Envelope(NamedTuple):
    """The content of a received message."""

    items: Sequence[Item]
    reason: str = ""
    traceback: str = ""


def write(item: Item) -> Body:
    """Return a message with one task."""
    delay = min(MAX_DELAY, ceil(item.delay))
    return Body(f"{HEAD}{_item(item, delay)}{TAIL}", delay)


def write_dead(item: Item, reason: str, traceback: str) -> Body:
    """Return a message with a dead task; the traceback is omitted if it does not fit."""
    fields = {"alligator": VERSION, "tasks": [_fields(item)], "reason": reason}
    text = json.dumps({**fields, "traceback": traceback})
    return Body(text if len(text) <= MAX_BYTES else json.dumps(fields))


def write_all(items: Sequence[Item], limit: int = MAX_BYTES) -> list[Body]:
    """Return as few messages as possible with all *items*, each of up to *limit* bytes.

    Raises `TaskTooLarge` when a task does not fit in a message.
    """
    bodies: list[Body] = []
    delay = min(MAX_DELAY, *(ceil(item.delay) for item in items), MAX_DELAY)
    texts: list[str] = []
    room = limit - len(HEAD) - len(TAIL)
    for item in items:
        text = _item(item, delay)
        if len(text) > room:
            raise TaskTooLarge(
                f"A task takes {len(text):,} bytes in an SQS message, but {limit:,} are allowed. "
                "Store large data elsewhere and pass an id."
            )
        if texts and sum(map(len, texts)) + 2 * len(texts) + len(text) > room:
            bodies.append(Body(HEAD + ", ".join(texts) + TAIL, delay))
            texts = []
        texts.append(text)
    bodies.append(Body(HEAD + ", ".join(texts) + TAIL, delay))
    return bodies


def read(text: str, message_id: str) -> Envelope:
    """Return the content of a message. Any other text is the data of one task, as in Alligator 1.0."""
    try:
        found = json.loads(text)
        if found["alligator"] == VERSION:
            items = [
                Item(
                    str(each["id"]),
                    str(each["data"]),
                    float(each.get("delay", 0)),
                    int(each.get("lost", 0)),
                )
                for each in found["tasks"]
            ]
            if items:
                reason, traceback = (str(found.get(name, "")) for name in ("reason", "traceback"))
                return Envelope(items, reason, traceback)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return Envelope([Item(task_id_in(text) or message_id, text)])


# Replies of SQS.


def read_message(message: dict[str, Any]) -> Envelope:
    """Return the content of a received message."""
    return read(message["Body"], message["MessageId"])


def sent_at(message: dict[str, Any], now: float) -> float:
    """Return when a message was sent, by the clock of SQS."""
    return int(message.get("Attributes", {}).get("SentTimestamp", now * 1000)) / 1000


def times_received(message: dict[str, Any]) -> int:
    """Return how often a message was received, including this time."""
    return int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))


def server_time(reply: dict[str, Any]) -> float:
    """Return the time of SQS in whole seconds, rounded down."""
    try:
        return parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    except (LookupError, ValueError, TypeError):
        return time()


# The token of a lease is its receipt handle as a number, so nothing must be stored about leases.


def token_of(receipt: str) -> int:
    """Return the token of the lease of a message."""
    return int.from_bytes(receipt.encode(), "big")


def receipt_of(token: int) -> str:
    """Return the receipt handle of a token."""
    return token.to_bytes((token.bit_length() + 7) // 8, "big").decode(errors="replace")


def batches(bodies: Sequence[Body], most: int) -> Iterable[list[int]]:
    """Yield the positions of *bodies* for each call: up to *most*, and `MAX_BYTES` in total."""
    batch: list[int] = []
    size = 0
    for place, body in enumerate(bodies):
        if batch and (len(batch) == most or size + len(body.text) > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(place)
        size += len(body.text)
    if batch:
        yield batch


def _item(item: Item, delayed: int) -> str:
    return json.dumps(_fields(item, delayed))


def _fields(item: Item, delayed: int = 0) -> dict[str, Any]:
    """Return the fields of a task; its delay only if it is longer than the *delayed* seconds of SQS."""
    fields: dict[str, Any] = {"id": item.task_id, "data": item.data}
    if ceil(item.delay) > delayed:
        fields["delay"] = item.delay
    if item.lost:
        fields["lost"] = item.lost
    return fields
