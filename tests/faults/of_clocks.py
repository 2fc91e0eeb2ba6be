"""What can happen to the clock: it is put forward and back by an hour."""

from tests.faults import clock
from tests.faults.catalogue import fault
from tests.faults.house import Broken, House

HOUR = 3600.0


@fault("sqlite")
def clock_jumps(house: House) -> None:
    """Put the clock of all processes forward and back by an hour: nothing is lost or waits for long."""
    path = house.folder / "clock"
    clock.put(path, 0)
    house.environ[clock.VARIABLE] = str(path)
    house.web()
    house.worker()
    house.worker()
    # When it goes forward leases end early: that may be a second run, and no loss.
    with house.traffic(2, task="work"):
        for seconds in (HOUR, 0, -HOUR, 0):
            house.pause(0.4, 0.7)
            with house.outage():
                clock.put(path, seconds)
            house.pause(0.4, 0.7)
    house.drain()
    if house.measured is not None and house.measured > 10:
        raise Broken(f"I5: it took {house.measured:.1f} s to recover")
