"""A worker whose leases are short, so that nobody waits a minute: ``python -m tests.faults.worker``.

The store is the one that the environment names, and so are the seconds of a lease.
"""

import os
import sys

from alligator import Gator, Worker
from tests.faults import clock

if __name__ == "__main__":
    lease_for = float(os.environ["LEASE_SECONDS"])
    worker = Worker(Gator.from_env(), lease_for=lease_for, shutdown_timeout=10)
    clock.install()
    sys.exit(worker.run_forever())
