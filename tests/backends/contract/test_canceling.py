"""The contract of every store: canceling a task that waits, or that a worker has."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from alligator.backends.base import Canceled, Client, Lease, Limit, Message, Outcome
from alligator.backends.unique import Unique
from tests.harness.contract import (
    AT_ONCE,
    HOUR,
    Connect,
    balance,
    drain,
    ids,
    push,
    take,
)

VERDICTS = ["ack", "retry", "release", "dead", "expired"]


def outcome(verdict: str, lease: Lease) -> Outcome:
    return Outcome(verdict, lease, 0.0, None, "why")  # type: ignore[arg-type]


@pytest.mark.parametrize("delay", [0.0, HOUR])
def test_waiting_task_can_be_canceled(client: Client, delay: float) -> None:
    push(client, "a", "b", delay=delay)

    assert client.cancel("mail", "a") == Canceled("data of a", was_leased=False)
    assert client.cancel("mail", "a") is None
    assert client.len("mail") == 1
    stats = client.stats("mail")
    assert stats.canceled == 1
    assert balance(stats)


def test_dead_and_unknown_tasks_cannot_be_canceled(client: Client) -> None:
    push(client, "dead")
    client.dead_letter(take(client), reason="no luck")

    assert client.cancel("mail", "dead") is None
    assert client.cancel("mail", "unknown") is None
    assert client.stats("mail").canceled == 0


def test_leased_task_can_be_canceled(connect: Connect) -> None:
    worker, other = connect(), connect()
    push(worker, "a", "b")
    lease, kept = worker.reserve("mail", limit=2)

    canceled = other.cancel("mail", "a")

    assert canceled == Canceled("data of a", was_leased=True)
    assert other.cancel("mail", "a") is None
    stats = other.stats("mail")
    assert (stats.leased, stats.canceled, stats.ready) == (1, 1, 0)
    assert balance(stats)
    assert worker.canceled([kept, lease]) == [lease]
    assert worker.canceled([]) == worker.canceled([kept]) == []


@pytest.mark.parametrize("verdict", VERDICTS)
def test_late_outcome_of_a_canceled_task_has_no_effect(client: Client, verdict: str) -> None:
    push(client, "a")
    lease = take(client)
    client.cancel("mail", "a")
    before = client.stats("mail")

    client.step((), 0, outcomes=[outcome(verdict, lease)])

    assert client.stats("mail") == before
    assert drain(client) == []
    assert client.dead_letters("mail") == []
    assert client.extend([lease]) == [lease]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_late_outcome_does_not_touch_a_new_task_of_its_id(client: Client, verdict: str) -> None:
    push(client, "a")
    lease = take(client)
    client.cancel("mail", "a")
    push(client, "a")

    client.step((), 0, outcomes=[outcome(verdict, lease)])

    assert drain(client) == ["a"]
    assert client.stats("mail").succeeded == 0
    assert balance(client.stats("mail"))


def test_task_that_is_done_cannot_be_canceled(client: Client) -> None:
    push(client, "a")
    lease = take(client)
    client.ack(lease)

    assert client.cancel("mail", "a") is None
    assert client.canceled([lease]) == []
    assert (client.stats("mail").succeeded, client.stats("mail").canceled) == (1, 0)


def test_task_that_waits_is_canceled_before_a_leased_one_of_its_id(client: Client) -> None:
    push(client, "a")
    old = take(client)
    push(client, "a")

    assert client.cancel("mail", "a") == Canceled("data of a", was_leased=False)
    assert client.canceled([old]) == []
    assert client.cancel("mail", "a") == Canceled("data of a", was_leased=True)
    assert client.canceled([old]) == [old]
    assert balance(client.stats("mail"))


def test_last_of_several_leased_tasks_of_an_id_is_canceled(client: Client) -> None:
    leases = []
    for number in range(3):
        client.push_many([Message("mail", "a", f"data {number}")])
        leases.append(take(client))

    assert client.cancel("mail", "a") == Canceled("data 2", was_leased=True)
    assert client.canceled(leases) == [leases[2]]
    assert client.cancel("mail", "a") == Canceled("data 1", was_leased=True)
    client.ack(leases[0])
    assert client.cancel("mail", "a") is None
    assert (client.stats("mail").succeeded, client.stats("mail").canceled) == (1, 2)
    assert balance(client.stats("mail"))


def test_lease_that_was_given_by_its_id_can_be_canceled(client: Client) -> None:
    push(client, "a", delay=HOUR)
    lease = client.lease("mail", "a")
    assert lease is not None

    assert client.cancel("mail", "a") == Canceled("data of a", was_leased=True)
    assert client.canceled([lease]) == [lease]
    client.release(lease)
    assert client.len("mail") == 0


def test_lease_that_expired_was_not_canceled(client: Client) -> None:
    push(client, "a")
    lease = take(client, lease_for=AT_ONCE)
    again = take(client)

    assert client.extend([lease, again]) == [lease]
    assert client.canceled([lease, again]) == []
    client.cancel("mail", "a")
    assert client.canceled([lease, again]) == [again]


def test_canceled_task_does_not_count_as_lost(client: Client) -> None:
    push(client, "a")
    take(client, lease_for=0.05)
    client.cancel("mail", "a")
    time.sleep(0.1)

    assert drain(client) == []
    assert (client.stats("mail").lost, client.stats("mail").canceled) == (0, 1)


def test_other_tasks_of_the_batch_keep_their_leases(client: Client) -> None:
    push(client, "a", "b", "c")
    leases = client.reserve("mail", limit=3)

    client.cancel("mail", "b")

    assert ids(client.extend(leases)) == ["b"]
    client.step((), 0, outcomes=[Outcome("ack", lease) for lease in leases])
    assert (client.stats("mail").succeeded, client.stats("mail").canceled) == (2, 1)
    assert balance(client.stats("mail"))


@pytest.mark.parametrize("until_start", [False, True])
def test_unique_key_of_a_canceled_lease_is_free(client: Client, until_start: bool) -> None:
    if not client.keeps_keys:
        pytest.skip("the store decides on no keys")
    unique = Unique("key", until_start, HOUR)
    client.push_many([Message("mail", "a", "", unique=unique)])
    lease = take(client)

    client.cancel("mail", "a")

    assert not client.push_many([Message("mail", "b", "", unique=unique)])
    client.ack(lease)
    assert client.push_many([Message("mail", "c", "", unique=unique)])
    assert drain(client) == ["b"]


def test_follow_up_runs_after_a_canceled_lease(client: Client) -> None:
    if not client.keeps_follow_ups:
        pytest.skip("the store does not count the tasks of a commit")
    follow_up = Message("mail", "then", "x", follows=True)
    client.push_many([Message("mail", "a", ""), Message("mail", "b", ""), follow_up])
    a, b = client.reserve("mail", limit=2)
    client.ack(b)

    client.cancel("mail", "a")

    (lease,) = client.reserve("mail", limit=5)
    assert (lease.task_id, lease.data) == ("then", "batch:2,1 x")
    client.ack(a)
    client.ack(lease)
    assert balance(client.stats("mail"))


def test_place_of_a_limit_is_free_after_a_cancel(connect: Connect) -> None:
    client = connect()
    client.limit("mail", Limit(at_once=1))
    push(client, "a", "b")
    take(client)
    other = connect()
    assert not other.reserve("mail")

    client.cancel("mail", "a")

    assert ids(other.reserve("mail")) == ["b"]


def test_cancel_wakes_a_worker_that_waits_for_a_place(connect: Connect) -> None:
    worker, operator = connect(), connect()
    push(operator, *"abcd")
    operator.limit("mail", Limit(at_once=1))
    take(operator)
    took: list[float] = []

    def wait_and_reserve() -> str:
        end = time.monotonic() + 30
        while not (leases := worker.reserve("mail")) and time.monotonic() < end:
            worker.wait(["mail"], 30)
        return leases[0].task_id

    with ThreadPoolExecutor() as pool:
        for task_id, after in pairwise("abcd"):
            found = pool.submit(wait_and_reserve)
            time.sleep(0.1)
            assert not found.done()
            began = time.monotonic()
            operator.cancel("mail", task_id)
            assert found.result(40) == after
            took.append(time.monotonic() - began)

    assert min(took) < 0.8  # other work of the machine can only add to it


def test_many_canceled_leases_are_remembered(client: Client) -> None:
    push(client, *(f"t{number}" for number in range(50)))
    leases = client.reserve("mail", limit=50)
    for lease in leases[:40]:
        client.cancel("mail", lease.task_id)

    assert client.canceled(leases) == list(leases[:40])
    assert client.stats("mail").leased == 10
