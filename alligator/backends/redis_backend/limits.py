"""Pauses and limits of queues in Redis, and limits of keys."""

from collections.abc import Sequence
from math import inf
from typing import Any

from ...constants import MAX_TASKS
from ..base import KeyStats, Limit
from ..limits import EACH, MOST_KEYS, MOST_NAMED, LimitStore
from .commits import LINES
from .connection import Connections
from .outcomes import microseconds, pack_limit
from .protocol import Script
from .replies import read_key_limits, read_key_stats

PAUSE, LIMIT, LIMIT_KEY, REOPEN, KEY_STATS = (
    Script(name, *LINES) for name in ("pause", "limit", "limit_key", "reopen", "key_stats")
)


class Limits(LimitStore):
    """The part of the client that holds tasks back."""

    _connections: Connections
    _prefix: str

    def pause(self, queue_name: str, seconds: float) -> None:
        span = -1 if seconds == inf else microseconds(seconds)
        self._apply(PAUSE, self._keys(queue_name), [span, queue_name])

    def limit(self, queue_name: str, limit: Limit | None, limit_key: str | None = None) -> None:
        keys, packed = self._keys(queue_name), pack_limit(limit)
        if limit_key is None:
            self._apply(LIMIT, keys, [packed, queue_name])
            return
        self._apply(LIMIT_KEY, keys, [limit_key, packed, queue_name])
        looked, more = 0, limit_key == EACH
        while more:
            more = self._apply(REOPEN, keys[:1], [looked, MAX_TASKS])
            looked += more

    def key_limits(self, queue_name: str) -> dict[str, Limit]:
        cursor, words, key = "0", list[str](), f"{self._prefix}{queue_name}:klim"
        while True:
            cursor, some = self._connections.command("HSCAN", key, cursor, "COUNT", str(MOST_KEYS))
            words += some
            if cursor == "0":
                return read_key_limits(words)

    def key_stats(self, queue_names: Sequence[str]) -> dict[str, KeyStats]:
        keys = [self._prefix + name for name in queue_names]
        replies = self._apply(KEY_STATS, keys, [MOST_KEYS, MOST_NAMED]) if keys else ()
        found = zip(queue_names, map(read_key_stats, replies), strict=True)
        return {name: stats for name, stats in found if any(stats)}

    def _keys(self, queue_name: str) -> list[str]:
        return [self._prefix + queue_name, f"{self._prefix}queues"]

    def _apply(self, script: Script, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        return self._connections.call(script.call(keys, args))
