"""What every store reports about its queues beside their depth: figures, samples, waiting times."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from alligator.backends.base import Client, Message, Outcome, Running, WorkerInfo
from alligator.backends.stats import COMMITS, SAMPLES

Connect = Callable[[], Client]


@pytest.fixture
def keeper(client: Client) -> Client:
    """Yield a store that keeps figures."""
    if client.figures("mail") is None:
        pytest.skip("this store says that it keeps none")
    return client


def push(client: Client, *task_ids: str, delay: float = 0.0) -> None:
    client.push_many([Message("mail", task_id, "data", delay) for task_id in task_ids])


def test_store_keeps_figures_and_samples_or_neither(client: Client) -> None:
    client.note({"mail": {"run:1": 1}}, ["mail"])

    figures, history = client.figures("mail"), client.history("mail")

    assert (figures is None) == (history is None)
    assert figures in (None, {"run:1": 1})


def test_figures_are_added_up(keeper: Client, connect: Connect) -> None:
    keeper.note({"mail": {"run:1": 2, "run:us": 5_000_000_000}})
    connect().note({"mail": {"run:1": 3, "run:2": 1}, COMMITS: {"committed": 7}})

    assert keeper.figures("mail") == {"run:1": 5, "run:2": 1, "run:us": 5_000_000_000}
    assert keeper.figures(COMMITS) == {"committed": 7}
    assert keeper.figures("video") == {}


def test_report_that_is_repeated_under_its_id_counts_once(keeper: Client, connect: Connect) -> None:
    first, second = {"mail": {"run:1": 2}, COMMITS: {"failed": 1}}, {"mail": {"run:1": 10}}

    keeper.note(first, ["mail"], report_id="first")
    connect().note(first, ["mail"], report_id="first")
    keeper.note(second, report_id="second")
    keeper.note(first, report_id="first")
    keeper.note(second)

    assert keeper.figures("mail") == {"run:1": 22}
    assert keeper.figures(COMMITS) == {"failed": 1}
    assert keeper.queue_names() == []


def test_id_of_a_report_is_none_of_a_commit(keeper: Client) -> None:
    keeper.note({"mail": {"run:1": 2}}, report_id="same")
    keeper.push_many([Message("mail", "a", "{}")], commit_id="same")
    keeper.note({"mail": {"run:1": 2}}, report_id="same")

    assert keeper.figures("mail") == {"run:1": 2}
    assert keeper.len("mail") == 1


def test_figures_do_not_make_a_queue(keeper: Client) -> None:
    keeper.note({"mail": {"run:1": 2}, COMMITS: {"committed": 7}})

    assert keeper.queue_names() == []


def test_figures_that_come_at_the_same_time_all_count(keeper: Client, connect: Connect) -> None:
    clients = [keeper, connect()]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: clients[n % 2].note({"mail": {"run:1": 1}}, ["mail"]), range(100)))

    assert keeper.figures("mail") == {"run:1": 100}


def test_sample_is_a_queue_as_it_was(keeper: Client) -> None:
    push(keeper, "a", "b", "c")
    push(keeper, "d", delay=3600.0)
    first, second = keeper.reserve("mail", limit=2)
    keeper.step((), 0, outcomes=[Outcome("ack", first), Outcome("dead", second)])
    keeper.note({}, ["mail"])
    keeper.drop_all("mail")

    (sample,) = list(keeper.history("mail") or ())

    assert 0 <= sample.age < 60
    assert (sample.ready, sample.scheduled, sample.leased, sample.dead) == (1, 1, 0, 1)
    assert (sample.pushed, sample.succeeded, sample.failed) == (4, 1, 1)
    assert sample.dropped == 0


def test_sample_counts_tasks_of_all_priorities(keeper: Client) -> None:
    for delay in (0.0, 3600.0):
        keeper.push_many([Message("mail", f"{delay} {n}", "{}", delay, n) for n in (-1, 0, 1)])

    keeper.note({}, ["mail"])

    (sample,) = list(keeper.history("mail") or ())
    assert (sample.ready, sample.scheduled) == (3, 3)


def test_stats_of_several_queues_equal_those_of_each(client: Client) -> None:
    push(client, "a", "b")
    client.push_many([Message("video", "c", "{}")])
    names = ["video", "nothing", "mail"]

    several = client.stats_of(names)

    one_by_one = [client.stats(name) for name in names]
    assert [stats._replace(oldest=0) for stats in several] == [
        stats._replace(oldest=0) for stats in one_by_one
    ]
    assert client.stats_of([]) == []


def test_samples_are_taken_only_at_intervals(keeper: Client) -> None:
    for _ in range(20):
        keeper.note({}, ["mail", "video"])

    history = keeper.history("mail") or ()

    # Two, should ten seconds have ended meanwhile.
    assert 1 <= len(history) <= 2 < SAMPLES
    assert len(keeper.history("video") or ()) == len(history)


def test_failed_attempts_and_deaths_are_counted(client: Client) -> None:
    if "failed" not in client.known_stats:
        pytest.skip("this store says that it does not count them")
    push(client, "retried", "dead")
    retried, dead = client.reserve("mail", limit=2)
    client.step((), 0, outcomes=[Outcome("retry", retried), Outcome("dead", dead)])
    client.step(["mail"], 1, lease_for=0.0)
    client.step(["mail"], 1, max_lost=1)

    stats = client.stats("mail")

    assert (stats.failed, stats.retried, stats.lost, stats.died) == (2, 1, 1, 2)


def test_lease_knows_how_long_its_task_was_ready(keeper: Client) -> None:
    push(keeper, "late", delay=0.02)
    time.sleep(0.08)
    push(keeper, "at once")

    late, at_once = keeper.reserve("mail", limit=2)

    assert (late.task_id, at_once.task_id) == ("late", "at once")
    assert 0.03 < late.waited < 10
    assert 0 <= at_once.waited < late.waited


def test_waiting_time_restarts_when_a_task_returns(keeper: Client) -> None:
    push(keeper, "a")
    time.sleep(0.05)
    (lease,) = keeper.reserve("mail")
    keeper.nack(lease)

    (again,) = keeper.reserve("mail")

    assert again.waited < lease.waited


def test_worker_is_kept_with_its_whole_record(client: Client) -> None:
    if not client.lists_workers:
        pytest.skip("this store says that it has no place for workers")
    said = WorkerInfo(
        name="w",
        queues=["mail", "ümläut"],
        started_at=1234.5,
        running=[Running("id", "mail:send", 1700.25, "mail")],
        host="höst",
        pid=7,
        concurrency=3,
        memory=123_456_789_012,
    )

    client.beat(said, 3600.0)

    (found,) = client.workers()
    assert [getattr(found, name) for name in said._fields if name != "seen_ago"] == [
        getattr(said, name) for name in said._fields if name != "seen_ago"
    ]


def test_worker_of_another_version_is_read_as_far_as_possible() -> None:
    older = '{"name": "w", "queues": ["all"], "started_at": 1.5, "running": ["mail:send"]}'
    newer = '{"name": "w", "running": [["1", "mail:send", 2.5, "all", 9]], "mood": "good"}'

    assert WorkerInfo.from_json(older, 0.0).running == [Running("", "mail:send", 0.0)]
    assert WorkerInfo.from_json(newer, 4.0).running == [Running("1", "mail:send", 2.5, "all")]
