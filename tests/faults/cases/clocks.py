"""Faults of the clock: it jumps by an hour."""

from tests.faults import clock
from tests.faults.catalogue import fault
from tests.faults.harness import Broken, Harness

HOUR = 3600.0


@fault("sqlite")
def clock_jumps(harness: Harness) -> None:
    """Move the clock of all processes forward and back by an hour: nothing is lost or delayed."""
    path = harness.folder / "clock"
    clock.put(path, 0)
    harness.environ[clock.VARIABLE] = str(path)
    harness.web()
    harness.worker()
    harness.worker()
    # When it goes forward leases end early: that may be a second run, and no loss.
    with harness.traffic(2, task="work"):
        for seconds in (HOUR, 0, -HOUR, 0):
            harness.pause(0.4, 0.7)
            with harness.outage():
                clock.put(path, seconds)
            harness.pause(0.4, 0.7)
    harness.drain()
    if harness.measured is not None and harness.measured > 10:
        raise Broken(f"I5: it took {harness.measured:.1f} s to recover")
