"""The contract of every store: pause and resume."""

import time
from concurrent.futures import ThreadPoolExecutor
from math import inf

import pytest

from alligator.backends.base import Client, Outcome
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
from tests.harness.cpu_time import process_rests


def test_paused_queue_gives_no_task_until_it_is_resumed(client: Client) -> None:
    push(client, "a", "b")

    client.pause("mail", inf)

    assert drain(client) == []
    assert client.stats("mail").ready == 2
    client.pause("mail", 0)
    assert drain(client) == ["a", "b"]


def test_pause_holds_for_all_clients(connect: Connect) -> None:
    one, other = connect(), connect()
    push(one, "a")

    one.pause("mail", inf)

    assert drain(other) == []
    one.close()
    assert connect().stats("mail").paused == inf
    other.pause("mail", 0)
    assert drain(one) == ["a"]


def test_pause_ends_by_itself(client: Client) -> None:
    push(client, "a")

    client.pause("mail", 0.05)

    assert becomes(lambda: ids(client.reserve("mail")) == ["a"])
    assert client.stats("mail").paused == 0


def test_stats_tell_when_a_pause_ends(client: Client) -> None:
    push(client, "a")
    assert client.stats("mail").paused == 0

    client.pause("mail", HOUR)
    assert HOUR - 60 < client.stats("mail").paused <= HOUR
    client.pause("mail", inf)
    assert client.stats_of(["mail", "print"])[0].paused == inf
    client.pause("mail", 0)
    assert client.stats("mail").paused == 0


def test_other_queues_of_the_step_are_served(client: Client) -> None:
    push(client, "a")
    push(client, "b", "c", queue="print")
    client.pause("mail", inf)

    step = client.step(["mail", "print"], 5)

    assert ids(step.leases) == ["b", "c"]


def test_queue_is_known_from_its_pause_on(client: Client) -> None:
    client.pause("mail", inf)

    assert client.queue_names() == ["mail"]
    assert client.stats("mail").paused == inf
    client.pause("mail", 0)
    push(client, "a")
    assert drain(client) == ["a"]
    assert balance(client.stats("mail"))


def test_outcomes_and_heartbeats_go_on_during_a_pause(client: Client) -> None:
    push(client, "done", "fails", "runs")
    done, fails, runs = client.reserve("mail", limit=3, lease_for=HOUR)
    client.pause("mail", inf)

    outcomes = [Outcome("ack", done), Outcome("retry", fails)]
    assert not client.step(["mail"], 1, outcomes=outcomes).leases
    assert client.extend([runs], HOUR) == []

    stats = client.stats("mail")
    assert (stats.succeeded, stats.retried, stats.leased, stats.ready) == (1, 1, 1, 1)


def test_expired_lease_is_reclaimed_during_a_pause(client: Client) -> None:
    push(client, "a")
    take(client, lease_for=AT_ONCE)
    client.pause("mail", inf)

    client.step(["mail"], 1)

    stats = client.stats("mail")
    assert (stats.lost, stats.ready, stats.leased) == (1, 1, 0)


def test_push_and_cancel_go_on_during_a_pause(client: Client) -> None:
    client.pause("mail", inf)

    push(client, "a", "b")

    assert client.cancel("mail", "a") == ("data of a", False)
    assert client.len("mail") == 1


def test_task_of_a_paused_queue_can_be_leased_by_its_id(client: Client) -> None:
    push(client, "a")
    client.pause("mail", inf)

    lease = client.lease("mail", "a")

    assert lease is not None
    client.ack(lease)


def test_step_says_when_the_pause_ends(client: Client) -> None:
    push(client, "a")
    client.pause("mail", HOUR)

    assert HOUR - 60 < client.step(["mail"], 1).pause <= HOUR
    client.pause("mail", inf)
    assert client.step(["mail"], 1).pause == inf


def test_step_waits_for_a_scheduled_task_that_is_due_after_the_pause(client: Client) -> None:
    push(client, "a", delay=2 * HOUR)
    client.pause("mail", HOUR)

    assert 2 * HOUR - 60 < client.step(["mail"], 1).pause <= 2 * HOUR


def test_scheduled_task_of_a_paused_queue_stays(client: Client) -> None:
    push(client, "later", delay=HOUR)
    push(client, "soon", delay=0.02)
    client.pause("mail", inf)

    assert becomes(lambda: client.stats("mail").ready == 1)
    assert drain(client) == []
    assert client.stats("mail").scheduled == 1


def wait_and_reserve(client: Client, seconds: float) -> str:
    """Reserve as a worker does, without polling."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        step = client.step(["mail"], 1)
        if step.leases:
            return step.leases[0].task_id
        client.wait(["mail"], min(step.pause, max(0.001, end - time.monotonic())))
    raise TimeoutError


def test_resuming_wakes_a_worker_that_waits(connect: Connect) -> None:
    worker, operator = connect(), connect()
    took: list[float] = []

    with ThreadPoolExecutor() as pool:
        for task_id in "abc":
            operator.pause("mail", inf)
            push(operator, task_id)
            found = pool.submit(wait_and_reserve, worker, 30)
            time.sleep(0.1)
            assert not found.done()
            resumed = time.monotonic()
            operator.pause("mail", 0)
            assert found.result(30) == task_id
            took.append(time.monotonic() - resumed)

    assert min(took) < 0.8  # other work of the machine can only add to it


def test_end_of_a_pause_wakes_a_worker_that_waits(client: Client) -> None:
    push(client, "a")
    client.pause("mail", 0.3)

    assert wait_and_reserve(client, 30) == "a"


def test_resuming_wakes_as_many_workers_as_there_are_tasks(connect: Connect) -> None:
    operator = connect()
    operator.pause("mail", inf)
    push(operator, "a", "b", "c")

    with ThreadPoolExecutor() as pool:
        found = [pool.submit(wait_and_reserve, connect(), 30) for _ in range(3)]
        time.sleep(0.2)
        operator.pause("mail", 0)
        assert sorted(each.result(30) for each in found) == ["a", "b", "c"]


def test_worker_of_a_paused_queue_rests(client: Client) -> None:
    push(client, "a", "b")
    client.pause("mail", inf)

    with process_rests():
        end = time.monotonic() + 0.6
        while (left := end - time.monotonic()) > 0:
            step = client.step(["mail"], 1)
            assert not step.leases
            client.wait(["mail"], min(step.pause, left))


def test_suspect_of_a_paused_queue_holds_up_no_other_queue(client: Client) -> None:
    push(client, "lost")
    take(client, lease_for=AT_ONCE)
    client.step(["mail"], 1, outcomes=())
    client.pause("mail", inf)
    push(client, "a", "b", queue="print")

    assert ids(client.step(["mail", "print"], 5).leases) == ["a", "b"]


@pytest.mark.parametrize("seconds", [0, -1.0])
def test_queue_that_is_not_paused_can_be_resumed(client: Client, seconds: float) -> None:
    push(client, "a")

    client.pause("mail", seconds)

    assert drain(client) == ["a"]
