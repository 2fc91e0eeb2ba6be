"""What in the configuration of a Redis server could lose tasks."""

from collections.abc import Mapping

from redis import exceptions as errors

from ...exceptions import BackendError
from .connection import Connections
from .topology import Cluster

CLOCK_WARNING_SECONDS = 86_400.0
"""For how long health reports that the server's clock was set back."""


def configuration_warnings(connections: Connections, clock: str) -> list[str]:
    """Return what could lose tasks, as sentences; *clock* is the key of the last known clock."""
    try:
        lines = connections.command("INFO").splitlines()
    except BackendError as error:
        if isinstance(error.__cause__, errors.NoPermissionError):
            return ["Redis does not let its user see whether it keeps its data: allow INFO"]
        raise
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    found = [
        _persistence(connections, facts),
        _eviction(facts),
        _cluster(connections, facts),
        _replicas(connections, facts),
        _clock(connections, clock),
    ]
    return [warning for warning in found if warning]


def _persistence(connections: Connections, facts: Mapping[str, str]) -> str:
    if facts.get("aof_enabled") == "0":
        return (
            "Redis would forget accepted tasks when it restarts: set appendonly yes, "
            "and appendfsync always (with everysec, two seconds of tasks may be lost)"
        )
    if _appendfsync(connections) == "no":
        return (
            "Redis may lose the tasks of the last 30 seconds when its machine fails: "
            "set appendfsync always (with everysec, two seconds of tasks may be lost)"
        )
    return ""


def _appendfsync(connections: Connections) -> str | None:
    try:
        reply = connections.command("CONFIG", "GET", "appendfsync")
    except BackendError:  # few users may read it, and hosted servers allow it to none
        return None
    return str(reply[1]) if reply else None


def _eviction(facts: Mapping[str, str]) -> str:
    policy = facts.get("maxmemory_policy", "noeviction")
    if facts.get("maxmemory", "0") == "0" or policy == "noeviction":
        return ""
    return (
        f"Redis may delete tasks when its memory is full (maxmemory-policy {policy}): "
        "set maxmemory-policy noeviction"
    )


def _cluster(connections: Connections, facts: Mapping[str, str]) -> str:
    is_node = facts.get("cluster_enabled") == "1"
    if not is_node or isinstance(connections.topology, Cluster):
        return ""
    return (
        "Redis is a node of a cluster: pushes fail once the queue is on another node. "
        "The DSN of a cluster begins with redis+cluster://"
    )


def _replicas(connections: Connections, facts: Mapping[str, str]) -> str:
    if not connections.topology.may_split or "min_slaves_good_slaves" in facts:
        return ""
    return (
        "A master that is cut off would continue to accept tasks, and they would be lost: "
        "set min-replicas-to-write 1 and min-replicas-max-lag 10"
    )


def _clock(connections: Connections, clock: str) -> str:
    words = connections.command("HMGET", clock, "now", "back", "at")
    if None in words or int(words[0]) - int(words[2]) >= CLOCK_WARNING_SECONDS * 1e6:
        return ""
    return (
        f"The clock of Redis was set back by {int(words[1]) / 1e6:.0f} s, less than a day ago: "
        "synchronise the clocks of all its servers (NTP)"
    )
