"""The contract of every store: follow-ups, which are queued when the others of a commit are settled."""

import threading
from collections.abc import Sequence
from functools import partial

import pytest

from alligator.backends.base import Client, Commit, Lease, Message, Outcome, Verdict
from alligator.backends.unique import Held, Unique
from alligator.exceptions import BackendError
from tests.harness.contract import AT_ONCE, HOUR, balance, becomes, drain, elsewhere, ids, take


@pytest.fixture(autouse=True)
def _keeps_follow_ups(client: Client) -> None:
    if not client.keeps_follow_ups:
        pytest.skip("the store does not count the tasks of a commit")


def follow_up(task_id: str = "f", queue: str = "after", priority: int = 0) -> Message:
    return Message(queue, task_id, f"data of {task_id}", 0.0, priority, None, True)


def push_batch(
    client: Client,
    *task_ids: str,
    then: Sequence[Message] | None = None,
    delay: float = 0.0,
    commit_id: str | None = None,
    undo: bool = True,
) -> list[Message]:
    """Push a commit with follow-ups, and return its messages."""
    members = [Message("mail", task_id, f"data of {task_id}", delay) for task_id in task_ids]
    messages = [*members[:1], *([follow_up()] if then is None else then), *members[1:]]
    assert client.push_many(messages, commit_id=commit_id, undo=undo) is None
    return messages


def queued(client: Client, queue: str = "after") -> list[tuple[str, str]]:
    """Take the follow-ups that were queued, with their data."""
    return [(lease.task_id, lease.data) for lease in client.reserve(queue, limit=10)]


def settle(client: Client, verdict: Verdict, lease: Lease) -> None:
    client.step((), 0, outcomes=[Outcome(verdict, lease, reason="no luck")])


def test_follow_up_is_queued_when_all_tasks_are_done(client: Client) -> None:
    push_batch(client, "a", "b", "c")
    leases = client.reserve("mail", limit=3)
    assert ids(leases) == ["a", "b", "c"]

    for lease in leases[:2]:
        client.ack(lease)
        assert queued(client) == []
    assert client.stats("after").pushed == 0
    client.ack(leases[2])

    assert client.stats("after").ready == 1
    assert queued(client) == [("f", "batch:3,0 data of f")]
    assert (client.stats("after").pushed, client.stats("mail").pushed) == (1, 3)


def test_step_that_settles_the_last_task_may_reserve_the_follow_up(client: Client) -> None:
    push_batch(client, "a", "b", then=[follow_up(queue="mail")])
    leases = client.reserve("mail", limit=3)

    step = client.step(["mail"], 3, outcomes=[Outcome("ack", lease) for lease in leases])

    assert [(lease.task_id, lease.data) for lease in step.leases] == [("f", "batch:2,0 data of f")]
    client.ack(step.leases[0])
    stats = client.stats("mail")
    assert (stats.pushed, stats.succeeded) == (3, 3)


def test_follow_up_waits_for_a_task_that_is_retried_or_released(client: Client) -> None:
    push_batch(client, "a")
    client.nack(take(client))
    client.release(take(client))
    client.step(["mail"], 1, lease_for=AT_ONCE)
    last = take(client)
    assert last.lost == 1

    assert queued(client) == []
    client.ack(last)
    assert queued(client) == [("f", "batch:1,0 data of f")]


@pytest.mark.parametrize("verdict", ["dead", "expired"])
def test_dead_task_counts_as_settled(client: Client, verdict: Verdict) -> None:
    push_batch(client, "a", "b")
    first, second = client.reserve("mail", limit=2)

    settle(client, verdict, first)
    assert queued(client) == []
    settle(client, "ack", second)

    assert queued(client) == [("f", "batch:2,1 data of f")]


def test_outcomes_of_one_step_settle_several_batches(client: Client) -> None:
    push_batch(client, "a", "b", then=[follow_up("f1")])
    push_batch(client, "c", "d", then=[follow_up("f2")])
    a, b, c, d = client.reserve("mail", limit=4)
    verdicts: list[tuple[Verdict, Lease]] = [("dead", d), ("ack", a), ("ack", c), ("dead", b)]

    client.step((), 0, outcomes=[Outcome(verdict, lease) for verdict, lease in verdicts])

    assert sorted(queued(client)) == [
        ("f1", "batch:2,1 data of f1"),
        ("f2", "batch:2,1 data of f2"),
    ]


def test_task_that_was_lost_too_often_counts_as_settled(client: Client) -> None:
    push_batch(client, "a", then=[follow_up(queue="mail")])
    take(client, lease_for=AT_ONCE)

    step = client.step(["mail"], 1, max_lost=1)

    assert [(lease.task_id, lease.data) for lease in step.leases] == [("f", "batch:1,1 data of f")]


@pytest.mark.parametrize("delay", [0.0, HOUR])
def test_canceled_and_dropped_tasks_count_as_settled(client: Client, delay: float) -> None:
    push_batch(client, "a", "b", "c", delay=delay)

    assert client.cancel("mail", "b") == ("data of b", False)
    assert queued(client) == []
    client.drop_all("mail")

    assert queued(client) == [("f", "batch:3,3 data of f")]
    assert balance(client.stats("mail"))


