"""The contract of stores that keep limit keys: the numbers of waiting keys, and their limits."""

import time
from collections.abc import Sequence

import pytest

from alligator.backends.base import Client, KeyStats, Limit, Message
from alligator.backends.limits import EACH, MOST_KEYS, MOST_NAMED
from tests.backends.contract.test_limit_keys import ONE, ONE_AN_HOUR, enqueue
from tests.backends.contract.test_limits import step_often
from tests.harness.contract import HOUR, push, take


@pytest.fixture(autouse=True)
def _keeps_limit_keys(client: Client) -> None:
    if not client.keeps_limit_keys:
        pytest.skip("the store keeps no limit keys")


def of_mail(client: Client) -> KeyStats:
    return client.key_stats(["mail"]).get("mail", KeyStats())


def push_keys(client: Client, keys: Sequence[str]) -> None:
    """Push two tasks of each of these keys."""
    for start in range(0, len(keys), 500):
        some = keys[start : start + 500]
        client.push_many(
            [Message("mail", f"{key} {n}", "", limit_key=key) for key in some for n in range(2)]
        )


def test_queue_without_keys_has_no_stats_of_them(client: Client) -> None:
    push(client, "0", "1")
    client.limit("mail", ONE)

    assert client.key_stats(["mail", "unknown"]) == {}
    assert client.key_stats([]) == {}


def test_keys_with_ready_tasks_wait(client: Client) -> None:
    push(client, "0")
    enqueue(client, "a0", "a1", "b0", "c0")
    enqueue(client, "b1", priority=1)
    enqueue(client, "d0", delay=HOUR)

    assert of_mail(client) == KeyStats(waiting=3, names=[], limits={})
    for task_id in ("b1", "0", "a0", "b0"):
        assert take(client).task_id == task_id
    assert of_mail(client).waiting == 2
    client.drop_all("mail")
    assert of_mail(client).waiting == 0


@pytest.mark.parametrize("limit", [ONE, ONE_AN_HOUR])
def test_keys_whose_limit_is_reached_are_named(client: Client, limit: Limit) -> None:
    enqueue(client, "b0", "b1", "b2", "a0", "a1", "c0", "d0")
    enqueue(client, "c1", delay=HOUR)
    client.limit("mail", limit, EACH)
    client.limit("mail", Limit(at_once=9), "d")
    step_often(client)
    enqueue(client, "d1")

    found = of_mail(client)

    assert (found.waiting, found.limited, list(found.names)) == (3, 2, ["a", "b"])


def test_keys_that_may_begin_again_do_not_wait_for_their_limit(client: Client) -> None:
    enqueue(client, "a0", "a1", "a2")
    client.limit("mail", ONE, "a")
    lease = take(client)
    assert step_often(client) == []
    assert of_mail(client).limited == 1

    client.ack(lease)
    assert step_often(client) == ["a1"]
    client.limit("mail", None, "a")

    assert of_mail(client) == KeyStats(waiting=1, names=[], limits={})


def test_key_that_waits_for_a_start_does_so_until_its_time(client: Client) -> None:
    enqueue(client, "a0", "a1")
    client.limit("mail", Limit(starts=1, seconds=0.5), "a")
    client.ack(take(client))
    assert of_mail(client).limited == 1 or step_often(client) == []
    time.sleep(0.6)

    assert of_mail(client)[:2] == (1, 0)


def test_limits_of_keys_are_counted_and_the_first_are_shown(client: Client) -> None:
    keys = [f"k{n:02}" for n in range(MOST_NAMED + 2)]
    for key in ["!", *keys]:
        client.limit("mail", ONE, key)
    client.limit("mail", Limit(2, 100, 60.0), EACH)

    found = of_mail(client)

    assert found.limits_known == len(keys) + 2
    assert list(found.limits) == [EACH, "!", *keys[: MOST_NAMED - 2]]
    assert (found.limits[EACH], found.limits["k00"]) == (Limit(2, 100, 60.0), ONE)


def test_queues_have_stats_of_their_own_keys(client: Client) -> None:
    enqueue(client, "a0")
    client.limit("print", ONE, "a")

    found = client.key_stats(["print", "all", "mail"])

    assert found == {
        "mail": KeyStats(waiting=1, names=[], limits={}),
        "print": KeyStats(names=[], limits={"a": ONE}, limits_known=1),
    }


def test_key_that_waits_for_its_limit_is_found_among_many(client: Client) -> None:
    enqueue(client, "z0", "z1")
    client.limit("mail", ONE, "z")
    take(client)
    assert step_often(client) == []
    push_keys(client, [f"k{n:04}" for n in range(MOST_KEYS + 100)])

    found = of_mail(client)

    assert (found.waiting, found.limited, list(found.names)) == (MOST_KEYS, 1, ["z"])


def test_many_keys_are_counted_up_to_a_number(client: Client) -> None:
    push_keys(client, [f"k{n:04}" for n in range(MOST_KEYS + 100)])
    client.limit("mail", ONE, EACH)
    while client.step(["mail"], 500).leases:
        pass
    assert step_often(client, times=10) == []  # a step may look at some of the keys only

    found = of_mail(client)

    assert (found.waiting, found.limited) == (MOST_KEYS, MOST_KEYS)
    assert len(found.names) == MOST_NAMED
