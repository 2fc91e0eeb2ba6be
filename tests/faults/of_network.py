"""What can happen between a client and its Redis at any moment: cuts, stalls, delays."""

from tests.faults.catalogue import fault
from tests.faults.house import Broken, House
from tests.faults.proxy import Mishap, Proxy

REDIS = ("redis",)


@fault(*REDIS)
def network_cuts(house: House) -> None:
    """Cut all connections of web server and workers at random moments, while clients ask."""
    with Proxy(house.valkey.server) as proxy:
        house.dsn = proxy.dsn
        house.lossy = True
        house.web()
        house.worker()
        house.worker()
        with house.traffic(task="work"):
            for _ in range(40):
                house.pause(0.01, 0.1)
                with house.outage():
                    for _ in range(2):
                        proxy.mishaps.append(Mishap.somewhere(house.random))
                    proxy.cut_all()
            proxy.mishaps.clear()
        house.drain()


@fault(*REDIS)
def network_delays(house: House) -> None:
    """Delay each piece that travels, by up to a tenth of a second."""
    with Proxy(house.valkey.server, house.random) as proxy:
        house.dsn = proxy.dsn
        proxy.delay = 0.1
        house.web()
        house.worker()
        house.worker()
        with house.traffic():
            house.strikes += 1
            house.pause(2, 3)
        house.mark()
        house.drain()
    statuses = {each.status for each in house.books.answers}
    if not statuses <= {201, 500}:
        raise Broken(f"clients were answered {statuses}")


@fault(*REDIS)
def network_stalls(house: House) -> None:
    """Hold back all that travels for longer than a commit may take, and deliver it then."""
    with Proxy(house.valkey.server) as proxy:
        house.dsn = proxy.dsn
        house.web()
        house.worker()
        with house.traffic():
            for _ in range(2):
                house.pause(0.2, 0.4)
                with house.outage(), proxy.stall():
                    house.pause(2.5, 3)
                house.is_well()
        house.drain()
