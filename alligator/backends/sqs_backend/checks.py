"""Check whether SQS would accept tasks, and whether its queues are set up to keep them."""

from collections.abc import Iterator, Mapping, Sequence
from json import loads
from time import monotonic

from ...constants import MAX_LOST
from .connection import DAY, LOOKUP_SECONDS, RECEIVES, RETENTION, SMALL_BYTES, Connection
from .dsn import DEAD
from .errors import QueueNotFound, Refused


def check_pushes(sqs: Connection, queue_names: Sequence[str], deadline: float) -> None:
    """Raise `BackendError` if a push to one of the queues would fail, as far as SQS shows it."""
    for name in queue_names:
        url = sqs.find(name, deadline=deadline)
        if url is not None:
            try:
                sqs.try_to_send(url, deadline=deadline)
            except QueueNotFound:
                url = None
        if not sqs.settings.create:
            if url is None:
                raise sqs.queue_not_found(sqs.name(name))
            if sqs.find(name, dead=True, deadline=deadline) is None:
                raise sqs.queue_not_found(sqs.name(name, dead=True))


def setup_warnings(sqs: Connection, queue_name: str) -> Iterator[str]:
    """Yield what in the set-up of a queue and its dead letters can lose tasks, and the remedy."""
    url, dead_url = sqs.find(queue_name), sqs.find(queue_name, dead=True)
    live = {} if url is None else sqs.attributes(url, "All")
    if url is not None:
        yield from _attribute_warnings(sqs.name(queue_name), live)
    if dead_url is None:
        return
    name, dead = sqs.name(queue_name, dead=True), sqs.attributes(dead_url, "All")
    yield from _attribute_warnings(name, dead)
    yield from _size_warnings(name, dead, live)
    try:
        sqs.try_to_send(dead_url, deadline=monotonic() + LOOKUP_SECONDS)
    except Refused as error:
        yield f"dead tasks of {queue_name} cannot be put on {name}: {error}"


def _attribute_warnings(name: str, attributes: Mapping[str, str]) -> Iterator[str]:
    kept = int(attributes.get("MessageRetentionPeriod", RETENTION))
    if kept < RETENTION:
        yield (
            f"SQS deletes messages of {name} after {kept / DAY:g} days: "
            f"set MessageRetentionPeriod to {RETENTION}"
        )
    try:
        policy = loads(attributes.get("RedrivePolicy", "{}"))
        most = int(policy.get("maxReceiveCount", RECEIVES))
        target = str(policy.get("deadLetterTargetArn", name + DEAD)).rpartition(":")[2]
    except (ValueError, TypeError, AttributeError):
        return
    if most <= MAX_LOST:
        yield (
            f"SQS itself dead-letters a task of {name} after {most} receives, before it is lost "
            f"{MAX_LOST} times: set maxReceiveCount of its redrive policy to {RECEIVES}"
        )
    if target != name + DEAD:
        yield (
            f"SQS itself dead-letters tasks of {name} to {target}, where `latergator dead` does not "
            f"look: change the target of the redrive policy to {name + DEAD}"
        )


def _size_warnings(name: str, dead: Mapping[str, str], live: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning when a dead task may be too large for its queue, *name* in SQS."""
    limit, needed = (int(each.get("MaximumMessageSize", SMALL_BYTES)) for each in (dead, live))
    if live and limit < needed:
        yield (
            f"{name} accepts messages of {limit:,} bytes, and the queue of its tasks {needed:,}: a "
            f"larger task cannot be dead-lettered. Set MaximumMessageSize to {needed}"
        )
