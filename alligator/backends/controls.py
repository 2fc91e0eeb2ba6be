"""What a program does with a queue besides pushing: measure, pause, and decide on dead tasks."""

from datetime import date
from math import inf
from time import time

from .._runtime.interrupts import checkpoint, due
from ..constants import MAX_LIMIT
from ..exceptions import BackendError, InvalidOption
from ..options import Seconds, check_name, check_whole, to_expiry
from .base import Client, DeadLetter, Limit, QueueStats


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

    def limit(
        self,
        queue_name: str | None = None,
        *,
        at_once: int | None = None,
        per_second: int | None = None,
        per_minute: int | None = None,
        limit_key: str | None = None,
    ) -> None:
        """Limit the queue, over all workers: these numbers replace those that it had.

        At most *at_once* of its tasks run at one time, and at most *per_second* or *per_minute* begin
        within any second or minute. Each is a whole number from 1 to 100,000; give *at_once*, one of
        the others, or both. Raises `InvalidOption`, and `BackendError` if the store has no limits.

        With *limit_key*, they are for the tasks of the queue with that key, and the limit of the queue
        stays; with ``"*"``, for the tasks of each key that has no limit of its own.
        """
        limit = to_limit(at_once, per_second, per_minute)
        self._limit(queue_name, limit, limit_key)

    def unlimit(self, queue_name: str | None = None, *, limit_key: str | None = None) -> None:
        """Remove the limit of the queue, or of that key on it."""
        self._limit(queue_name, None, limit_key)

    def key_limits(self, queue_name: str | None = None) -> dict[str, Limit]:
        """Return the limits of keys of the queue, sorted by key; ``"*"`` is each other key."""
        return self.client.key_limits(queue_name or self.queue_name)

    def _limit(self, queue_name: str | None, limit: Limit | None, limit_key: str | None) -> None:
        name = queue_name or self.queue_name
        if limit_key is None:
            self.client.limit(name, limit)
            return
        check_name("limit_key", limit_key)
        if not self.client.keeps_limit_keys:
            raise BackendError(
                f"{self.client.address} has no limits of keys. Use a queue for each."
            )
        self.client.limit(name, limit, limit_key)

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


def to_limit(at_once: int | None, per_second: int | None, per_minute: int | None) -> Limit:
    """Return the limit of these numbers; raise `InvalidOption` if they are none."""
    given = {"at_once": at_once, "per_second": per_second, "per_minute": per_minute}
    numbers = {
        name: check_whole(name, number, least=1, most=MAX_LIMIT)
        for name, number in given.items()
        if number is not None
    }
    if not numbers:
        raise InvalidOption(
            "Give at_once=, per_second= or per_minute=; gator.unlimit() removes a limit."
        )
    if per_second is not None and per_minute is not None:
        raise InvalidOption("Give per_second= or per_minute=, not both.")
    return Limit(
        numbers.get("at_once"),
        numbers.get("per_second", numbers.get("per_minute")),
        1.0 if per_minute is None else 60.0,
    )
