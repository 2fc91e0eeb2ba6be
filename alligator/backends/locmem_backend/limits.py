"""The limits of a queue in memory and of its keys, and when their tasks began."""

from collections import OrderedDict, deque
from math import inf

from ..base import Limit
from ..limits import EACH, MOST_KEYS


class Limiter:
    """Decides whether a task may begin. *now* is a time of the monotonic clock."""

    __slots__ = ("_begun", "_counts_until", "limit")

    def __init__(self, limit: Limit, before: "Limiter | None") -> None:
        self.limit: Limit = limit
        self._begun: deque[float] = deque()
        """When the last tasks began; so many as the limit lets begin within its time."""
        self._counts_until = -inf
        """Until when the last one counts, by the limit that it had."""
        if limit.starts is not None and before is not None:
            self._begun.extend(before._begun)

    def begin(self, now: float) -> None:
        """Record that a task begins."""
        starts = self.limit.starts
        if starts is not None:
            self._begun.append(now)
            self._counts_until = now + self.limit.seconds
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

    def is_over(self, now: float) -> bool:
        """Return whether its starts count no more."""
        return self._counts_until <= now


class KeyLimits:
    """The limits of the keys of a queue."""

    def __init__(self) -> None:
        self._limits: dict[str, Limit] = {}
        self._leased: dict[str, int] = {}
        self._limiters: OrderedDict[str, Limiter] = OrderedDict()
        """Those of keys whose starts count, those first that were looked at longest ago."""

    def set(self, key: str, limit: Limit | None) -> None:
        """Give a key, or `EACH`, a limit, or none."""
        if limit is None:
            self._limits.pop(key, None)
        else:
            self._limits[key] = limit

    def listed(self) -> dict[str, Limit]:
        """Return the limits, sorted by key."""
        return {key: self._limits[key] for key in sorted(self._limits)[:MOST_KEYS]}

    def lease(self, key: str) -> None:
        """Count a lease of a task of that key."""
        self._leased[key] = self._leased.get(key, 0) + 1

    def end_lease(self, key: str) -> None:
        """Count a lease as ended."""
        left = self._leased.pop(key) - 1
        if left:
            self._leased[key] = left

    def until(self, key: str, now: float) -> float:
        """Return until when no task of *key* may begin, as `Limiter.until` does."""
        limit = self._limit_of(key)
        if limit is None:
            return now
        limiter = self._limiters.get(key)
        if limiter is None:
            at_once = limit.at_once
            return now if at_once is None or self._leased.get(key, 0) < at_once else inf
        limiter.limit = limit
        return limiter.until(self._leased.get(key, 0), now)

    def begin(self, key: str, now: float) -> bool:
        """Record that a task of *key* begins; return whether the key has a limit."""
        limit = self._limit_of(key)
        if limit is not None and limit.starts is not None:
            limiter = self._limiters.get(key)
            if limiter is None:
                self._forget(now)
                limiter = self._limiters[key] = Limiter(limit, None)
            limiter.limit = limit
            limiter.begin(now)
        return limit is not None

    def _forget(self, now: float) -> None:
        """Forget the starts of some keys that count no more: of more keys than are added."""
        for _ in range(min(2, len(self._limiters))):
            key, limiter = self._limiters.popitem(last=False)
            if not limiter.is_over(now):
                self._limiters[key] = limiter

    def _limit_of(self, key: str) -> Limit | None:
        return (self._limits.get(key) or self._limits.get(EACH)) if self._limits else None