def test_canceled_retry_counts_as_settled(client: Client) -> None:
    push_batch(client, "a")
    client.nack(take(client), delay=HOUR)
    client.cancel("mail", "a")

    assert queued(client) == [("f", "batch:1,1 data of f")]


def test_follow_up_of_the_queue_that_is_dropped_stays(client: Client) -> None:
    push_batch(client, "a", "b", then=[follow_up(queue="mail")])

    client.drop_all("mail")

    assert queued(client, "mail") == [("f", "batch:2,2 data of f")]


def test_dead_task_that_runs_again_counts_once(client: Client) -> None:
    push_batch(client, "a", "b")
    first, second = client.reserve("mail", limit=2)
    for _ in range(3):
        settle(client, "dead", first)
        client.retry_dead("mail", "a")
        first = take(client)
    assert queued(client) == []
    client.ack(first)
    assert queued(client) == []

    client.ack(second)

    assert queued(client) == [("f", "batch:2,1 data of f")]


def test_late_acks_count_once(client: Client) -> None:
    push_batch(client, "a", "b")
    late = take(client, lease_for=AT_ONCE)
    [other] = client.step(["mail"], 1, max_lost=1).leases
    assert (client.stats("mail").dead, other.task_id) == (1, "b")
    for _ in range(2):
        client.ack(late)
        assert client.stats("mail").dead == 0
        assert queued(client) == []

    client.ack(other)

    assert queued(client) == [("f", "batch:2,1 data of f")]


def test_late_ack_of_a_task_that_waits_counts(client: Client) -> None:
    push_batch(client, "a")
    late = take(client, lease_for=AT_ONCE)
    client.nack(take(client), delay=HOUR)

    client.ack(late)

    assert queued(client) == [("f", "batch:1,0 data of f")]


def test_all_follow_ups_are_queued_in_their_order(client: Client) -> None:
    push_batch(client, "a", then=[follow_up("f1"), follow_up("f2"), follow_up("f3", "other")])
    client.ack(take(client))

    assert [task_id for task_id, _ in queued(client)] == ["f1", "f2"]
    assert queued(client, "other") == [("f3", "batch:1,0 data of f3")]
    assert {"after", "other"} <= {*client.queue_names()}


def test_follow_up_has_its_priority(client: Client) -> None:
    if not client.has_priorities:
        pytest.skip("the store has no priorities")
    push_batch(client, "a", then=[follow_up("f1", priority=-1), follow_up("f2", priority=1)])
    client.push_many([Message("after", "x", "{}")])
    client.ack(take(client))

    assert [task_id for task_id, _ in queued(client)] == ["f2", "x", "f1"]


def test_follow_up_without_other_tasks_is_queued_at_once(client: Client) -> None:
    client.push_many([follow_up()])

    assert queued(client) == [("f", "batch:0,0 data of f")]


def test_duplicates_are_not_waited_for(client: Client) -> None:
    client.push_many(
        [Message("mail", "a", "old"), Message("mail", "k", "old", 0.0, 0, Unique("k"))]
    )
    messages = [
        Message("mail", "a", "new"),
        follow_up(),
        Message("mail", "b", "new", 0.0, 0, Unique("k")),
    ]
    if client.keeps_keys:
        found = client.push_many(messages, commit_id="c1") or ()
        assert [*found] == [0, 2]
        assert [each.task_id for each in found if isinstance(each, Held)] == ["k"]
        assert [*(client.push_many(messages, commit_id="c1") or ())] == [0, 2]
    else:
        assert client.push_many(messages[:2]) == [0]

    assert queued(client) == [("f", "batch:0,0 data of f")]
    assert ids(client.reserve("mail", limit=5)) == ["a", "k"]


def test_task_of_an_older_batch_is_not_counted_by_a_newer_one(client: Client) -> None:
    push_batch(client, "a", then=[follow_up("f1")])
    running = take(client)
    push_batch(client, "a", then=[follow_up("f2")])

    client.ack(running)
    assert queued(client) == [("f1", "batch:1,0 data of f1")]
    client.ack(take(client))
    assert queued(client) == [("f2", "batch:1,0 data of f2")]


def test_follow_up_whose_id_waits_is_dropped(client: Client) -> None:
    client.push_many([Message("after", "f", "other")])
    push_batch(client, "a")
    client.ack(take(client))

    assert queued(client) == [("f", "other")]


def test_follow_up_runs_beside_an_older_task_of_its_id(client: Client) -> None:
    client.push_many([Message("after", "f", "other")])
    older = take(client, "after")
    push_batch(client, "a")
    client.ack(take(client))

    newer = take(client, "after")
    assert newer.data == "batch:1,0 data of f"
    client.ack(older)
    client.ack(newer)
    assert client.stats("after").succeeded == 2


