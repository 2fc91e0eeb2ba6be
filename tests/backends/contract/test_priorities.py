"""The contract of every store: the ready tasks of a queue are reserved by their priorities."""

from pathlib import Path

import pytest

from alligator import Gator
from alligator.backends.base import Client, Message, Outcome
from alligator.constants import LEVELS
from tests.harness.contract import (
    AT_ONCE,
    HOUR,
    becomes,
    drain,
    ids,
    take,
)
from tests.harness.programs import lines, run
from tests.harness.sample_tasks import record

HIGH, NORMAL, LOW = LEVELS.values()


@pytest.fixture(autouse=True)
def _only_stores_with_priorities(client: Client) -> None:
    if not client.has_priorities:
        pytest.skip("the store has no priorities: they are refused at the call")


def push(client: Client, *tasks: tuple[str, int], delay: float = 0.0, queue: str = "mail") -> None:
    client.push_many([Message(queue, task_id, "{}", delay, level) for task_id, level in tasks])


def push_each(client: Client) -> None:
    """Push the lowest first, in calls of their own."""
    for level, name in ((LOW, "low"), (NORMAL, "normal"), (HIGH, "high")):
        push(client, (f"{name} 1", level), (f"{name} 2", level))


IN_ORDER = ["high 1", "high 2", "normal 1", "normal 2", "low 1", "low 2"]


def test_task_of_a_higher_priority_is_reserved_first(client: Client) -> None:
    push_each(client)

    assert drain(client) == IN_ORDER


def test_priorities_count_within_one_call_and_one_step(client: Client) -> None:
    push(client, ("c", LOW), ("b", NORMAL), ("a", HIGH), ("d", LOW), ("A", HIGH))

    leases = client.reserve("mail", limit=10)

    assert ids(leases) == ["a", "A", "b", "c", "d"]
    assert all(0 <= lease.waited < HOUR for lease in leases)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
def test_step_takes_no_more_than_its_limit_of_all_priorities(client: Client, limit: int) -> None:
    push_each(client)

    taken = ids(client.reserve("mail", limit=limit))

    assert taken == IN_ORDER[:limit]
    assert drain(client) == IN_ORDER[limit:]


def test_queues_keep_their_order_whatever_the_priorities(client: Client) -> None:
    push(client, ("a", LOW))
    push(client, ("b", HIGH), queue="print")

    assert ids(client.step(["mail", "print"], 5).leases) == ["a", "b"]


def test_failed_task_keeps_its_priority(client: Client) -> None:
    push_each(client)
    leases = client.reserve("mail", limit=6)

    client.step((), 0, outcomes=[Outcome("retry", lease) for lease in reversed(leases)])

    again = drain(client)
    assert [name.split()[0] for name in again] == ["high", "high", "normal", "normal", "low", "low"]


def test_task_that_failed_twice_keeps_its_priority(client: Client) -> None:
    push(client, ("a", LOW), ("c", HIGH))
    for _ in range(2):
        client.step((), 0, outcomes=[Outcome("retry", x) for x in client.reserve("mail", limit=2)])
    push(client, ("b", NORMAL))

    assert drain(client) == ["c", "b", "a"]


def test_released_tasks_return_to_their_places_of_their_priority(client: Client) -> None:
    push_each(client)
    leases = client.reserve("mail", limit=6)
    push(client, ("low 3", LOW), ("normal 3", NORMAL), ("high 3", HIGH))

    client.step((), 0, outcomes=[Outcome("release", lease) for lease in leases])

    assert drain(client) == [
        *("high 1", "high 2", "high 3", "normal 1", "normal 2", "normal 3"),
        *("low 1", "low 2", "low 3"),
    ]


def test_delayed_tasks_have_their_priority_when_they_are_ready(client: Client) -> None:
    push(client, ("normal", NORMAL))
    push(client, ("low", LOW), ("high", HIGH), delay=0.01)
    push(client, ("later", HIGH), ("much later", LOW), delay=HOUR)
    assert becomes(lambda: client.stats("mail").ready == 3)

    assert drain(client) == ["high", "normal", "low"]
    assert [each.task_id for each in client.scheduled("mail")] == ["later", "much later"]


def test_delayed_high_task_is_not_early_and_hides_no_other(client: Client) -> None:
    push(client, ("later", HIGH), ("late", LOW), delay=HOUR)

    step = client.step(["mail"], 5)

    assert not step.leases
    assert HOUR / 2 < step.pause <= HOUR
    push(client, ("now", LOW))
    assert drain(client) == ["now"]


@pytest.mark.parametrize("verdict", ["retry", "release"])
def test_task_that_returns_later_keeps_its_priority(client: Client, verdict: str) -> None:
    push(client, ("a", LOW), ("b", HIGH))
    back = client.reserve("mail", limit=2)
    push(client, ("c", NORMAL))

    client.step((), 0, outcomes=[Outcome(verdict, lease, 0.01) for lease in back])  # type: ignore[arg-type]

    assert becomes(lambda: client.stats("mail").ready == 3)
    assert drain(client) == ["b", "c", "a"]


def test_lost_tasks_keep_their_priority(client: Client) -> None:
    push(client, ("a", LOW), ("b", HIGH))
    client.reserve("mail", limit=2, lease_for=AT_ONCE)
    push(client, ("c", NORMAL))

    # Each of the lost ones is reserved alone.
    assert [drain(client), drain(client), drain(client)] == [["b"], ["c"], ["a"]]


def test_lost_task_of_a_low_priority_holds_up_no_other(client: Client) -> None:
    push(client, ("suspect", LOW))
    client.reserve("mail", lease_for=AT_ONCE)
    push(client, ("a", HIGH), ("b", NORMAL), ("c", LOW))

    assert drain(client)[:2] == ["a", "b"]


