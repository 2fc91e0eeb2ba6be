"""A Redis user with few rights (ACL)."""

from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from alligator.backends.base import (
    Announcement,
    Limit,
    Message,
    WorkerInfo,
)
from alligator.backends.redis_backend import Client
from alligator.exceptions import (
    BackendError,
)
from tests.harness.redis_network import (
    messages,
)
from tests.harness.store_servers import Server

pytestmark = pytest.mark.usefixtures("closed", "note_earlier")


LEAST_RIGHTS = (
    "+eval +evalsha +blpop +ping +info +select +time +set +get +del +exists +rpush +sadd +smembers "
    "+hset +hsetnx +hget +hmget +hscan +hdel +hexists +hincrby +zadd +zrem +zscore +zcard +zcount "
    "+zrange +zrevrange +zrangebyscore +zrevrangebyscore +zremrangebyrank"
)

CLUSTER_RIGHTS = "+cluster|slots"


def with_rights(server: Server, admin: Client, rights: str) -> Client:
    """Make a client of a user who may do nothing but that."""
    admin.conn.acl_setuser(
        "gator",
        enabled=True,
        passwords=["+pw"],
        keys=["{alligator}:*"],
        categories=["-@all"],
        commands=rights.split(),
    )
    return Client(server.replace("redis://", "redis://gator:pw@"))


def test_least_rights_suffice(server: Server, client: Client) -> None:
    gator = with_rights(server, client, LEAST_RIGHTS)

    gator.push_many(messages("a", "b", "c"), commit_id="c")
    gator.abort("c", messages("c"))
    a, b = gator.reserve("all", limit=2)
    gator.ack(a)
    gator.dead_letter(b, reason="no")
    gator.beat(WorkerInfo(name="w"), 60)

    gator.limit("all", Limit(2, 10, 60.0))
    gator.push_many(messages("limited"))
    gator.ack(gator.reserve("all")[0])
    gator.limit("all", None)

    gator.push_many([Message("all", f"of a key {n}", "", limit_key="key") for n in range(2)])
    gator.limit("all", Limit(1, 10, 60.0), "*")
    lease = gator.reserve("all")[0]
    assert gator.key_stats(["all"])["all"].limited == 1
    gator.ack(lease)
    gator.limit("all", None, "*")
    gator.ack(gator.reserve("all")[0])

    gator.announce_schedules([Announcement("nightly", "{}", 60)], 1)
    assert gator.push_tick("nightly", 2, messages("tick")[0])
    gator.ack(gator.reserve("all")[0])
    assert [each.name for each in gator.schedules()] == ["nightly"]
    assert gator.forget_schedule("nightly")

    assert gator.dead_letters("all")
    assert gator.retry_dead("all", "b")
    assert gator.workers()
    assert gator.queue_names() == ["all"]
    gator.wait(["all"], 1)
    gator.warnings()


def test_least_rights_give_no_access_to_other_keys(server: Server, client: Client) -> None:
    gator = with_rights(server, client, LEAST_RIGHTS)
    client.conn.set("theirs", "secret")
    neighbour = Client(f"{gator.conn_string}?ns=neighbour")

    with pytest.raises(BackendError, match="ACL"):
        neighbour.push_many(messages("a"))
    with pytest.raises(BackendError, match="ACL"):
        neighbour.reserve("all")
    for read in ("return redis.call('get', 'theirs')", "return redis.call('flushall')"):
        with pytest.raises(ResponseError):
            gator.conn.eval(read, 0)
    with pytest.raises(NoPermissionError):
        gator.conn.get("theirs")

    assert client.conn.get("theirs") == "secret"
    assert {str(key) for key in client.conn.scan_iter()} == {"theirs"}


@pytest.mark.parametrize("rights", [LEAST_RIGHTS, CLUSTER_RIGHTS])
def test_least_rights_are_documented(rights: str) -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "tune-redis.md"

    assert rights in " ".join(page.read_text("utf-8").replace("\\\n", " ").split())


def test_missing_right_is_named(server: Server, client: Client) -> None:
    gator = with_rights(server, client, "+ping +evalsha +eval")

    with pytest.raises(BackendError, match="ACL"):
        gator.push_many(messages("a"))
    assert "INFO" in gator.warnings()[0]
