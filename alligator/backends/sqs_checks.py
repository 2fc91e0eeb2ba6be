"""Judge how a queue is set up in SQS."""

from collections.abc import Iterator, Mapping
from json import loads

from ..constants import MAX_LOST
from .sqs_connection import DAY, RECEIVES, RETENTION
from .sqs_dsn import DEAD


def check(name: str, attributes: Mapping[str, str]) -> Iterator[str]:
    """Say what of a queue's *attributes* could lose tasks, and what to type."""
    kept = int(attributes.get("MessageRetentionPeriod", RETENTION))
    if kept < RETENTION:
        yield (
            f"SQS forgets what has been on {name} for {kept / DAY:g} days: "
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
            f"SQS itself buries a task of {name} that was received {most} times, so that it is lost to "
            f"fewer than {MAX_LOST} workers: set maxReceiveCount of its redrive policy to {RECEIVES}"
        )
    if target != name + DEAD:
        yield (
            f"SQS itself buries tasks of {name} on {target}, where `latergator dead` does not look: "
            f"let the redrive policy name {name + DEAD}"
        )
