"""A worker with short leases: ``python -m tests.faults.worker``.

The environment names the store, the seconds of a lease, and after how many seconds a task is dead
that no worker can run. `ISOLATE` runs each task in another process, `PLACES` so many tasks at once.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from time import monotonic

from alligator import Gator, Worker
from alligator.backends.base import Lease
from alligator.constants import UNRUNNABLE_SECONDS
from alligator.execution import lease_ends
from tests.faults import clock


class WatchedLeases(lease_ends.LeaseEnds):
    """Notes beside the ledger when no lease was extended for longer than a lease lasts.

    A process that is killed meanwhile cannot note it. So until when its leases hold is noted, too.
    """

    def __init__(self, lease_for: float) -> None:
        super().__init__(lease_for)
        ledger = Path(os.environ["LEDGER"])
        self._pauses = ledger.with_suffix(".pauses")
        self._end = os.open(ledger.with_suffix(f".{os.getpid()}.end"), os.O_CREAT | os.O_WRONLY)
        self._note_end(lease_ends.clock())

    def _note_end(self, asked: float) -> None:
        self._last = asked
        end = monotonic() + self.end_of(asked) - lease_ends.clock()
        os.pwrite(self._end, f"{end:20.6f}".encode(), 0)

    def note_extension(self, leases: Iterable[Lease], lost: Iterable[Lease], asked: float) -> None:
        """Note an extension, and whether it was late."""
        super().note_extension(leases, lost, asked)
        now = lease_ends.clock()
        if now > self.end_of(self._last):
            end = monotonic()
            line = f"{os.getpid()} {end - (now - self._last):.6f} {end:.6f}\n"
            with self._pauses.open("ab", buffering=0) as file:
                file.write(line.encode())
        self._note_end(asked)


if __name__ == "__main__":
    lease_for = float(os.environ["LEASE_SECONDS"])
    gator = Gator.from_env()
    if os.environ.get("SHOP"):
        from tests.faults import shop

        gator = shop.gator
    if os.environ.get("TIMETABLE"):
        from tests.faults import timetable

        gator = timetable.make()
    worker = Worker(
        gator,
        lease_for=lease_for,
        shutdown_timeout=10,
        isolate=bool(os.environ.get("ISOLATE")),
        concurrency=int(os.environ.get("PLACES", "0")) or None,
        unrunnable_after=float(os.environ.get("UNRUNNABLE_AFTER", UNRUNNABLE_SECONDS)),
    )
    worker.lease_ends = WatchedLeases(lease_for)
    clock.install()
    sys.exit(worker.run_forever())
