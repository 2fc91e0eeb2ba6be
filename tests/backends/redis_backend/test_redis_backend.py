"""The Redis client as a whole: clocks, memory, and what it leaves in the server."""

from typing import Any

import pytest

from alligator.backends.base import (
    Announcement,
    Limit,
    Message,
    Outcome,
    WorkerInfo,
)
from alligator.backends.redis_backend import Client
from alligator.backends.unique import Unique
from alligator.exceptions import (
    BackendError,
    BackendUnavailable,
)
from tests.harness.programs import SLACK
from tests.harness.redis_network import (
    ids,
    keys,
    messages,
    undoing,
)
from tests.harness.store_servers import Server

pytestmark = pytest.mark.usefixtures("closed", "note_earlier")


def set_back(client: Client, seconds: float, queue: str = "all") -> None:
    """Leave the data as it is when the server's clock was set back by so many seconds."""
    prefix = "{alligator}:"
    conn: Any = client.conn
    zsets = (f"{prefix}{queue}:due", f"{prefix}{queue}:run", f"{prefix}{queue}:begun")
    for zset in (*zsets, f"{prefix}workers"):
        for member, score in conn.zrange(zset, 0, -1, withscores=True):
            conn.zadd(zset, {member: score + seconds * 1e6})
    for name, record in conn.hgetall(f"{prefix}schedules").items():
        last, ran, seen, gone, about = record.split(" ", 4)
        times = (str(int(int(time) + seconds * 1e6)) for time in (seen, gone))
        conn.hset(f"{prefix}schedules", name, " ".join([last, ran, *times, about]))
    conn.hincrbyfloat(f"{prefix}clock", "now", seconds * 1e6)


def test_clock_that_is_set_back_keeps_no_removed_schedule(client: Client) -> None:
    worker = WorkerInfo("w", ["all"])
    client.beat(worker, 60)
    client.announce_schedules([Announcement("nightly", "{}", 3600.0)], 1)
    set_back(client, 7200)

    client.beat(worker, 60)
    set_back(client, -1801)  # half an hour later

    [schedule] = client.schedules()
    assert 1800 < schedule.seen_ago < 1801 + SLACK
    set_back(client, -1800)
    assert not client.schedules()


def test_clock_that_is_set_back_delays_no_task(client: Client) -> None:
    worker = WorkerInfo("w", ["all"])
    client.push_many([Message("all", "ready", "{}"), Message("all", "later", "{}", 3600.0)])
    client.push_many(messages("leased"))
    client.beat(worker, 60)
    leased = client.lease("all", "leased", 30.0)
    assert leased is not None
    set_back(client, 7200)
    assert client.stats("all").ready == 0, "as seen without the repair"

    client.beat(worker, 60)

    stats = client.stats("all")
    assert (stats.ready, stats.scheduled, stats.leased) == (1, 1, 1)
    assert 0 <= stats.oldest < SLACK
    assert 3600 - SLACK < client.scheduled("all")[0].due_in <= 3600
    assert ids(client.reserve("all", limit=9)) == ["ready"]
    assert client.extend([leased]) == []
    assert [each.name for each in client.workers()] == ["w"]
    assert any("set back by 7200 s" in warning for warning in client.warnings())


def test_clock_that_is_set_back_lengthens_the_time_of_no_limit(client: Client) -> None:
    worker = WorkerInfo("w", ["all"])
    client.push_many(messages("a", "b"))
    client.limit("all", Limit(starts=1, seconds=3600.0))
    client.beat(worker, 60)
    assert ids(client.reserve("all", lease_for=14_400)) == ["a"]
    set_back(client, 7200)

    client.beat(worker, 60)

    assert not client.reserve("all")
    assert 3600 - SLACK < client.step(["all"], 1).pause < 3600 + SLACK
    set_back(client, -3601)  # an hour later
    assert ids(client.reserve("all")) == ["b"]


def test_clock_that_runs_forward_is_left_alone(client: Client) -> None:
    for _ in range(3):
        client.beat(WorkerInfo("w", ["all"]), 60)

    assert not any("clock" in warning for warning in client.warnings())


def test_ping_leaves_nothing_behind(server: Server, client: Client) -> None:
    client.ping()

    assert client.conn.keys("*") == []


def test_server_out_of_memory_rejects_pushes_and_lets_workers_continue(client: Client) -> None:
    client.push_many(messages(*"abcdefg"), commit_id="before")
    client.step(["all"], 1, lease_for=0.0)
    client.conn.config_set("maxmemory", 1)
    before = keys(client)

    with pytest.raises(BackendError, match="out of memory") as raised:
        client.push_many(messages("h"), commit_id="after")
    assert not isinstance(raised.value, BackendUnavailable)
    assert keys(client) == before
    assert not undoing()

    b, c, d, e, f = client.step(["all"], 5).leases
    client.ack(b)
    client.nack(c, delay=60, data="{longer}")
    client.dead_letter(d, reason="no")
    client.release(e)
    assert client.extend([f]) == []
    client.retry_dead("all", "d")
    assert client.lease("all", "a")
    client.beat(WorkerInfo(name="w"), 60)
    client.abort("after", messages("h"))
    client.abort("before", messages("g"))
    assert client.cancel("all", "d") == ("{}", False)
    client.drop_all("all")
    stats = client.stats("all")
    assert (stats.pushed, stats.succeeded, stats.leased) == (6, 1, 2)