def test_dead_task_that_is_retried_keeps_its_priority(client: Client) -> None:
    push(client, ("a", LOW), ("b", HIGH))
    for lease in client.reserve("mail", limit=2):
        client.dead_letter(lease, reason="no luck")
    push(client, ("c", NORMAL))

    assert client.retry_dead("mail", "a")
    assert client.retry_dead("mail", "b")

    assert drain(client) == ["b", "c", "a"]


@pytest.mark.parametrize("delay", [0.0, HOUR])
def test_task_that_was_leased_by_its_id_keeps_its_priority(client: Client, delay: float) -> None:
    push(client, ("a", LOW), ("b", HIGH), delay=delay)
    leases = [client.lease("mail", name) for name in ("a", "b")]
    assert client.stats("mail").leased == 2

    for lease in leases:
        assert lease
        if delay:
            client.nack(lease)
        else:
            client.release(lease)
    push(client, ("c", NORMAL))

    assert drain(client) == ["b", "c", "a"]


def test_scheduled_task_that_was_leased_early_is_scheduled_again(client: Client) -> None:
    push(client, ("a", LOW), ("b", HIGH), delay=HOUR)

    for name in ("a", "b"):
        lease = client.lease("mail", name)
        assert lease
        client.release(lease)

    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled) == (0, 2)
    assert all(HOUR / 2 < each.due_in <= HOUR for each in client.scheduled("mail"))


def test_numbers_and_lists_cover_all_priorities(client: Client) -> None:
    push_each(client)
    push(client, ("later 1", HIGH), ("later 2", NORMAL), ("later 3", LOW), delay=HOUR)

    stats = client.stats("mail")

    assert (stats.ready, stats.scheduled, client.len("mail")) == (6, 3, 9)
    assert 0 <= stats.oldest < HOUR
    assert {each.task_id: each.state for each in client.peek("mail")} == {
        **dict.fromkeys(IN_ORDER, "ready"),
        **dict.fromkeys(["later 1", "later 2", "later 3"], "scheduled"),
    }
    assert [each.task_id for each in client.scheduled("mail", 2)] == ["later 1", "later 2"]


@pytest.mark.parametrize("oldest", LEVELS.values())
def test_age_is_that_of_the_oldest_task_of_any_priority(client: Client, oldest: int) -> None:
    push(client, ("a", oldest))
    assert becomes(lambda: client.stats("mail").oldest >= 0.02)

    push(client, ("b", LOW), ("c", NORMAL), ("d", HIGH))

    assert 0.02 <= client.stats("mail").oldest < HOUR


def test_tasks_of_all_priorities_are_canceled_dropped_and_undone(client: Client) -> None:
    push_each(client)

    assert client.cancel("mail", "low 1") == ("{}", False)
    assert client.cancel("mail", "high 1") == ("{}", False)
    messages = [Message("mail", "x", "{}", 0.0, HIGH), Message("mail", "y", "{}", 0.0, LOW)]
    client.push_many(messages, commit_id="undone")
    client.abort("undone", messages)

    assert client.stats("mail").ready == 4
    assert client.stats("mail").pushed == 6
    client.drop_all("mail")
    assert client.step(["mail"], 5).pause > HOUR


def test_waiting_task_keeps_the_priority_of_its_first_push(client: Client) -> None:
    push(client, ("a", LOW), ("b", NORMAL))

    duplicates = client.push_many([Message("mail", "a", "new", 0.0, HIGH)])

    assert [*(duplicates or ())] == [0]
    assert drain(client) == ["b", "a"]


def test_repeated_commit_with_priorities_reports_the_same(client: Client) -> None:
    messages = [Message("mail", "a", "{}", 0.0, LOW), Message("mail", "a", "{}", 0.0, HIGH)]

    first = client.push_many(messages, commit_id="c")
    second = client.push_many(messages, commit_id="c")

    assert first is not None
    assert second is not None
    assert [*first] == [*second] == [1]


def test_newer_task_of_the_same_id_has_its_own_priority(client: Client) -> None:
    push(client, ("a", LOW))
    running = take(client)
    push(client, ("a", HIGH), ("b", NORMAL))

    client.nack(running)

    assert drain(client) == ["a", "b", "a"]


def test_worker_that_waits_wakes_for_each_priority(client: Client) -> None:
    for level in (LOW, HIGH):
        push(client, ("a", level))

        client.wait(["mail"], HOUR)

        client.ack(take(client))


def test_tick_of_a_schedule_has_its_priority(client: Client) -> None:
    push(client, ("a", NORMAL))

    client.push_tick("nightly", 7, Message("mail", "b", "{}", 0.0, HIGH))

    assert drain(client) == ["b", "a"]


def test_worker_process_runs_tasks_by_their_priorities(
    shared_dsn: str, client: Client, tmp_path: Path
) -> None:
    gator, path = Gator(shared_dsn), tmp_path / "lines"
    with gator.transaction():
        for n in range(3):
            for priority in ("low", "normal", "high"):
                gator.options(priority=priority).task(record, str(path), f"{priority} {n}")
        gator.options(priority="high", delay_by=0.001).task(record, str(path), "high 3")
    assert becomes(lambda: client.stats("all").ready == 10)

    ended = run("--burst", "--concurrency", "1", shared_dsn)

    gator.close()
    assert ended.returncode == 0, ended.stderr
    assert lines(path) == [
        *("high 0", "high 1", "high 2", "high 3", "normal 0", "normal 1", "normal 2"),
        *("low 0", "low 1", "low 2"),
    ]
