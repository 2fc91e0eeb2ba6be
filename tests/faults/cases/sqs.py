"""Faults between clients and SQS, which cannot undo a push."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.catalogue import fault
from tests.faults.harness import Harness
from tests.faults.proxy import Mishap, Proxy


@contextmanager
def through_a_network(harness: Harness) -> Iterator[Proxy]:
    """Connect web server and workers to the store through a proxy."""
    with Proxy(harness.sqs.server) as proxy:
        harness.dsn = f"sqs+http://127.0.0.1:{proxy.port}/?poll=0"
        # What was sent and not answered cannot be undone.
        harness.lossy = True
        yield proxy


@fault("sqs")
def sqs_stalls(harness: Harness) -> None:
    """Delay all data for longer than a commit may take, and deliver it then."""
    with through_a_network(harness) as proxy:
        harness.web()
        harness.worker()
        harness.wait_until_well()
        with harness.traffic():
            for _ in range(2):
                harness.pause(0.3, 0.5)
                with harness.outage(), proxy.stall():
                    harness.pause(2.5, 3)
                harness.wait_until_well()
        harness.drain()


@fault("sqs")
def sqs_cuts(harness: Harness) -> None:
    """Cut all connections at random moments under load."""
    with through_a_network(harness) as proxy:
        harness.web()
        harness.worker()
        harness.worker()
        harness.wait_until_well()
        with harness.traffic(task="work"):
            for _ in range(15):
                harness.pause(0.05, 0.2)
                with harness.outage():
                    proxy.mishaps.append(Mishap.somewhere(harness.random))
                    proxy.cut_all()
            proxy.mishaps.clear()
            harness.wait_until_well()
        harness.drain()
