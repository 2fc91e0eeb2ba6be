"""Faults of the network between clients and Redis: cuts, stalls, delays."""

from tests.faults.catalogue import fault
from tests.faults.harness import Broken, Harness
from tests.faults.proxy import Mishap, Proxy

REDIS = ("redis",)


@fault(*REDIS)
def network_cuts(harness: Harness) -> None:
    """Cut all connections of web server and workers at random moments under load."""
    with Proxy(harness.valkey.server) as proxy:
        harness.dsn = proxy.dsn
        harness.lossy = True
        harness.web()
        harness.worker()
        harness.worker()
        with harness.traffic(task="work"):
            for _ in range(40):
                harness.pause(0.01, 0.1)
                with harness.outage():
                    for _ in range(2):
                        proxy.mishaps.append(Mishap.somewhere(harness.random))
                    proxy.cut_all()
            proxy.mishaps.clear()
        harness.drain()


@fault(*REDIS)
def network_delays(harness: Harness) -> None:
    """Delay each packet by up to a tenth of a second."""
    with Proxy(harness.valkey.server, harness.random) as proxy:
        harness.dsn = proxy.dsn
        proxy.delay = 0.1
        harness.web()
        harness.worker()
        harness.worker()
        with harness.traffic():
            harness.injections += 1
            harness.pause(2, 3)
        harness.mark()
        harness.drain()
    statuses = {each.status for each in harness.audit_log.answers}
    if not statuses <= {201, 500}:
        raise Broken(f"clients were answered {statuses}")


@fault(*REDIS)
def network_stalls(harness: Harness) -> None:
    """Delay all data for longer than a commit may take, and deliver it then."""
    with Proxy(harness.valkey.server) as proxy:
        harness.dsn = proxy.dsn
        harness.web()
        harness.worker()
        with harness.traffic():
            for _ in range(2):
                harness.pause(0.2, 0.4)
                with harness.outage(), proxy.stall():
                    harness.pause(2.5, 3)
                harness.wait_until_well()
        harness.drain()
