"""The contract of every store: limits of queues."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from alligator.backends.base import Client, Lease, Limit, Message, Outcome, Verdict
from tests.harness.contract import (
    AT_ONCE,
    HOUR,
    Connect,
    balance,
    ids,
    push,
    take,
)
from tests.harness.cpu_time import process_rests

ONE = Limit(at_once=1)
TWO = Limit(at_once=2)
TWO_AN_HOUR = Limit(starts=2, seconds=HOUR)
OUTCOMES: list[Verdict] = ["ack", "retry", "release", "dead", "expired"]


def step_often(client: Client, *queues: str, times: int = 5) -> list[str]:
    """Reserve with several steps, and return the ids in order."""
    names = queues or ("mail",)
    return [each for _ in range(times) for each in ids(client.step(names, 10).leases)]


def test_no_more_tasks_run_at_once_than_the_limit(client: Client) -> None:
    push(client, *"abcd")

    client.limit("mail", TWO)

    assert step_often(client) == ["a", "b"]
    assert client.stats("mail").leased == 2


def test_limit_holds_for_all_clients(connect: Connect) -> None:
    one, other = connect(), connect()
    push(one, *"abc")

    one.limit("mail", TWO)

    assert step_often(other, times=1) == ["a"]
    assert step_often(one) == ["b"]
    assert step_often(other) == []
    one.close()
    assert connect().stats("mail").limit == TWO


@pytest.mark.parametrize("verdict", OUTCOMES)
def test_every_outcome_frees_a_place(client: Client, verdict: Verdict) -> None:
    push(client, "a", "b")
    client.limit("mail", ONE)
    lease = take(client)
    assert step_often(client) == []

    delay = HOUR if verdict in ("retry", "release") else 0.0
    step = client.step(["mail"], 5, outcomes=[Outcome(verdict, lease, delay)])

    assert ids(step.leases) == ["b"]
    assert balance(client.stats("mail"))


def test_place_of_a_lost_worker_is_free_when_its_lease_ends(client: Client) -> None:
    push(client, "a", "b")
    client.limit("mail", ONE)
    take(client, lease_for=AT_ONCE)

    assert len(step_often(client)) == 1
    assert client.stats("mail").leased == 1


def test_heartbeat_keeps_the_place(client: Client) -> None:
    push(client, "a", "b")
    client.limit("mail", ONE)
    lease = take(client, lease_for=1)

    assert client.extend([lease], HOUR) == []

    assert HOUR - 60 < client.step(["mail"], 1).pause <= HOUR


def test_late_ack_frees_the_place_of_the_new_run(client: Client) -> None:
    push(client, "a")
    client.limit("mail", ONE)
    late = take(client, lease_for=AT_ONCE)
    assert step_often(client) == ["a"]
    push(client, "b")
    assert step_often(client) == []

    client.ack(late)

    assert step_often(client) == ["b"]


def test_step_reserves_one_task_of_a_limited_queue(client: Client) -> None:
    push(client, *"abcd")
    push(client, *"xyz", queue="print")
    client.limit("mail", Limit(at_once=3))

    assert ids(client.step(["mail", "print"], 3).leases) == ["a", "x", "y"]
    assert ids(client.step(["print", "mail"], 3).leases) == ["z", "b"]


def test_other_queues_are_served_while_a_limit_is_reached(client: Client) -> None:
    push(client, "a", "b")
    push(client, "x", "y", queue="print")
    client.limit("mail", ONE)
    take(client)

    assert ids(client.step(["mail", "print"], 5).leases) == ["x", "y"]


def test_no_more_tasks_begin_than_the_limit(client: Client) -> None:
    push(client, *"abcd")
    client.limit("mail", TWO_AN_HOUR)

    for task_id in "ab":
        lease = take(client)
        assert lease.task_id == task_id
        client.ack(lease)

    step = client.step(["mail"], 1)
    assert not step.leases
    assert HOUR - 60 < step.pause <= HOUR


def test_task_that_begins_again_counts_again(client: Client) -> None:
    push(client, "a", "b")
    client.limit("mail", TWO_AN_HOUR)

    client.nack(take(client))
    client.release(take(client))

    assert step_often(client) == []


def test_start_is_free_when_its_time_is_over(client: Client) -> None:
    push(client, *"abcdef")
    client.limit("mail", Limit(starts=2, seconds=0.5))
    asked: list[float] = []
    replied: list[float] = []

    while True:
        now = time.monotonic()
        step = client.step(["mail"], 5)
        asked += [now for _ in step.leases]
        replied += [time.monotonic() for _ in step.leases]
        if len(asked) == 6:
            break
        client.wait(["mail"], min(step.pause, 5))

    # Each task has begun between the two.
    spans = [end - start for start, end in zip(asked, replied[2:], strict=False)]
    assert min(spans) >= 0.5


def test_both_limits_apply(client: Client) -> None:
    push(client, *"abcd")
    client.limit("mail", Limit(at_once=1, starts=2, seconds=HOUR))

    lease = take(client)
    assert step_often(client) == []
    client.ack(lease)
    client.ack(take(client))
    assert step_often(client) == []


def test_limit_is_changed_while_tasks_run(client: Client) -> None:
    push(client, *"abcd")
    client.limit("mail", Limit(at_once=3))
    assert step_often(client) == ["a", "b", "c"]

    client.limit("mail", ONE)
    assert step_often(client) == []
    client.limit("mail", Limit(at_once=4))
    assert step_often(client) == ["d"]


def test_new_limit_counts_the_starts_before(client: Client) -> None:
    push(client, *"abcdef")
    client.limit("mail", TWO_AN_HOUR)
    assert step_often(client) == ["a", "b"]

    client.limit("mail", Limit(starts=1, seconds=HOUR))
    assert step_often(client) == []
    client.limit("mail", Limit(starts=3, seconds=HOUR))
    assert step_often(client) == ["c"]


def test_removed_limit_forgets_its_starts(client: Client) -> None:
    push(client, *"abcdef")
    client.limit("mail", TWO_AN_HOUR)
    assert step_often(client) == ["a", "b"]

    client.limit("mail", None)
    assert ids(client.step(["mail"], 2).leases) == ["c", "d"]
    client.limit("mail", TWO_AN_HOUR)
    assert step_often(client) == ["e", "f"]


def test_queue_without_a_limit_can_be_unlimited(client: Client) -> None:
    push(client, "a", "b")

    client.limit("mail", None)

    assert ids(client.step(["mail"], 5).leases) == ["a", "b"]


def test_queue_is_known_from_its_limit_on(client: Client) -> None:
    client.limit("mail", TWO)

    assert client.queue_names() == ["mail"]
    assert client.stats_of(["mail", "print"])[0].limit == TWO


@pytest.mark.parametrize("limit", [TWO, TWO_AN_HOUR, Limit(2, 100, 60.0)])
def test_stats_tell_how_many_tasks_wait_for_a_limit(client: Client, limit: Limit) -> None:
    push(client, *"abcde")
    push(client, "later", delay=HOUR)
    assert client.stats("mail").limit is None
    client.limit("mail", limit)
    assert (client.stats("mail").limit, client.stats("mail").limited) == (limit, 0)

    take(client)
    assert client.stats("mail").limited == 0
    take(client)
    assert client.stats("mail").limited == 3
    client.limit("mail", None)
    assert (client.stats("mail").limit, client.stats("mail").limited) == (None, 0)


def test_task_is_leased_by_its_id_in_spite_of_a_limit(client: Client) -> None:
    push(client, *"abc")
    client.limit("mail", Limit(1, 2, HOUR))

    lease = client.lease("mail", "c")

    assert lease is not None
    assert step_often(client) == []  # its lease is a place, and no start
    client.ack(lease)
    client.ack(take(client))
    client.ack(take(client))


def test_pause_of_a_limited_queue_holds(client: Client) -> None:
    push(client, "a")
    client.limit("mail", TWO)
    client.pause("mail", float("inf"))

    assert step_often(client) == []
    client.pause("mail", 0)
    assert step_often(client) == ["a"]


def test_suspect_of_a_limited_queue_is_leased_alone(client: Client) -> None:
    push(client, "lost")
    take(client, lease_for=AT_ONCE)
    client.limit("mail", TWO)
    push(client, "x", queue="print")

    assert ids(client.step(["mail", "print"], 5).leases) == ["lost"]
    assert ids(client.step(["mail", "print"], 5).leases) == ["x"]


def test_suspect_that_waits_for_a_limit_holds_up_no_other_queue(client: Client) -> None:
    push(client, "lost", "a")
    client.limit("mail", ONE)
    take(client, lease_for=AT_ONCE)
    lost = client.step(["mail"], 1)
    push(client, "x", "y", queue="print")

    assert len(lost.leases) == 1
    assert ids(client.step(["mail", "print"], 5).leases) == ["x", "y"]


def test_highest_priority_goes_first_in_a_limited_queue(client: Client) -> None:
    client.push_many([Message("mail", f"{n}", "", 0.0, n) for n in (0, -1, 1)])
    client.limit("mail", Limit(3))

    assert step_often(client) == ["1", "0", "-1"]


def wait_and_reserve(client: Client, seconds: float) -> Lease:
    """Reserve as a worker does, without polling."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        step = client.step(["mail"], 1)
        if step.leases:
            return step.leases[0]
        client.wait(["mail"], min(step.pause, max(0.001, end - time.monotonic())))
    raise TimeoutError


