"""Batches in memory: the tasks of a commit that has follow-ups."""

from collections.abc import Callable, Sequence

from ..base import Message
from ..follow_ups import with_numbers
from .keys import Hold

Push = Callable[[Message, float], int | Hold | None]
"""Pushes a message to its queue at a time of the monotonic clock; returns its number if it is new."""


class Batch:
    """How many tasks of a commit are not settled, and what is queued when none is left.

    It has no lock: the caller holds that of the store. *now* is a time of the monotonic clock.
    """

    __slots__ = ("_dead", "_follow_ups", "_left", "_tasks", "queued")

    def __init__(self, follow_ups: Sequence[tuple[Push, Message]]) -> None:
        self._follow_ups = follow_ups
        self._tasks = self._left = self._dead = 0
        self.queued: list[tuple[str, int]] = []
        """The follow-ups that were queued: the names of their queues, and their numbers."""

    def begin(self, tasks: int, now: float) -> None:
        """Count so many *tasks*; if there are none, queue the follow-ups."""
        self._tasks = self._left = tasks
        if not tasks:
            self._queue_follow_ups(now)

    def settle(self, *, is_dead: bool, now: float) -> None:
        """Count a task as settled; after the last one, queue the follow-ups."""
        self._left -= 1
        self._dead += is_dead
        if not self._left:
            self._queue_follow_ups(now)

    def abort(self) -> None:
        """Drop the follow-ups."""
        self._follow_ups = ()

    def _queue_follow_ups(self, now: float) -> None:
        for push, message in self._follow_ups:
            data = with_numbers(message.data, self._tasks, self._dead)
            number = push(message._replace(data=data, delay=0.0, unique=None), now)
            if isinstance(number, int):
                self.queued.append((message.queue_name, number))
