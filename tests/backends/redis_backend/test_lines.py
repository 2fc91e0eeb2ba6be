"""Limit keys in Redis: what lines cost and leave behind, also if the clock is set back."""

from typing import Any

import pytest

from alligator.backends.base import Limit, Message, WorkerInfo
from alligator.backends.limits import EACH
from alligator.backends.redis_backend import Client
from tests.backends.redis_backend.test_access_rights import LEAST_RIGHTS, with_rights
from tests.harness.programs import SLACK
from tests.harness.redis_network import ids, keys
from tests.harness.store_servers import Server

pytestmark = pytest.mark.usefixtures("closed", "note_earlier")

PREFIX = "{alligator}:all"
LIMIT = Limit(at_once=1, starts=1, seconds=3600.0)


def lined(task_id: str, limit_key: str = "", delay: float = 0.0) -> Message:
    name = f"{task_id} {limit_key}" if limit_key else task_id
    return Message("all", name, "{}", delay, limit_key=limit_key or task_id[0])


def commands(client: Client) -> int:
    """Return how many commands the server has executed, those of scripts included."""
    conn: Any = client.conn
    return sum(each["calls"] for each in conn.info("commandstats").values())


def cost(client: Client) -> int:
    """Return how many commands a step takes that reserves one task."""
    before = commands(client)
    assert len(client.step(["all"], 1).leases) == 1
    return commands(client) - before


@pytest.mark.parametrize("limit", [None, Limit(at_once=1)])
def test_step_costs_the_same_with_many_keys(client: Client, limit: Limit | None) -> None:
    client.limit("all", limit, EACH)
    costs = []
    for many in (10, 900):
        for number in "12":
            client.push_many([lined(number, f"key {n} of {many}") for n in range(many)])
        # All lines have had a turn then, and may not begin if there is a limit.
        assert len(client.step(["all"], many).leases) == many
        if limit is not None:
            client.push_many([lined("new", f"one more than {many}")])
        costs.append(cost(client))
        client.drop_all("all")

    assert costs[1] <= costs[0] + 1


def test_keys_that_have_no_tasks_leave_nothing(client: Client) -> None:
    client.limit("all", Limit(starts=100, seconds=0.001), EACH)
    client.push_many([lined(f"{key}{n}") for key in "abc" for n in range(2)])
    client.cancel("all", "c1")
    for _ in range(3):
        for lease in client.reserve("all", limit=9):
            client.ack(lease)

    assert client.len("all") == 0
    left = {name for name in keys(client) if "\x1f" not in name and ":commit" not in name}
    assert left <= {"queues", *(f"all:{name}" for name in ("cnt", "klim", "fade", "wake"))}
    for _ in range(3):  # each start removes those of two others whose time is over
        client.push_many([lined("z")])
        client.ack(client.reserve("all")[0])
    left = {name for name in keys(client) if "\x1f" in name}
    assert left == {"all:begun\x1fz"}


def test_clock_that_is_set_back_delays_no_line(client: Client) -> None:
    conn: Any = client.conn
    worker = WorkerInfo("w", ["all"])
    client.limit("all", LIMIT, "b")
    client.push_many(
        [lined("a0"), lined("a1"), lined("a2", delay=3600.0), lined("b0"), lined("b1")]
    )
    assert ids(client.reserve("all", limit=2, lease_for=14_400)) == ["a0", "b0"]
    client.beat(worker, 60)
    zsets = ("due", "lined", "line\x1fa", "line\x1fb", "run", "turns", "fade", "begun\x1fb")
    for zset in zsets:  # as if the clock had been ahead
        for member, score in conn.zrange(f"{PREFIX}:{zset}", 0, -1, withscores=True):
            conn.zadd(f"{PREFIX}:{zset}", {member: score + 7200e6})
    conn.hincrbyfloat("{alligator}:clock", "now", 7200e6)
    assert client.stats("all").ready == 0, "as seen without the repair"

    client.beat(worker, 60)

    stats = client.stats("all")
    assert (stats.ready, stats.scheduled) == (2, 1)
    assert ids(client.reserve("all", limit=9)) == ["a1"]
    assert 3600 - SLACK < client.step(["all"], 1).pause < 3600 + SLACK or stats.leased


def test_least_rights_suffice_for_keys(server: Server, client: Client) -> None:
    gator = with_rights(server, client, LEAST_RIGHTS)
    gator.limit("all", LIMIT, EACH)
    gator.push_many([lined("a0"), lined("a1"), lined("b0")], commit_id="c")
    gator.abort("c", [lined("b0")])

    [lease] = gator.reserve("all", limit=9)
    gator.ack(lease)

    assert gator.key_limits("all") == {EACH: LIMIT}
    assert gator.len("all") == 1
    assert gator.cancel("all", "a1")
    gator.limit("all", None, EACH)