@pytest.mark.parametrize("verdict", OUTCOMES)
def test_free_place_wakes_a_worker_that_waits(connect: Connect, verdict: Verdict) -> None:
    worker, busy = connect(), connect()
    push(busy, *"abcd")
    busy.limit("mail", ONE)
    lease = take(busy)
    delay = HOUR if verdict in ("retry", "release") else 0.0
    took: list[float] = []

    with ThreadPoolExecutor() as pool:
        for task_id in "bcd":
            found = pool.submit(wait_and_reserve, worker, 30)
            time.sleep(0.1)
            assert not found.done()
            ended = time.monotonic()
            busy.step((), 0, outcomes=[Outcome(verdict, lease, delay)])
            lease = found.result(30)
            took.append(time.monotonic() - ended)
            assert lease.task_id == task_id

    assert min(took) < 0.8  # other work of the machine can only add to it


def test_higher_limit_wakes_as_many_workers_as_it_has_places(connect: Connect) -> None:
    operator = connect()
    push(operator, *"abcd")
    operator.limit("mail", ONE)
    take(operator)

    with ThreadPoolExecutor() as pool:
        found = [pool.submit(wait_and_reserve, connect(), 30) for _ in range(3)]
        time.sleep(0.2)
        operator.limit("mail", Limit(at_once=4))
        assert sorted(each.result(30).task_id for each in found) == ["b", "c", "d"]


