"""The document for operators."""

from json import dumps, loads

import pytest

from alligator import Gator
from alligator.backends.base import WorkerInfo
from alligator.stats import SCHEMA, measure
from alligator.stores import find_stores
from tests import sample_tasks


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def test_the_states_of_a_queue_are_counted(gator: Gator) -> None:
    gator.task(sample_tasks.add, 1, 2)
    gator.task(sample_tasks.add, 3, 4)
    gator.options(delay_by=60).task(sample_tasks.add, 5, 6)
    gator.client.reserve("all")

    document = measure(gator)

    assert document["schema"] == SCHEMA
    (queue,) = document["stores"][0]["queues"]
    assert (queue["ready"], queue["scheduled"], queue["leased"], queue["dead"]) == (1, 1, 1, 0)
    assert queue["oldest_age"] >= 0
    assert queue["counters"]["pushed"] == 3


def test_queues_that_only_the_store_knows_are_listed_after_the_gators_own(gator: Gator) -> None:
    gator.options(queue_name="a-slow-one").task(sample_tasks.add, 1, 2)

    (store,) = measure(gator)["stores"]

    assert [queue["name"] for queue in store["queues"]] == ["all", "a-slow-one"]


def test_workers_are_shown_with_their_heartbeat(gator: Gator) -> None:
    gator.client.beat(WorkerInfo(name="host:1:ab", queues=["all"], running=["app:send"]), 60)

    (store,) = measure(gator)["stores"]

    (worker,) = store["workers"]
    assert worker["name"] == "host:1:ab"
    assert worker["queues"] == ["all"]
    assert worker["running"] == ["app:send"]
    assert 0 <= worker["seen_ago"] < 10
    assert worker["started"].endswith("Z")


def test_gators_that_share_a_store_are_measured_together() -> None:
    gators = [Gator("locmem://shared-by-two", "mail"), Gator("locmem://shared-by-two", "video")]

    document = measure(gators)

    (store,) = document["stores"]
    assert [queue["name"] for queue in store["queues"]] == ["mail", "video"]


def test_gators_with_a_memory_of_their_own_are_measured_apart() -> None:
    gators = [Gator("locmem://"), Gator("locmem://")]

    document = measure(gators)

    assert len(document["stores"]) == 2


def test_nothing_of_a_task_or_a_dsn_is_in_the_document() -> None:
    gator = Gator("locmem://user:p4ssw0rd@host")
    gator.task(sample_tasks.fail, "a private matter")
    gator.task(sample_tasks.fail, "another one")
    with pytest.raises(RuntimeError):
        gator.pop()

    text = dumps(measure(gator))

    assert loads(text)["stores"][0]["queues"][0]["dead"] == 1
    assert "p4ssw0rd" not in text
    assert "private" not in text
    assert "another" not in text


def test_a_store_is_needed_while_any_of_its_gators_puts_tasks_there() -> None:
    here = Gator("locmem://needed", is_async=False)
    there = Gator("locmem://needed", is_async=True)

    assert find_stores([here, there])[0].is_needed
    assert not find_stores([here])[0].is_needed
