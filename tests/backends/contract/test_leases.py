"""The contract of every store: reserving tasks, and leases that expire or are extended."""

import time
from math import inf

import pytest

from alligator.backends.base import (
    Client,
    Outcome,
)
from tests.harness.contract import (
    AT_ONCE,
    HOUR,
    Connect,
    balance,
    becomes,
    drain,
    ids,
    push,
    take,
)

# Reserving.


def test_empty_queue_has_nothing_to_reserve(client: Client) -> None:
    step = client.step(["mail"], 5)

    assert not step.leases
    assert step.pause == inf


def test_lease_hides_the_task_from_others(connect: Connect) -> None:
    one, other = connect(), connect()
    push(one, "a")

    assert ids(one.reserve("mail")) == ["a"]
    assert not other.reserve("mail")


def test_step_reserves_no_more_than_its_limit(client: Client) -> None:
    push(client, "a", "b", "c")

    assert ids(client.reserve("mail", limit=2)) == ["a", "b"]
    assert ids(client.reserve("mail", limit=2)) == ["c"]


def test_limit_of_nothing_reserves_nothing(client: Client) -> None:
    push(client, "a")

    assert not client.step(["mail"], 0).leases
    assert client.stats("mail").ready == 1


def test_first_queue_goes_before_the_next(client: Client) -> None:
    push(client, "a", "b", queue="later")
    push(client, "c", queue="first")

    step = client.step(["first", "later"], 2)

    assert [(lease.queue_name, lease.task_id) for lease in step.leases] == [
        ("first", "c"),
        ("later", "a"),
    ]


def test_other_queues_are_not_reserved_from(client: Client) -> None:
    push(client, "a", queue="other")

    assert not client.step(["mail", "print"], 5).leases


def test_tokens_of_two_leases_of_a_task_differ(client: Client) -> None:
    push(client, "a")

    one = take(client, lease_for=AT_ONCE)
    two = take(client)

    assert one.token != two.token


def test_task_can_be_leased_by_its_id(client: Client) -> None:
    push(client, "a", "b")

    lease = client.lease("mail", "b")

    assert lease is not None
    assert (lease.queue_name, lease.task_id, lease.data) == ("mail", "b", "data of b")
    assert drain(client) == ["a"]
    client.ack(lease)
    assert client.stats("mail").succeeded == 1


def test_scheduled_task_can_be_leased_by_its_id(client: Client) -> None:
    push(client, "a", delay=HOUR)

    lease = client.lease("mail", "a")

    assert lease is not None
    stats = client.stats("mail")
    assert (stats.scheduled, stats.leased) == (0, 1)


def test_task_that_does_not_wait_cannot_be_leased_by_its_id(
    client: Client,
) -> None:
    push(client, "leased", "dead")
    _, dead = client.reserve("mail", limit=2)
    client.dead_letter(dead, reason="no luck")

    assert client.lease("mail", "leased") is None
    assert client.lease("mail", "dead") is None
    assert client.lease("mail", "unknown") is None


# Expired leases.


def test_task_with_an_expired_lease_is_reserved_again(client: Client) -> None:
    push(client, "a")
    take(client, lease_for=AT_ONCE)

    lease = take(client)

    assert (lease.task_id, lease.data, lease.lost) == ("a", "data of a", 1)
    assert client.stats("mail").lost == 1


def test_lease_lasts_as_long_as_it_was_given_for(client: Client) -> None:
    push(client, "long")
    client.reserve("mail", lease_for=HOUR)
    assert HOUR - 60 < client.step(["mail"], 1).pause <= HOUR
    push(client, "short")
    client.reserve("mail", lease_for=0.05)

    assert becomes(lambda: ids(client.reserve("mail")) == ["short"])
    assert not client.reserve("mail")


def test_task_that_was_lost_too_often_is_dead(client: Client) -> None:
    push(client, "a")

    found = [client.step(["mail"], 1, lease_for=AT_ONCE, max_lost=3).leases for _ in range(4)]

    assert [[lease.lost for lease in leases] for leases in found] == [[0], [1], [2], []]
    (letter,) = client.dead_letters("mail")
    assert (letter.task_id, letter.data) == ("a", "data of a")
    assert "lost 3 times" in letter.reason
    stats = client.stats("mail")
    assert (stats.dead, stats.lost) == (1, 3)
    assert balance(stats)