def test_repeated_push_counts_its_tasks_once(client: Client) -> None:
    for _ in range(2):
        push_batch(client, "a", "b", commit_id="c1")
    for lease in client.reserve("mail", limit=5):
        client.ack(lease)
    push_batch(client, "a", "b", commit_id="c1")

    assert queued(client) == [("f", "batch:2,0 data of f")]
    assert drain(client) == []


@pytest.mark.parametrize("begun", [1, 2])
def test_aborted_push_leaves_no_follow_up(client: Client, begun: int) -> None:
    messages = push_batch(client, "a", "b", commit_id="c1")
    running = client.reserve("mail", limit=begun)
    client.abort("c1", messages)

    for lease in running:
        client.ack(lease)
    assert queued(client) == []
    assert client.stats("mail").pushed == begun
    with pytest.raises(BackendError):
        client.push_many(messages, commit_id="c1")
    assert queued(client) == []


def test_abort_removes_a_follow_up_that_was_queued(client: Client) -> None:
    messages = push_batch(client, "a", commit_id="c1")
    client.ack(take(client))
    assert client.stats("after").ready == 1

    client.abort("c1", messages)

    assert queued(client) == []
    assert client.stats("after").pushed == 0


@pytest.mark.parametrize("is_back", [False, True])
def test_abort_keeps_a_follow_up_that_a_worker_had(client: Client, is_back: bool) -> None:
    messages = push_batch(client, "a", commit_id="c1")
    client.ack(take(client))
    running = take(client, "after")
    if is_back:
        client.nack(running)
    client.abort("c1", messages)

    client.nack(running)
    assert queued(client) == [("f", "batch:1,0 data of f")]


def test_abort_keeps_a_task_with_the_id_of_a_follow_up(client: Client) -> None:
    messages = push_batch(client, "a", commit_id="c1")
    client.push_many([Message("after", "f", "other")])
    client.abort("c1", messages)

    assert queued(client) == [("f", "other")]


def test_push_under_a_chosen_id_counts_after_an_abort(client: Client) -> None:
    messages = push_batch(client, "a", commit_id="c1")
    client.abort("c1", messages)
    push_batch(client, "a", commit_id="c1", undo=False)
    client.ack(take(client))

    assert queued(client) == [("f", "batch:1,0 data of f")]


def test_commits_of_one_call_have_batches_of_their_own(client: Client) -> None:
    client.abort("c1", [])
    commits = [
        Commit([Message("mail", each, "1"), follow_up(f"f-{each}")], each)
        for each in ("c1", "c2", "c3")
    ]

    refused, *others = client.push_commits(commits)

    assert isinstance(refused, BackendError)
    assert others == [None, None]
    leases = client.reserve("mail", limit=5)
    assert sorted(ids(leases)) == ["c2", "c3"]
    for lease in leases:
        client.ack(lease)
        assert queued(client) == [(f"f-{lease.task_id}", f"batch:1,0 data of f-{lease.task_id}")]


def test_large_batch_is_counted_over_queues(client: Client) -> None:
    members = [Message(f"mail{n % 2}", f"t{n}", "{}", 0.0, n % 3 - 1) for n in range(150)]
    client.push_many([*members, follow_up()])
    leases = [*client.reserve("mail0", limit=100), *client.reserve("mail1", limit=100)]

    client.step((), 0, outcomes=[Outcome("ack", lease) for lease in leases[:149]])
    assert queued(client) == []
    client.ack(leases[149])

    assert queued(client) == [("f", "batch:150,0 data of f")]


def test_threads_that_settle_at_once_queue_the_follow_up_once(client: Client) -> None:
    for number in range(5):
        push_batch(client, "a", "b", "c", "d", then=[follow_up(f"f{number}")])
        leases = client.reserve("mail", limit=4)
        start = threading.Barrier(4)

        def ack(start: threading.Barrier, lease: Lease) -> None:
            start.wait(20)
            client.ack(lease)

        first, second, third, fourth = (partial(ack, start, lease) for lease in leases)
        with elsewhere(first), elsewhere(second), elsewhere(third):
            fourth()
        assert queued(client) == [(f"f{number}", f"batch:4,0 data of f{number}")]


def test_worker_that_waits_is_woken_for_a_follow_up(client: Client) -> None:
    push_batch(client, "a", "b")
    first, second = client.reserve("mail", limit=2)
    found: list[Lease] = []

    def wait() -> None:
        while not found:
            client.wait(["after"], 60.0)
            found.extend(client.reserve("after"))

    with elsewhere(wait):
        client.ack(first)
        settle(client, "dead", second)

    assert ids(found) == ["f"]


@pytest.mark.parametrize("by", ["cancel", "drop_all"])
def test_worker_that_waits_is_woken_if_the_last_task_is_removed(client: Client, by: str) -> None:
    push_batch(client, "a")
    found: list[Lease] = []
    began = threading.Event()

    def wait() -> None:
        while not found:
            began.set()
            client.wait(["after"], 60.0)
            found.extend(client.reserve("after"))

    with elsewhere(wait):
        began.wait(20)
        if by == "cancel":
            client.cancel("mail", "a")
        else:
            client.drop_all("mail")
        assert becomes(lambda: bool(found))

    assert ids(found) == ["f"]
