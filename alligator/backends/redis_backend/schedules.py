"""The schedules in Redis, and the last tick of each."""

from collections.abc import Sequence
from typing import Any, ClassVar

from ..._runtime.ids import new_id
from ..base import Announcement, Message, ScheduleRecord
from ..schedules import UNANNOUNCED_SECONDS, ScheduleStore
from .commits import SIGNS, TASKS
from .connection import Connections
from .outcomes import microseconds, with_keys
from .protocol import Script

ANNOUNCE, SCHEDULES, FORGET = (
    Script(name, "records") for name in ("announce", "schedules", "forget")
)
TICK = Script("tick", *TASKS, "records", "batches", "tick_begin", "push")

MARKER_SECONDS, NO_DEADLINE = 1, 2**53
"""How long the marker of the push is kept, and its deadline. Neither matters here: the record of the
schedule recognises a tick that arrives late or twice."""


class Schedules(ScheduleStore):
    """The part of the client that keeps schedules."""

    remembers_ticks: ClassVar[bool] = True
    _connections: Connections
    _prefix: str

    def announce_schedules(self, schedules: Sequence[Announcement], now: int) -> list[int]:
        args: list[str | int] = [now]
        for name, about, ttl in schedules:
            args += name, about, microseconds(ttl)
        return [int(last) for last in self._run(ANNOUNCE, args)]

    def push_tick(self, name: str, moment: int, message: Message) -> bool:
        queue_name, task_id, data, delay, priority, unique, _, limit_key = message
        when = f"{SIGNS.get(priority, '')}{microseconds(delay)}"
        prefix, marker = self._prefix, f"{self._prefix}{new_id()}:commit"
        keys = [f"{prefix}schedules", marker, marker, f"{prefix}queues", prefix + queue_name]
        args: list[str | int] = [name, moment, microseconds(UNANNOUNCED_SECONDS)]
        args += MARKER_SECONDS, NO_DEADLINE, 0
        args += queue_name, 1, task_id, data, with_keys(when, unique, limit_key)
        return bool(self._connections.call(TICK.call(keys, args)))

    def schedules(self) -> list[ScheduleRecord]:
        reply = self._run(SCHEDULES)
        found = [
            ScheduleRecord(name, about, last, ran, max(0, silent) / 1e6)
            for name, last, ran, silent, about in zip(*[iter(reply)] * 5, strict=True)
        ]
        return sorted(found)

    def forget_schedule(self, name: str) -> bool:
        return bool(self._run(FORGET, [name]))

    def _run(self, script: Script, args: Sequence[str | int] = ()) -> Any:
        return self._connections.call(script.call([f"{self._prefix}schedules"], args))
