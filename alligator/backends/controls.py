"""What a program does with a queue besides pushing: measure, pause, and decide on dead tasks."""

from datetime import date
from math import inf
from time import time

from .._runtime.interrupts import checkpoint, due
from ..options import Seconds, check_whole, to_expiry
from .base import Client, DeadLetter, QueueStats


class QueueControls:
    """The part of a `Gator` that measures and controls queues; *queue_name* None means its own."""

    client: Client
    queue_name: str

    def len(self, queue_name: str | None = None) -> int:
        """Return the number of waiting tasks."""
        if due:
            checkpoint()
        return self.client.len(queue_name or self.queue_name)

    def stats(self, queue_name: str | None = None) -> QueueStats:
        """Return the stats of this gator's queue, or of another queue of its store."""
        if due:
            checkpoint()
        return self.client.stats(queue_name or self.queue_name)

    def pause(self, queue_name: str | None = None, *, until: Seconds | date | None = None) -> None:
        """Pause the queue: no worker begins its tasks before `resume` is called, or before *until*.

        *until* is a number of seconds from now, a timedelta, a datetime or a date. Running tasks
        continue, and the queue accepts new ones. Raises `BackendError` if the store cannot pause.
        """
        seconds = inf if until is None else to_expiry("until", until) - time()
        self.client.pause(queue_name or self.queue_name, seconds)

    def resume(self, queue_name: str | None = None) -> None:
        """End the pause of the queue."""
        self.client.pause(queue_name or self.queue_name, 0.0)

    def dead_letters(self, limit: int = 100, queue_name: str | None = None) -> list[DeadLetter]:
        """Return the dead letters, the latest first."""
        most = check_whole("limit", limit)
        return self.client.dead_letters(queue_name or self.queue_name, most)

    def retry_dead(self, task_id: str, queue_name: str | None = None) -> bool:
        """Put a dead task back on the queue; return whether there was one with that id."""
        return self.client.retry_dead(queue_name or self.queue_name, task_id)

    def drop_dead(self, task_id: str, queue_name: str | None = None) -> bool:
        """Delete a dead task; return whether there was one with that id."""
        return self.client.drop_dead(queue_name or self.queue_name, task_id)
