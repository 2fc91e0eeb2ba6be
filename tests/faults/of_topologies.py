"""What can happen to several Redis servers: a master is lost to its replica, a slot moves."""

from tests.faults.catalogue import fault
from tests.faults.house import House


@fault("redis-sentinel")
def master_killed(house: House) -> None:
    """Kill the master for good: its replica takes its place, without what it had not got yet."""
    house.lossy = True  # there is nobody to undo a push for a while
    house.web()
    house.worker()
    house.worker()
    with house.traffic(task="work"):
        house.pause(0.5, 1)
        with house.outage():
            house.valkey.server.kill()
        house.is_well(30)
        house.pause(0.5, 1)


@fault("redis-sentinel")
def master_frozen(house: House) -> None:
    """Freeze the master until its replica has taken its place, and let it wake up as a master."""
    house.lossy = True
    house.web()
    house.worker()
    house.worker()
    with house.traffic(task="work"):
        house.pause(0.5, 1)
        house.strikes += 1
        house.outages += 2  # what it had leased is leased again by the one, and then by the other
        house.valkey.server.freeze()
        house.mark()
        house.is_well(30)
        house.valkey.server.thaw()
        house.pause(1, 1.5)
        house.is_well()


@fault("redis-cluster")
def slots_moved(house: House) -> None:
    """Move the slot from node to node, key by key and in one piece: nobody may notice."""
    nodes, slot = house.cluster.nodes, house.cluster.slot
    house.web()
    house.worker()
    house.worker()
    with house.traffic(task="work"):
        for in_one_piece in (False, True, False, True):
            house.pause(0.3, 0.6)
            house.strikes += 1
            if in_one_piece:
                nodes.move_in_one_piece(slot)
            else:
                nodes.move(slot, 0.0)
            house.mark()


@fault("redis-cluster")
def slots_moved_slowly(house: House) -> None:
    """Move the slot over a time that is longer than a push may take: 503, no loss, no task twice."""
    house.environ["LEASE_SECONDS"] = "20"  # longer than the move takes
    house.web()
    house.worker()
    house.worker()
    with house.traffic(task="work"):
        house.pause(0.3, 0.6)
        house.strikes += 1
        house.cluster.nodes.move(house.cluster.slot, 0.4)
        house.mark()
        house.is_well()
