"""The contract of every store: a task that kills its workers harms no other."""

from alligator.backends.base import (
    Client,
)
from tests.harness.contract import (
    AT_ONCE,
    balance,
    ids,
    push,
    take,
)


def test_lost_lease_counts_only_if_it_was_alone(client: Client) -> None:
    push(client, "a", "b", "c")

    client.reserve("mail", limit=3, lease_for=AT_ONCE)
    found = [client.step(["mail"], 5, max_lost=1).leases for _ in range(3)]

    assert [len(leases) for leases in found] == [1, 1, 1]
    assert sorted(lease.task_id for [lease] in found) == ["a", "b", "c"]
    assert [lease.lost for [lease] in found] == [0, 0, 0]
    stats = client.stats("mail")
    assert (stats.dead, stats.lost) == (0, 3)


def test_suspect_that_is_lost_alone_dies_and_the_others_do_not(client: Client) -> None:
    push(client, "poison", "b", "c")
    client.reserve("mail", limit=3, lease_for=AT_ONCE)

    done = set()
    for _ in range(8):
        for lease in client.step(["mail"], 5, lease_for=0.0, max_lost=2).leases:
            if lease.task_id != "poison":
                client.ack(lease)
                done.add(lease.task_id)

    assert done == {"b", "c"}
    (letter,) = client.dead_letters("mail")
    assert (letter.task_id, letter.reason[:12]) == ("poison", "lost 2 times")
    assert balance(client.stats("mail"))


def test_step_stops_before_a_suspect(client: Client) -> None:
    push(client, "first")
    push(client, "suspect", delay=0.0)
    first = take(client)
    take(client, lease_for=AT_ONCE)
    # Back to its place before the suspect, which is reclaimed by the next step.
    client.release(first)
    push(client, "other", queue="print")

    found: list[list[str]] = []
    for _ in range(3):
        step = client.step(["mail", "print"], 5)
        found.append(ids(step.leases))

    assert ["suspect"] in found
    assert sorted(task_id for some in found for task_id in some) == ["first", "other", "suspect"]


def test_suspect_is_leased_alone_across_queues(client: Client) -> None:
    push(client, "suspect", queue="print")
    take(client, "print", lease_for=AT_ONCE)
    push(client, "a", "b")

    assert ids(client.step(["mail", "print"], 5).leases) == ["a", "b"]
    assert ids(client.step(["mail", "print"], 5).leases) == ["suspect"]


def test_suspect_that_was_not_started_remains_a_suspect(client: Client) -> None:
    push(client, "a")
    take(client, lease_for=AT_ONCE)

    client.release(take(client))
    push(client, "b")

    assert len(client.step(["mail"], 5).leases) == 1


def test_dead_task_that_is_retried_is_no_suspect(client: Client) -> None:
    push(client, "a")
    take(client, lease_for=AT_ONCE)
    client.dead_letter(take(client), reason="no luck")
    client.retry_dead("mail", "a")
    push(client, "b")

    leases = client.reserve("mail", limit=5)

    assert sorted((lease.task_id, lease.lost) for lease in leases) == [("a", 0), ("b", 0)]


def test_max_lost_of_zero_allows_one_run(client: Client) -> None:
    push(client, "a")

    assert ids(client.step(["mail"], 1, lease_for=AT_ONCE, max_lost=0).leases) == ["a"]
    assert not client.step(["mail"], 1, max_lost=0).leases
    assert client.stats("mail").dead == 1
