"""A schedule: when it is due, and the task that each of its ticks is."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ..backends.base import Announcement, Message
from ..exceptions import InvalidOption
from ..options import check_name, check_seconds
from ..tasks import Task
from .moments import MAX_INTERVAL, Moments

REMEMBERED_SECONDS: Final = 86_400.0
"""For how long a store shows a schedule that no worker keeps any more; at least its *catch_up*."""

MAX_NAME: Final = 150
"""The longest name, because the ids of its tasks begin with it."""

Call = tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]
"""A function and its arguments."""


class Schedule:
    """A function that is called at regular moments: each tick queues one task."""

    def __init__(
        self,
        moments: Moments,
        call: Call,
        options: Mapping[str, Any],
        *,
        name: str | None,
        catch_up: object,
        make: Callable[..., tuple[Task, Message]],
    ) -> None:
        """*make* returns a task and its message, from options, function and arguments."""
        self.moments = moments
        self.catch_up: float = check_seconds("catch_up", catch_up, most=MAX_INTERVAL)
        """A tick that is late by more seconds is skipped."""
        self.call = call
        self.options = options
        """The options of its tasks."""
        self._make = make
        task, message = make(options, *call)  # raises if there can be no such task
        self.function: str = task.name
        self.queue_name: str = message.queue_name
        self.name: str = check_name(
            "name", self.function.rpartition(".")[2] if name is None else name
        )
        if len(self.name) > MAX_NAME:
            raise InvalidOption(f"name is 1 to {MAX_NAME} characters, not {len(self.name)}.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.moments.definition} {self.function}>"

    def message(self, moment: int) -> Message:
        """Return the task of the tick at *moment*, a Unix timestamp."""
        task_id = f"{self.name}@{format_moment(moment)}"
        return self._make({**self.options, "task_id": task_id}, *self.call)[1]

    def announcement(self) -> Announcement:
        """Return what a store keeps of it."""
        about = {
            "definition": self.moments.definition,
            "zone": self.moments.zone,
            "function": self.function,
            "queue": self.queue_name,
            "catch_up": self.catch_up,
        }
        return Announcement(
            self.name, json.dumps(about), max(REMEMBERED_SECONDS, 2 * self.catch_up)
        )


def format_moment(moment: float) -> str:
    """Return a Unix timestamp as ISO 8601.

    >>> format_moment(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
