"""Where the scans of a step begin, so that dead rows of the tables do not slow it down.

PostgreSQL keeps rows that were deleted for as long as any transaction might see them. While one has
been open for long, every scan from the beginning of a queue passes over all tasks that were removed.
If that becomes slow, the steps begin where the last one has found its first task, and now and then at
the beginning. A task that returns to an earlier place, or whose push took long, then waits a little
longer.
"""

from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import Final, NamedTuple

from ...constants import LEVELS
from .codec import BEGINNING

EARLIEST: Final = -36_524 * 86_400 * 1_000_000
"""The year 1900: before any task is due. See `shift` in the SQL."""

SLOW_SECONDS: Final = 0.005
SLOW_SECONDS_A_TASK: Final = 0.00003
"""The scans of a step are slow if they take longer than the first, and the second for each task."""

SLOW_SCANS: Final = 3
"""How many scans in a row must be slow before anything changes: one is slow on a busy machine, too."""

FULL_EVERY: Final = 1.0
"""The shortest pause, in seconds, between two scans from the beginning, if these are slow."""
FULL_SHARE: Final = 20
"""The pause is also at least this many times as long as the scan takes."""

LATE: Final = 1_000_000
"""How many microseconds after the time in its row a task may become visible, because its transaction
commits late. A scan from the beginning finds tasks that are later. A larger number makes every step pass
over more dead rows."""


class Scan(NamedTuple):
    """Where the scans of one step begin."""

    after: list[int]
    """For each queue and priority, among the tasks that wait, by the times at which they were due."""
    turns: list[int]
    """The same among the lines of limit keys, by the times of their last turns."""
    since: int
    """Among the leases of all queues, and among the lines that have to be placed."""
    is_full: bool


class Marks:
    """What a client remembers from its last steps."""

    def __init__(self) -> None:
        self._after: dict[tuple[str, int], int] = {}
        self._turns: dict[tuple[str, int], int] = {}
        self._since = BEGINNING
        self._full_at = 0.0
        """When the next scan must begin at the beginning; 0 while such scans are fast."""
        self._slow_scans = 0

    def scan(self, queues: Sequence[str]) -> Scan:
        """Return where the next step on *queues* begins."""
        if monotonic() >= self._full_at:
            number = len(LEVELS) * len(queues)
            return Scan([EARLIEST] * number, [BEGINNING] * number, BEGINNING, True)
        after = [self._after.get(part, EARLIEST) for part in _parts(queues)]
        turns = [self._turns.get(part, BEGINNING) for part in _parts(queues)]
        return Scan(after, turns, self._since, False)

    def reset(self) -> None:
        """Begin at the beginning: tasks have returned to their places."""
        self._full_at = 0.0

    def seconds_until_full(self, scan: Scan) -> float:
        """Return for how long one may sleep after *scan* found nothing."""
        return inf if scan.is_full else max(0.0, self._full_at - monotonic())

    def record(
        self,
        queues: Sequence[str],
        scan: Scan,
        found: Sequence[tuple[tuple[str, int], int]],
        *,
        now: int,
        took: float,
        is_complete: bool | None,
        is_reclaimed: bool,
        turns: Sequence[int | None] | None = None,
    ) -> None:
        """Record what a step found: queue and priority, and the time of each task, in order.

        *now* is the server's clock, *took* the seconds of its scans, and *is_complete* tells whether it
        reached the end of every queue (None: it did not look for all tasks of one that is paused or
        has a limit), *is_reclaimed* whether it found all expired leases and changed lines. *turns* are
        where the first line of each part was (None: it did not look).
        """
        if scan.is_full:
            is_slow = took > SLOW_SECONDS + SLOW_SECONDS_A_TASK * len(found)
            self._slow_scans = self._slow_scans + 1 if is_slow else 0
            self._full_at = 0.0
            if self._slow_scans >= SLOW_SCANS:
                self._full_at = monotonic() + max(FULL_EVERY, FULL_SHARE * took)
        if not self._full_at:
            return
        if is_reclaimed:
            self._since = now - LATE
        for part, at in zip(_parts(queues), turns or (), strict=False):
            if at is not None:
                self._turns[part] = at
        if is_complete is None:
            return
        if is_complete:
            self._after.update(dict.fromkeys(_parts(queues), now - LATE))
            return
        if found:
            parts = _parts(queues)
            last, _ = found[-1]
            self._after[last] = min(at for part, at in found if part == last)
            for part in parts[: parts.index(last)]:
                self._after[part] = now - LATE


def _parts(queues: Sequence[str]) -> list[tuple[str, int]]:
    """Return queues and priorities in the order in which a step reserves from them."""
    return [(queue, priority) for queue in queues for priority in LEVELS.values()]
