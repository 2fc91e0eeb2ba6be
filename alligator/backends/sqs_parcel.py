"""What one SQS message holds: a task, or all tasks of a commit.

A message is JSON in ASCII, for SQS takes no control characters::

    {"alligator": 1, "tasks": [{"id": "…", "data": "…"}]}

A task of it may have a ``delay``, in seconds from when the message was sent, and a count of ``lost``
workers; a dead letter also has a ``reason`` and a ``traceback``.
"""

import json
from collections.abc import Iterable, Sequence
from email.utils import parsedate_to_datetime
from math import ceil
from time import time
from typing import Any, NamedTuple

from ..exceptions import TaskTooLarge

VERSION = 1

MAX_BYTES = 1024 * 1024
"""What SQS takes in one message, and in one call."""

MAX_DELAY = 900
"""For how long SQS holds a message back, in seconds; what is longer is sent on by workers."""

ABOUT = ("SentTimestamp", "ApproximateReceiveCount")
"""What is to be said of a message that is received."""

HEAD, TAIL = f'{{"alligator": {VERSION}, "tasks": [', "]}"


class Item(NamedTuple):
    """A task in a message."""

    task_id: str
    data: str
    delay: float = 0.0
    """When it is due, in seconds from when its message was sent."""
    lost: int = 0


class Body(NamedTuple):
    """A message to be sent."""

    text: str
    delay: int = 0
    """Whole seconds for which SQS is to hold it back."""


class Parcel(NamedTuple):
    """A message that was received."""

    items: Sequence[Item]
    reason: str = ""
    traceback: str = ""


def write(item: Item) -> Body:
    """Make a message of one task."""
    delay = min(MAX_DELAY, ceil(item.delay))
    return Body(f"{HEAD}{_item(item, delay)}{TAIL}", delay)


def write_dead(item: Item, reason: str, traceback: str) -> Body:
    """Make a message of a dead task."""
    said = {"alligator": VERSION, "tasks": [_fields(item)], "reason": reason}
    text = json.dumps({**said, "traceback": traceback})
    return Body(text if len(text) <= MAX_BYTES else json.dumps(said))


def write_all(items: Sequence[Item], limit: int = MAX_BYTES) -> list[Body]:
    """Make one message of *items*, or as few as can be with up to *limit* bytes each.

    Raises `TaskTooLarge` when one of them does not fit.
    """
    bodies: list[Body] = []
    delay = min(MAX_DELAY, *(ceil(item.delay) for item in items), MAX_DELAY)
    texts: list[str] = []
    room = limit - len(HEAD) - len(TAIL)
    for item in items:
        text = _item(item, delay)
        if len(text) > room:
            raise TaskTooLarge(
                f"A task takes {len(text):,} bytes in a message of SQS, {limit:,} are allowed. "
                "Keep large data elsewhere and pass an id."
            )
        if texts and sum(map(len, texts)) + 2 * len(texts) + len(text) > room:
            bodies.append(Body(HEAD + ", ".join(texts) + TAIL, delay))
            texts = []
        texts.append(text)
    bodies.append(Body(HEAD + ", ".join(texts) + TAIL, delay))
    return bodies


def read(text: str, message_id: str) -> Parcel:
    """Read a message; what is none of ours is the data of one task, as Alligator 1.0 sent it."""
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
                return Parcel(items, reason, traceback)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return Parcel([Item(_id_in(text) or message_id, text)])


# What an answer of SQS says of messages.


def parcel_of(message: dict[str, Any]) -> Parcel:
    """Read what was received."""
    return read(message["Body"], message["MessageId"])


def sent_at(message: dict[str, Any], now: float) -> float:
    """Tell when a message was sent, by the clock of SQS."""
    return int(message.get("Attributes", {}).get("SentTimestamp", now * 1000)) / 1000


def times_received(message: dict[str, Any]) -> int:
    """Tell how often a message was received, this time too."""
    return int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))


def server_time(reply: dict[str, Any]) -> float:
    """Read the clock of SQS; it shows whole seconds, and so is never fast."""
    try:
        return parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    except (LookupError, ValueError, TypeError):
        return time()


# The token of a lease is its receipt handle, as a number: so nothing is to be remembered of leases.


def token_of(receipt: str) -> int:
    """Make the token of a lease."""
    return int.from_bytes(receipt.encode(), "big")


def receipt_of(token: int) -> str:
    """Read the receipt handle that a token was made of."""
    return token.to_bytes((token.bit_length() + 7) // 8, "big").decode(errors="replace")


def batches(bodies: Sequence[Body], most: int) -> Iterable[list[int]]:
    """Say which of *bodies* go into a call together, by their places."""
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


def _item(item: Item, held: int) -> str:
    return json.dumps(_fields(item, held))


def _fields(item: Item, held: int = 0) -> dict[str, Any]:
    """Write a task down, its delay only if it goes on when SQS has held it for *held* seconds."""
    fields: dict[str, Any] = {"id": item.task_id, "data": item.data}
    if ceil(item.delay) > held:
        fields["delay"] = item.delay
    if item.lost:
        fields["lost"] = item.lost
    return fields


def _id_in(text: str) -> str:
    try:
        found = json.loads(text[text.index("{") :])["task_id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return found if isinstance(found, str) else ""
