"""The contract of every store: scheduled tasks, waiting and interrupts."""

import time
from concurrent.futures import ThreadPoolExecutor

from alligator.backends.base import (
    Client,
    Message,
    Step,
)
from tests.harness.contract import (
    HOUR,
    Connect,
    becomes,
    drain,
    elsewhere,
    ids,
    push,
)
from tests.harness.cpu_time import process_rests

# Time.


def test_scheduled_task_is_not_reserved_before_its_time(client: Client) -> None:
    push(client, "a", delay=HOUR)

    step = client.step(["mail"], 1)

    assert not step.leases
    assert HOUR - 10 < step.pause <= HOUR
    assert client.stats("mail").scheduled == 1


def test_scheduled_task_becomes_ready(client: Client) -> None:
    push(client, "a", delay=0.03)

    assert becomes(lambda: client.stats("mail").ready == 1)
    stats = client.stats("mail")
    assert stats.scheduled == 0
    assert ids(client.reserve("mail")) == ["a"]


def test_task_that_has_been_due_for_longest_goes_first(client: Client) -> None:
    # In one call, so that each is due at its time after the others, on a machine of any speed.
    delays = {"slow": 0.2, "quick": 0.1, "now": 0.0}
    client.push_many([Message("mail", task_id, "", delay) for task_id, delay in delays.items()])
    assert becomes(lambda: client.stats("mail").scheduled == 0)
    push(client, "last")

    assert drain(client) == ["now", "quick", "slow", "last"]


# Waiting.


def test_waiting_ends_when_the_time_is_up(client: Client) -> None:
    began = time.monotonic()

    client.wait(["mail"], 0.05)

    assert time.monotonic() - began < 15


def test_waiting_ends_at_once_when_a_task_is_ready(client: Client) -> None:
    push(client, "a")
    began = time.monotonic()

    client.wait(["mail"], 20)

    assert time.monotonic() - began < 15


def reserve_by_waiting(client: Client, queue: str = "mail", within: float = 20.0) -> str:
    end = time.monotonic() + within
    while time.monotonic() < end:
        step = client.step([queue], 1)
        if step.leases:
            return step.leases[0].task_id
        client.wait([queue], min(step.pause, max(0, end - time.monotonic())))
    raise TimeoutError


def reserved_at(client: Client) -> float:
    """Wait for a task and say when it was there."""
    reserve_by_waiting(client)
    return time.monotonic()


def test_waiting_ends_when_another_client_pushes(connect: Connect) -> None:
    worker, web = connect(), connect()
    took: list[float] = []

    with ThreadPoolExecutor() as pool:
        for task_id in "abc":
            found = pool.submit(reserved_at, worker)
            time.sleep(0.1)
            pushed = time.monotonic()
            push(web, task_id)
            took.append(found.result(20) - pushed)

    assert min(took) < 0.8  # other work of the machine can only add to it


def test_waiting_ends_when_another_thread_pushes(client: Client) -> None:
    with elsewhere(lambda: reserve_by_waiting(client)):
        time.sleep(0.05)
        push(client, "a")

    assert client.stats("mail").leased == 1


def test_wait_misses_no_push_after_a_step(connect: Connect) -> None:
    worker, web = connect(), connect()

    for n in range(30):
        assert not worker.step(["mail"], 1).leases
        push(web, f"t{n}")
        began = time.monotonic()
        worker.wait(["mail"], 20)

        assert time.monotonic() - began < 15
        client_took = worker.reserve("mail")
        assert ids(client_took) == [f"t{n}"]


def test_push_wakes_the_waiter_of_its_queue(connect: Connect) -> None:
    mail, other, web = connect(), connect(), connect()
    took: list[float] = []

    with ThreadPoolExecutor() as pool:
        for task_id in "abc":
            waiting = pool.submit(other.wait, ["print"], 3)
            found = pool.submit(reserved_at, mail)
            time.sleep(0.1)
            pushed = time.monotonic()
            push(web, task_id)
            took.append(found.result(20) - pushed)
            push(web, task_id + "2", queue="print")
            waiting.result(20)
            assert reserve_by_waiting(other, "print")

    assert min(took) < 0.8


def test_pushes_wake_several_waiters(connect: Connect) -> None:
    workers, web = [connect() for _ in range(4)], connect()
    for each in (*workers, web):
        each.step(["mail"], 1)  # on a busy machine a client of SQS takes seconds to start

    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(reserve_by_waiting, worker, within=60.0) for worker in workers]
        time.sleep(0.1)
        began = time.monotonic()
        push(web, "a", "b", "c", "d")
        taken = sorted(future.result(60) for future in found)

    assert taken == ["a", "b", "c", "d"]
    assert time.monotonic() - began < 30  # of the minute that they would wait


def test_waiting_ends_when_a_scheduled_task_is_due(connect: Connect) -> None:
    worker, web = connect(), connect()

    with elsewhere(lambda: reserve_by_waiting(worker)):
        time.sleep(0.05)
        began = time.monotonic()
        push(web, "a", delay=0.1)

    assert 0.09 < time.monotonic() - began < 10


def test_interrupt_ends_the_waits_of_all_threads(client: Client) -> None:
    began = time.monotonic()

    with elsewhere(lambda: client.wait(["mail"], 20)), elsewhere(lambda: client.wait(["x"], 20)):
        time.sleep(0.1)
        client.interrupt()

    assert time.monotonic() - began < 15


def test_interrupt_ends_the_next_wait_too(client: Client) -> None:
    began = time.monotonic()

    client.interrupt()
    client.wait(["mail"], 20)

    assert time.monotonic() - began < 15


def test_wait_after_an_interrupted_one_waits(client: Client) -> None:
    client.interrupt()
    client.wait(["mail"], 20)
    began = time.monotonic()

    client.wait(["mail"], 0.1)

    assert time.monotonic() - began > 0.05


def test_wait_then_step_reserves_new_tasks(client: Client) -> None:
    found: list[Step] = []

    with elsewhere(lambda: found.append(client.wait_then_step(["mail"], 20, 1))):
        time.sleep(0.1)
        push(client, "a")

    assert [ids(step.leases) for step in found] == [["a"]]


def test_wait_then_step_returns_the_pause(client: Client) -> None:
    push(client, "a", delay=30)

    step = client.wait_then_step(["mail"], 0.01, 1)

    assert not step.leases
    assert step.pause > 20


def test_interrupt_ends_a_wait_before_a_step(client: Client) -> None:
    began = time.monotonic()

    with elsewhere(lambda: client.wait_then_step(["mail"], 60, 1)):
        time.sleep(0.1)
        client.interrupt()

    assert time.monotonic() - began < 20


def test_waiting_uses_no_cpu(client: Client) -> None:
    client.wait(["mail"], 0.01)
    push(client, "a", "b")
    drain(client)

    until = time.monotonic() + 0.5
    with process_rests():
        while (left := until - time.monotonic()) > 0:  # a wake-up for "b" may be left
            client.wait(["mail"], left)