def test_removed_limit_wakes_a_worker_that_waits(connect: Connect) -> None:
    worker, operator = connect(), connect()
    push(operator, *"abc")
    operator.limit("mail", TWO_AN_HOUR)
    step_often(operator)

    with ThreadPoolExecutor() as pool:
        found = pool.submit(wait_and_reserve, worker, 30)
        time.sleep(0.2)
        operator.limit("mail", None)
        assert found.result(30).task_id == "c"


def test_limits_hold_while_many_clients_reserve(connect: Connect) -> None:
    operator = connect()
    push(operator, *(f"t{n}" for n in range(60)))
    operator.limit("mail", Limit(3, 40, HOUR))
    most: list[int] = []

    def work() -> int:
        client, done = connect(), 0
        while (step := client.step(["mail"], 5)).leases or operator.stats("mail").leased:
            most.append(operator.stats("mail").leased)
            for lease in step.leases:
                client.ack(lease)
                done += 1
        return done

    with ThreadPoolExecutor() as pool:
        counts = [each.result(60) for each in [pool.submit(work) for _ in range(6)]]

    assert sum(counts) == 40
    assert max(most) <= 3
    assert operator.stats("mail").ready == 20


@pytest.mark.parametrize("limit", [ONE, Limit(starts=1, seconds=HOUR)])
def test_worker_that_waits_for_a_limit_rests(client: Client, limit: Limit) -> None:
    push(client, "a", "b")
    client.limit("mail", limit)
    take(client)

    with process_rests():
        end = time.monotonic() + 0.6
        while (left := end - time.monotonic()) > 0:
            step = client.step(["mail"], 1)
            assert not step.leases
            client.wait(["mail"], min(step.pause, left))
