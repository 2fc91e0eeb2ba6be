"""The schedules in Redis, and the last tick of each."""

import os
from collections.abc import Sequence
from typing import Any

from ..base import Announcement, Message, ScheduleRecord
from ..schedules import UNANNOUNCED_SECONDS
from .commits import SIGNS
from .connection import Connections
from .outcomes import microseconds, with_key
from .protocol import Script

ANNOUNCE, SCHEDULES, FORGET = (
    Script(name, "records") for name in ("announce", "schedules", "forget")
)
TICK = Script("tick", "records", "tasks", "batches", "tick_begin", "push")

MARKER_SECONDS, NO_DEADLINE = 1, 2**53
"""How long the marker of the push is kept, and its deadline. Neither matters here: the record of the
schedule recognises a tick that arrives late or twice."""


class Schedules:
    """The schedules of one set of queues, whose keys begin with *prefix*."""

    def __init__(self, connections: Connections, prefix: str) -> None:
        self._connections = connections
        self._prefix = prefix
        self._key = f"{prefix}schedules"

    def announce(self, schedules: Sequence[Announcement], now: int) -> list[int]:
        """See `Client.announce_schedules`."""
        args: list[str | int] = [now]
        for name, about, ttl in schedules:
            args += name, about, microseconds(ttl)
        return [int(last) for last in self._call(ANNOUNCE, [self._key], args)]

    def push_tick(self, name: str, moment: int, message: Message) -> bool:
        """See `Client.push_tick`."""
        queue_name, task_id, data, delay, priority, unique, _ = message
        when = f"{SIGNS.get(priority, '')}{microseconds(delay)}"
        marker = f"{self._prefix}{os.urandom(12).hex()}:commit"
        keys = [self._key, marker, marker, f"{self._prefix}queues", self._prefix + queue_name]
        args: list[str | int] = [name, moment, microseconds(UNANNOUNCED_SECONDS)]
        args += MARKER_SECONDS, NO_DEADLINE, 0
        args += queue_name, 1, task_id, data, when if unique is None else with_key(when, unique)
        return bool(self._call(TICK, keys, args))

    def records(self) -> list[ScheduleRecord]:
        """See `Client.schedules`."""
        reply = self._call(SCHEDULES, [self._key])
        found = [
            ScheduleRecord(name, about, last, ran, max(0, silent) / 1e6)
            for name, last, ran, silent, about in zip(*[iter(reply)] * 5, strict=True)
        ]
        return sorted(found)

    def forget(self, name: str) -> bool:
        """See `Client.forget_schedule`."""
        return bool(self._call(FORGET, [self._key], [name]))

    def _call(self, script: Script, keys: Sequence[str], args: Sequence[str | int] = ()) -> Any:
        return self._connections.call(script.call(keys, args))
