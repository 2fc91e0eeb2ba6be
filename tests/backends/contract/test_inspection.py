"""The contract of every store: dropping, listing, measuring, and the workers."""

import time

from alligator.backends.base import (
    Client,
    QueueStats,
    WorkerInfo,
)
from tests.harness.contract import (
    HOUR,
    balance,
    becomes,
    push,
    take,
)

# Dropping.


def test_drop_all_keeps_leased_and_dead_tasks(client: Client) -> None:
    push(client, "leased", "dead")
    _, dead = client.reserve("mail", limit=2)
    client.dead_letter(dead, reason="no luck")
    push(client, "ready")
    push(client, "scheduled", delay=HOUR)
    push(client, "elsewhere", queue="print")

    client.drop_all("mail")

    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled, stats.leased, stats.dead) == (0, 0, 1, 1)
    assert stats.dropped == 2
    assert balance(stats)
    assert client.len("print") == 1


# Scheduled tasks.


def test_scheduled_tasks_are_listed_the_next_first(client: Client) -> None:
    push(client, "ready")
    push(client, "last", delay=3 * HOUR)
    push(client, "next", delay=HOUR)
    push(client, "then", delay=2 * HOUR)
    push(client, "elsewhere", queue="print", delay=HOUR)

    tasks = client.scheduled("mail")

    assert [task.task_id for task in tasks] == ["next", "then", "last"]
    assert (tasks[0].queue_name, tasks[0].data) == ("mail", "data of next")
    assert 0 <= HOUR - tasks[0].due_in < 60
    assert [task.task_id for task in client.scheduled("mail", limit=2)] == ["next", "then"]
    assert client.scheduled("mail", limit=0) == client.scheduled("unknown") == []


def test_task_that_is_no_longer_scheduled_is_not_listed(client: Client) -> None:
    push(client, "canceled", "leased", "stays", delay=HOUR)

    client.cancel("mail", "canceled")
    client.lease("mail", "leased")

    assert [task.task_id for task in client.scheduled("mail")] == ["stays"]


# Looking at tasks.


def test_tasks_are_looked_at_in_their_states_without_being_reserved(client: Client) -> None:
    push(client, "dead")
    client.dead_letter(take(client), reason="no luck")
    push(client, "leased")
    take(client)
    push(client, "ready")
    push(client, "scheduled", delay=HOUR)
    push(client, "elsewhere", queue="print")
    before = client.stats("mail")

    found = sorted(client.peek("mail"))

    assert found == [
        ("mail", "dead", "data of dead", "dead"),
        ("mail", "ready", "data of ready", "ready"),
        ("mail", "scheduled", "data of scheduled", "scheduled"),
    ]
    assert client.stats("mail")[:4] == before[:4]
    assert list(client.peek("unknown")) == []


def test_each_task_of_a_long_queue_is_looked_at(client: Client) -> None:
    names = [f"task-{number}" for number in range(1_001)]
    push(client, *names[:800])
    push(client, *names[800:], delay=HOUR)

    assert {task.task_id for task in client.peek("mail")} == set(names)


def test_tasks_of_one_id_are_looked_at_under_that_id(client: Client) -> None:
    push(client, "a")
    client.dead_letter(take(client), reason="no luck")
    push(client, "a")

    assert sorted(task[1:] for task in client.peek("mail")) == [
        ("a", "data of a", "dead"),
        ("a", "data of a", "ready"),
    ]


# Measuring.


def test_unused_queue_is_empty(client: Client) -> None:
    assert client.stats("mail") == QueueStats()
    assert client.len("mail") == 0
    assert client.queue_names() == []
    assert client.dead_letters("mail") == []


def test_length_counts_what_waits(client: Client) -> None:
    push(client, "a", "b")
    push(client, "c", delay=HOUR)
    take(client)

    assert client.len("mail") == 2


def test_queues_are_named_in_order_even_when_they_are_empty_again(client: Client) -> None:
    for name in ("print", "mail"):
        push(client, "a", queue=name)
    client.ack(take(client, "mail"))

    assert client.queue_names() == ["mail", "print"]


def test_age_is_that_of_the_oldest_ready_task(client: Client) -> None:
    push(client, "future", delay=HOUR)
    assert client.stats("mail").oldest == 0
    push(client, "a")
    time.sleep(0.05)
    push(client, "b")

    before, then = client.stats("mail").oldest, time.monotonic()
    assert 0.04 < before < 10
    take(client)
    assert client.stats("mail").oldest - (time.monotonic() - then) < before - 0.04


def test_scheduled_task_ages_from_when_it_was_due(client: Client) -> None:
    push(client, "a", delay=0.02)
    time.sleep(0.06)

    assert 0.03 < client.stats("mail").oldest < 10


# Workers.


def test_worker_with_a_heartbeat_is_listed(client: Client) -> None:
    client.beat(WorkerInfo(name="host-1-x", started_at=1234.5), HOUR)

    (found,) = client.workers()
    assert (found.name, found.started_at) == ("host-1-x", 1234.5)
    assert 0 <= found.seen_ago < 10


def test_worker_is_listed_once_with_its_latest_record(client: Client) -> None:
    client.beat(WorkerInfo(name="w", queues=["a"]), HOUR)
    client.beat(WorkerInfo(name="w", queues=["b"]), HOUR)

    assert [[*worker.queues] for worker in client.workers()] == [["b"]]


def test_worker_that_ends_is_forgotten(client: Client) -> None:
    client.beat(WorkerInfo(name="stays"), HOUR)
    client.beat(WorkerInfo(name="goes"), HOUR)

    client.beat(WorkerInfo(name="goes"), 0)

    assert [worker.name for worker in client.workers()] == ["stays"]


def test_silent_worker_is_forgotten(client: Client) -> None:
    client.beat(WorkerInfo(name="w"), 0.05)

    assert becomes(lambda: not client.workers())
