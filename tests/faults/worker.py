"""A worker with short leases: ``python -m tests.faults.worker``.

The environment names the store, the seconds of a lease, and after how many seconds a task is dead
that no worker can run. `ISOLATE` runs each task in another process, `PLACES` so many tasks at once.
"""

import os
import sys

from alligator import Gator, Worker
from alligator.constants import UNRUNNABLE_SECONDS
from tests.faults import clock

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
    clock.install()
    sys.exit(worker.run_forever())