def test_leases_of_other_queues_are_not_reclaimed(client: Client) -> None:
    push(client, "a")
    take(client, lease_for=AT_ONCE)

    client.step(["print"], 1)

    assert client.stats("mail").leased == 1


def test_late_ack_counts(client: Client) -> None:
    push(client, "a")
    late = take(client, lease_for=AT_ONCE)
    client.step(["mail", "print"], 1, lease_for=HOUR)

    client.ack(late)

    stats = client.stats("mail")
    assert (stats.succeeded, stats.leased, stats.ready) == (1, 0, 0)
    assert balance(stats)


def test_task_that_two_workers_have_run_counts_once(client: Client) -> None:
    push(client, "a")
    late = take(client, lease_for=AT_ONCE)
    current = take(client)

    client.ack(late)
    client.ack(current)

    stats = client.stats("mail")
    assert stats.succeeded == 1
    assert balance(stats)


@pytest.mark.parametrize("state", ["ready", "scheduled", "dead"])
def test_late_ack_removes_its_task_in_any_state(client: Client, state: str) -> None:
    push(client, "a")
    late = take(client, lease_for=AT_ONCE)
    current = take(client)
    if state == "dead":
        client.dead_letter(current, reason="no luck")
    else:
        client.nack(current, delay=HOUR if state == "scheduled" else 0)

    client.ack(late)

    stats = client.stats("mail")
    assert (stats.succeeded, getattr(stats, state)) == (1, 0)
    assert balance(stats)


@pytest.mark.parametrize("verdict", ["retry", "release", "dead"])
def test_outdated_lease_cannot_move_its_task(client: Client, verdict: str) -> None:
    push(client, "a")
    late = take(client, lease_for=AT_ONCE)
    current = take(client)

    client.step((), 0, outcomes=[Outcome(verdict, late, 0.0, "other")])  # type: ignore[arg-type]

    stats = client.stats("mail")
    assert (stats.leased, stats.ready, stats.dead, stats.retried) == (1, 0, 0, 0)
    client.nack(current)
    assert take(client).data == "data of a"


@pytest.mark.parametrize("verdict", ["retry", "release", "dead"])
def test_expired_lease_that_was_not_reclaimed_moves_its_task(client: Client, verdict: str) -> None:
    push(client, "a")
    lease = take(client, lease_for=AT_ONCE)

    client.step((), 0, outcomes=[Outcome(verdict, lease)])  # type: ignore[arg-type]

    stats = client.stats("mail")
    assert (stats.leased, stats.lost) == (0, 0)
    assert stats.dead == (verdict == "dead")


def test_lease_can_be_extended(client: Client) -> None:
    push(client, "a")
    lease = take(client, lease_for=1.0)

    lost = client.extend([lease], HOUR)

    time.sleep(1.1)
    assert not lost
    assert not client.reserve("mail")


def test_extend_returns_the_lost_leases(client: Client) -> None:
    push(client, "a", "b", "c")
    done, passed_on, held = (take(client, lease_for=t) for t in (HOUR, AT_ONCE, HOUR))
    client.ack(done)
    take(client)

    lost = client.extend([done, passed_on, held], HOUR)

    assert lost == [done, passed_on]


def test_outdated_lease_is_lost_also_beside_the_new_one_of_its_task(client: Client) -> None:
    push(client, "a")
    outdated, new = take(client, lease_for=AT_ONCE), take(client)

    assert client.extend([outdated, new], HOUR) == [outdated]


def test_extend_of_nothing_loses_nothing(client: Client) -> None:
    assert client.extend([]) == []


def test_released_scheduled_task_is_due_as_before(client: Client) -> None:
    push(client, "a", delay=HOUR)
    lease = client.lease("mail", "a")
    assert lease is not None

    client.release(lease)

    (found,) = client.scheduled("mail")
    assert HOUR - 60 < found.due_in <= HOUR
    assert client.stats("mail").ready == 0
