"""Measure queues in SQS, and cache the numbers for a second."""

from collections.abc import Callable
from time import monotonic

from ..base import QueueStats
from .connection import Connection
from .errors import QueueNotFound

FRESH_SECONDS = 1.0
"""How long a measurement is valid: each is a request that AWS charges."""

ATTRIBUTES = {
    "ready": "ApproximateNumberOfMessages",
    "scheduled": "ApproximateNumberOfMessagesDelayed",
    "leased": "ApproximateNumberOfMessagesNotVisible",
}


class StatsCache:
    """Approximate numbers of queues. *find* returns the URL of a queue, or None."""

    def __init__(self, sqs: Connection, find: Callable[[str, bool], str | None]) -> None:
        self._sqs = sqs
        self._find = find
        self._stats: dict[str, tuple[float, QueueStats]] = {}

    def get(self, queue_name: str) -> QueueStats:
        """Return the numbers of a queue, at most a second old."""
        measured, stats = self._stats.get(queue_name, (0.0, None))
        if stats is None or monotonic() - measured > FRESH_SECONDS:
            live, dead = self._measure(queue_name, False), self._measure(queue_name, True)
            stats = QueueStats(**live, dead=sum(dead.values()), unreadable=(), limit=None)
            self._stats[queue_name] = monotonic(), stats
        return stats

    def forget(self, queue_name: str) -> None:
        """Measure the queue again with the next `get`."""
        self._stats.pop(queue_name, None)

    def _measure(self, queue_name: str, dead: bool) -> dict[str, int]:
        url = self._find(queue_name, dead)
        if url is None:
            return {}
        try:
            found = self._sqs.attributes(url, *ATTRIBUTES.values())
        except QueueNotFound:
            return {}
        return {state: int(found.get(name, 0)) for state, name in ATTRIBUTES.items()}
