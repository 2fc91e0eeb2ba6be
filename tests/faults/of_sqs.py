"""What can happen between clients and SQS, which cannot take back what it was sent."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.catalogue import fault
from tests.faults.house import House
from tests.faults.proxy import Mishap, Proxy


@contextmanager
def through_a_network(house: House) -> Iterator[Proxy]:
    """Let web server and workers reach the store through a network of ours."""
    with Proxy(house.sqs.server) as proxy:
        house.dsn = f"sqs+http://127.0.0.1:{proxy.port}/?poll=0"
        # What was sent and not answered cannot be undone.
        house.lossy = True
        yield proxy


@fault("sqs")
def sqs_stalls(house: House) -> None:
    """Hold back all that travels for longer than a commit may take, and deliver it then."""
    with through_a_network(house) as proxy:
        house.web()
        house.worker()
        house.is_well()
        with house.traffic():
            for _ in range(2):
                house.pause(0.3, 0.5)
                with house.outage(), proxy.stall():
                    house.pause(2.5, 3)
                house.is_well()
        house.drain()


@fault("sqs")
def sqs_cuts(house: House) -> None:
    """Cut all connections at random moments, while clients ask."""
    with through_a_network(house) as proxy:
        house.web()
        house.worker()
        house.worker()
        house.is_well()
        with house.traffic(task="work"):
            for _ in range(15):
                house.pause(0.05, 0.2)
                with house.outage():
                    proxy.mishaps.append(Mishap.somewhere(house.random))
                    proxy.cut_all()
            proxy.mishaps.clear()
            house.is_well()
        house.drain()
