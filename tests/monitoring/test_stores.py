"""The stores of several gators."""

from alligator import Gator
from alligator.monitoring.stats import measure
from alligator.monitoring.stores import find_stores


def test_gators_that_share_a_store_are_measured_together() -> None:
    gators = [Gator("locmem://shared-by-two", "mail"), Gator("locmem://shared-by-two", "video")]

    document = measure(gators)

    (store,) = document["stores"]
    assert [queue["name"] for queue in store["queues"]] == ["mail", "video"]


def test_gators_with_unnamed_memory_stores_are_measured_apart() -> None:
    gators = [Gator("locmem://"), Gator("locmem://")]

    document = measure(gators)

    assert len(document["stores"]) == 2


def test_store_is_needed_while_any_of_its_gators_queues_tasks() -> None:
    here = Gator("locmem://needed", is_async=False)
    there = Gator("locmem://needed", is_async=True)

    assert find_stores([here, there])[0].is_needed
    assert not find_stores([here])[0].is_needed
