"""The limit of a queue in memory, and when its tasks began."""

from collections import deque
from math import inf

from ..base import Limit


class Limiter:
    """Decides whether a task of one queue may begin. *now* is a time of the monotonic clock."""

    def __init__(self, limit: Limit, before: "Limiter | None") -> None:
        self.limit: Limit = limit
        self._begun: deque[float] = deque()
        """When the last tasks began; so many as the limit lets begin within its time."""
        if limit.starts is not None and before is not None:
            self._begun.extend(before._begun)

    def begin(self, now: float) -> None:
        """Record that a task begins."""
        starts = self.limit.starts
        if starts is not None:
            self._begun.append(now)
            while len(self._begun) > starts:
                self._begun.popleft()

    def until(self, leased: int, now: float) -> float:
        """Return until when no task may begin: *now* or earlier if one may; inf until a lease ends."""
        at_once, starts, seconds = self.limit
        if at_once is not None and leased >= at_once:
            return inf
        if starts is None or len(self._begun) < starts:
            return now
        return self._begun[-starts] + seconds
