"""Faults of several Redis servers: failovers and moving slots."""

from tests.faults.catalogue import fault
from tests.faults.harness import Harness


@fault("redis-sentinel")
def master_killed(harness: Harness) -> None:
    """Kill the master for good: its replica is promoted, without the data that it had not received."""
    harness.lossy = True  # for a while no process can undo a push
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic(task="work"):
        harness.pause(0.5, 1)
        with harness.failover():
            harness.valkey.server.kill()
        harness.wait_until_well(30)
        harness.pause(0.5, 1)


@fault("redis-sentinel")
def master_frozen(harness: Harness) -> None:
    """Freeze the master until its replica is promoted, and resume it as a master."""
    harness.lossy = True
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic(task="work"):
        harness.pause(0.5, 1)
        harness.outages += 1  # what it had leased is leased again by the one, and then by the other
        with harness.failover():
            harness.valkey.server.freeze()
        harness.wait_until_well(30)
        harness.valkey.server.thaw()
        harness.pause(1, 1.5)
        harness.wait_until_well()


@fault("redis-cluster")
def slots_moved(harness: Harness) -> None:
    """Move the slot from node to node, key by key and at once: this has no effect."""
    nodes, slot = harness.cluster.nodes, harness.cluster.slot
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic(task="work"):
        for in_one_piece in (False, True, False, True):
            harness.pause(0.3, 0.6)
            harness.injections += 1
            if in_one_piece:
                nodes.move_in_one_piece(slot)
            else:
                nodes.move(slot, 0.0)
            harness.mark()


@fault("redis-cluster")
def slots_moved_slowly(harness: Harness) -> None:
    """Move the slot for longer than a push may take: 503, no loss, and no task runs twice."""
    harness.environ["LEASE_SECONDS"] = "20"  # longer than the move takes
    harness.web()
    harness.worker()
    harness.worker()
    with harness.traffic(task="work"):
        harness.pause(0.3, 0.6)
        harness.injections += 1
        harness.cluster.nodes.move(harness.cluster.slot, 0.4)
        harness.mark()
        harness.wait_until_well()