def test_finished_task_leaves_no_keys(client: Client) -> None:
    for n in range(20):
        client.push_many(messages(f"{n}.ok", f"{n}.retried", f"{n}.dead", f"{n}.lost"))
        ok, retried, dead, _ = client.step(["all"], 4, lease_for=0.0).leases
        lost = client.step(["all"], 1).leases
        client.step(
            ["all"],
            0,
            outcomes=[
                Outcome("ack", ok),
                Outcome("retry", retried),
                Outcome("dead", dead, reason="no"),
            ],
        )
        client.drop_dead("all", dead.task_id)
        leases = [*lost]
        while found := client.step(["all"], 9).leases:
            leases += found
        client.step(["all"], 9, outcomes=[Outcome("ack", lease) for lease in leases])

    left = {key for key in keys(client) if not key.endswith(":commit")}
    assert left <= {"queues", "all:cnt"}
    assert len(keys(client) - left) == 1  # the next push takes it away
    stats = client.stats("all")
    assert stats.pushed == stats.succeeded + stats.dropped == 80


def test_commands_do_not_grow_with_the_backlog(client: Client) -> None:
    client.conn.config_resetstat()
    client.push_many(messages(*(str(n) for n in range(500))))
    leases = client.step(["all", "other"], 10, lease_for=0.0).leases
    client.step(["all"], 10, outcomes=[Outcome("ack", leases[0]), Outcome("retry", leases[1])])
    client.extend(leases)
    client.cancel("all", "400")
    client.stats("all")
    client.note({"all": {"run:1": 1}}, ["all"])
    client.figures("all")
    client.history("all")
    client.len("all")
    client.workers()

    used = {name.removeprefix("cmdstat_") for name in client.conn.info("commandstats")}

    assert {name for name in used if not name.startswith(("config", "client"))} <= {
        *("eval", "evalsha", "time", "set", "get", "del", "exists", "rpush"),
        *("hset", "hsetnx", "hget", "hmget", "hdel", "hexists", "hincrby", "sadd"),
        *("zadd", "zrem", "zcard", "zcount", "zscore"),
        # with a limit
        *("zrange", "zrangebyscore", "zrevrangebyscore", "zremrangebyrank"),
        # of a hash that has its size, whatever the backlog's
        *("hgetall", "hvals"),
    }


def test_unique_keys_leave_nothing_behind(client: Client) -> None:
    def push(kind: int, seconds: float) -> None:
        for name in ("ack", "dead", "cancel", "drop", "abort"):
            key = Unique(f"{name}{kind}", until_start=bool(kind % 2), seconds=seconds)
            client.push_many([Message(name, "a", "{}", 0.0, 0, key)], commit_id=name + str(kind))
        client.ack(client.reserve("ack")[0])
        client.dead_letter(client.reserve("dead")[0], reason="no luck")
        client.drop_dead("dead", "a")
        client.cancel("cancel", "a")
        client.drop_all("drop")
        client.abort(f"abort{kind}", [Message("abort", "a", "{}")])

    for kind, seconds in enumerate((0.0, 0.0, 3600.0, 3600.0)):
        push(kind, seconds)

    conn: Any = client.conn
    kept = [key for part in ("own", "uniq", "cool") for key in conn.keys(f"*:{part}*")]
    assert sorted(kept) == [f"{{alligator}}:ack:cool\x1f{key}" for key in ("ack2", "ack3")]
    assert all(3_500_000 < conn.pttl(key) <= 3_600_000 for key in kept)


def test_batches_leave_nothing_behind(client: Client) -> None:
    for name in ("ack", "dead", "cancel", "drop", "abort"):
        messages = [Message(name, "a", "{}"), Message(name, "f", "{}", 0.0, 0, None, True)]
        client.push_many(messages, commit_id=name)
    client.ack(client.reserve("ack")[0])
    client.dead_letter(client.reserve("dead")[0], reason="no luck")
    client.cancel("cancel", "a")
    client.drop_all("drop")
    client.abort("abort", messages)

    conn: Any = client.conn
    kept = [key for part in ("then", "batch") for key in conn.keys(f"*:{part}*")]
    assert len(kept) == 8  # two for each commit, for an abort that may come later
    assert all(290_000 < conn.pttl(key) <= 300_000 for key in kept)
