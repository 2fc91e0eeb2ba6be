"""The contract of every store: unique keys, which one task of a queue at a time holds."""

import threading
from collections.abc import Sequence

import pytest

from alligator.backends.base import Client, Commit, Lease, Message, Outcome, Verdict
from alligator.backends.unique import Held, Unique
from tests.harness.contract import AT_ONCE, HOUR, balance, drain, elsewhere, take

START = Unique("k")
DONE = Unique("k", until_start=False)
START_OR_HOUR = Unique("k", seconds=HOUR)
DONE_OR_HOUR = Unique("k", until_start=False, seconds=HOUR)
UNIQUES = [START, DONE, START_OR_HOUR, DONE_OR_HOUR]


@pytest.fixture(autouse=True)
def _keeps_keys(client: Client) -> None:
    if not client.keeps_keys:
        pytest.skip("the store decides on no keys")


def push_with(
    client: Client, task_id: str, unique: Unique | None, *, queue: str = "mail", delay: float = 0.0
) -> str | None:
    """Push a task, and return the id of the one that holds its key; None if it was queued."""
    found = client.push_many([Message(queue, task_id, f"data of {task_id}", delay, 0, unique)])
    if found is None:
        return None
    [place] = found
    assert isinstance(place, Held)
    assert place == 0
    return place.task_id


def bury(client: Client, lease: Lease, verdict: Verdict = "dead") -> None:
    client.step((), 0, outcomes=[Outcome(verdict, lease, reason="no luck")])


@pytest.mark.parametrize("unique", UNIQUES)
@pytest.mark.parametrize("delay", [0.0, HOUR])
def test_waiting_task_holds_its_key(client: Client, unique: Unique, delay: float) -> None:
    assert push_with(client, "a", unique, delay=delay) is None

    assert push_with(client, "b", unique) == "a"
    assert push_with(client, "c", Unique("k")) == "a"

    stats = client.stats("mail")
    assert (stats.pushed, stats.ready + stats.scheduled) == (1, 1)
    assert client.cancel("mail", "a") == ("data of a", False)


def test_key_is_held_neither_in_other_queues_nor_under_other_names(client: Client) -> None:
    assert push_with(client, "a", START) is None

    assert push_with(client, "a", START, queue="print") is None
    assert push_with(client, "b", Unique("K")) is None
    assert push_with(client, "c", None) is None
    assert push_with(client, "d", START) == "a"
    assert sorted(drain(client)) == ["a", "b", "c"]


def test_first_lease_frees_a_key_that_is_held_until_the_start(client: Client) -> None:
    push_with(client, "a", START)
    running = take(client)

    assert push_with(client, "b", START) is None
    assert push_with(client, "c", START) == "b"
    client.nack(running)
    assert sorted(drain(client)) == ["a", "b"]
    assert push_with(client, "d", START) is None
    assert balance(client.stats("mail"))


def test_lease_by_id_frees_a_key_that_is_held_until_the_start(client: Client) -> None:
    push_with(client, "a", START)
    assert client.lease("mail", "a")

    assert push_with(client, "b", START) is None


@pytest.mark.parametrize("verdict", ["retry", "release"])
def test_key_is_held_while_its_task_runs_and_waits_for_its_retry(
    client: Client, verdict: Verdict
) -> None:
    push_with(client, "a", DONE)
    running = take(client)

    assert push_with(client, "b", DONE) == "a"
    client.step((), 0, outcomes=[Outcome(verdict, running, HOUR, "later")])
    assert push_with(client, "b", DONE) == "a"
    again = client.lease("mail", "a")
    assert again
    assert push_with(client, "b", START) == "a"
    client.ack(again)
    assert push_with(client, "b", DONE) is None
    assert push_with(client, "c", DONE) == "b"


def test_key_is_held_by_a_task_whose_worker_was_lost(client: Client) -> None:
    push_with(client, "a", DONE)
    take(client, lease_for=AT_ONCE)

    assert push_with(client, "b", DONE) == "a"
    again = take(client)
    assert again.lost == 1
    assert push_with(client, "b", DONE) == "a"
    client.ack(again)
    assert push_with(client, "b", DONE) is None


def test_late_ack_frees_the_key(client: Client) -> None:
    push_with(client, "a", DONE)
    late = take(client, lease_for=AT_ONCE)
    client.step(["mail"], 1, lease_for=AT_ONCE)

    client.ack(late)

    assert push_with(client, "b", DONE) is None


@pytest.mark.parametrize("unique", UNIQUES)
@pytest.mark.parametrize("verdict", ["dead", "expired"])
def test_dead_task_holds_no_key(client: Client, unique: Unique, verdict: Verdict) -> None:
    push_with(client, "a", unique)
    bury(client, take(client), verdict)

    assert push_with(client, "b", unique) is None
    assert push_with(client, "c", unique) == "b"


@pytest.mark.parametrize("unique", UNIQUES)
def test_task_that_was_lost_too_often_holds_no_key(client: Client, unique: Unique) -> None:
    push_with(client, "a", unique)
    take(client, lease_for=AT_ONCE)
    client.step(["mail"], 1, max_lost=1)
    assert client.stats("mail").dead == 1

    assert push_with(client, "b", unique) is None


@pytest.mark.parametrize("unique", UNIQUES)
def test_dead_task_that_runs_again_has_no_key(client: Client, unique: Unique) -> None:
    push_with(client, "a", unique)
    bury(client, take(client))
    client.retry_dead("mail", "a")

    assert push_with(client, "b", unique) is None
    assert sorted(drain(client)) == ["a", "b"]
    assert (push_with(client, "c", unique) is None) == (unique == START)


@pytest.mark.parametrize("unique", UNIQUES)
def test_late_ack_of_a_dead_task_holds_and_frees_no_key(client: Client, unique: Unique) -> None:
    push_with(client, "a", unique)
    late = take(client, lease_for=AT_ONCE)
    client.step(["mail"], 1, max_lost=1)
    push_with(client, "b", unique)

    client.ack(late)

    assert push_with(client, "c", unique) == "b"
    client.cancel("mail", "b")
    assert push_with(client, "d", unique) is None


@pytest.mark.parametrize("unique", UNIQUES)
def test_canceled_and_dropped_tasks_hold_no_key(client: Client, unique: Unique) -> None:
    push_with(client, "a", unique)
    client.cancel("mail", "a")
    assert push_with(client, "b", unique, delay=HOUR) is None
    client.drop_all("mail")
    assert push_with(client, "c", unique) is None
    assert push_with(client, "d", unique) == "c"


@pytest.mark.parametrize("unique", UNIQUES)
def test_canceled_retry_holds_no_key(client: Client, unique: Unique) -> None:
    push_with(client, "a", unique)
    client.nack(take(client), delay=HOUR)
    client.cancel("mail", "a")

    assert push_with(client, "b", unique) is None


@pytest.mark.parametrize("unique", [START_OR_HOUR, DONE_OR_HOUR])
def test_key_is_held_for_its_time_by_tasks_that_run_or_are_done(
    client: Client, unique: Unique
) -> None:
    push_with(client, "a", unique)
    running = take(client)
    assert push_with(client, "b", unique) == "a"
    client.nack(running)
    assert push_with(client, "b", unique) == "a"
    client.ack(take(client))

    assert push_with(client, "b", unique) == "a"
    assert push_with(client, "b", START) == "a"
    assert push_with(client, "b", unique, queue="print") is None


@pytest.mark.parametrize("until_start", [True, False])
def test_key_is_free_when_its_time_has_passed(client: Client, until_start: bool) -> None:
    unique = Unique("k", until_start, 0.001)
    push_with(client, "a", unique)
    running = take(client)
    later = threading.Event()

    def is_free() -> bool:
        later.wait(0.005)
        return push_with(client, "b", unique) is None

    if until_start:
        while not is_free():
            pass
        client.ack(running)
    else:
        assert not is_free()
        client.ack(running)
        while not is_free():
            pass
    assert push_with(client, "c", Unique("k")) == "b"


def test_key_that_is_taken_again_outlives_its_earlier_task(client: Client) -> None:
    push_with(client, "a", Unique("k", seconds=0.001))
    first = take(client)
    later = threading.Event()
    while push_with(client, "b", START_OR_HOUR):
        later.wait(0.005)

    client.nack(first, delay=HOUR)
    assert push_with(client, "c", START) == "b"
    client.cancel("mail", "a")
    assert push_with(client, "c", START) == "b"
    client.ack(take(client))
    assert push_with(client, "c", START) == "b"


@pytest.mark.parametrize("unique", UNIQUES)
def test_aborted_task_holds_no_key(client: Client, unique: Unique) -> None:
    messages = [Message("mail", "a", "1", 0.0, 0, unique), Message("mail", "b", "2")]
    client.push_many(messages, commit_id="c1")
    client.abort("c1", messages)

    assert push_with(client, "c", unique) is None
    assert push_with(client, "d", unique) == "c"


def test_abort_of_a_duplicate_leaves_the_key_to_its_task(client: Client) -> None:
    push_with(client, "a", START)
    messages = [Message("mail", "b", "2", 0.0, 0, START)]
    client.push_many(messages, commit_id="c1")
    client.abort("c1", messages)

    assert push_with(client, "c", START) == "a"


def test_push_reports_both_kinds_of_duplicates(client: Client) -> None:
    push_with(client, "a", START)
    push_with(client, "w", None)
    messages = [
        Message("mail", "b", "{}", 0.0, 0, START),
        Message("print", "b", "{}", 0.0, 0, START),
        Message("mail", "w", "{}", 0.0, 0, Unique("other")),
        Message("mail", "c", "{}", 0.0, 0, Unique("other")),
        Message("mail", "d", "{}", HOUR, 0, Unique("other")),
        Message("mail", "c", "{}"),
        Message("mail", "b", "{}"),
        Message("print", "e", "{}", 0.0, 0, START),
    ]

    for _ in range(2):  # a repeated commit returns the same
        found = client.push_many(messages, commit_id="c1") or ()
        assert [*found] == [0, 2, 4, 5, 7]
        holders = {int(place): place.task_id for place in found if isinstance(place, Held)}
        assert holders == {0: "a", 4: "c", 7: "b"}
    assert sorted(drain(client)) == ["a", "b", "c", "w"]
    assert drain(client, "print") == ["b"]
    assert balance(client.stats("mail"))


def test_commits_of_one_call_compete_for_a_key(client: Client) -> None:
    client.abort("c1", [])
    commits = [
        Commit([Message("mail", each, "1", 0.0, 0, DONE), Message("mail", f"{each}2", "2")], each)
        for each in ("c1", "c2", "c3")
    ]

    refused, first, second = client.push_commits(commits)

    assert isinstance(refused, Exception)
    assert first is None
    assert isinstance(second, Sequence)
    [place] = second
    assert isinstance(place, Held)
    assert (place, place.task_id) == (0, "c2")
    assert sorted(drain(client)) == ["c2", "c22", "c32"]


def test_running_task_keeps_its_key_beside_a_newer_one_of_its_id(client: Client) -> None:
    push_with(client, "a", DONE)
    running = take(client)
    assert push_with(client, "a", Unique("other")) is None

    assert push_with(client, "b", DONE) == "a"
    assert push_with(client, "b", Unique("other")) == "a"
    client.ack(running)
    assert push_with(client, "b", DONE) is None
    assert push_with(client, "c", Unique("other")) == "a"


def test_newer_task_of_an_id_does_not_hold_the_key_of_the_older(client: Client) -> None:
    push_with(client, "a", DONE)
    running = take(client)
    client.push_many([Message("mail", "a", "newer")])
    client.ack(running)

    assert push_with(client, "b", DONE) is None


def test_threads_queue_one_task_of_a_key(client: Client) -> None:
    results: list[str | None] = []
    start = threading.Barrier(4)

    def push_some(name: str) -> None:
        start.wait(20)
        results.extend(push_with(client, f"{name}{number}", DONE) for number in range(10))

    with (
        elsewhere(lambda: push_some("a")),
        elsewhere(lambda: push_some("b")),
        elsewhere(lambda: push_some("c")),
    ):
        push_some("d")

    queued = drain(client)
    assert len(queued) == 1
    assert [each for each in results if each is not None] == queued * 39


def test_tick_of_a_schedule_respects_the_key(client: Client) -> None:
    assert client.push_tick("poll", 1, Message("mail", "a", "1", 0.0, 0, DONE))
    assert client.push_tick("poll", 2, Message("mail", "b", "2", 0.0, 0, DONE))
    running = take(client)
    assert client.push_tick("poll", 3, Message("mail", "c", "3", 0.0, 0, DONE))
    client.ack(running)

    assert client.push_tick("poll", 4, Message("mail", "d", "4", 0.0, 0, DONE))
    assert drain(client) == ["d"]


def test_task_with_a_key_has_its_priority(client: Client) -> None:
    client.push_many(
        [
            Message("mail", "a", "1", 0.0, -1, Unique("a")),
            Message("mail", "b", "2", 0.0, 1, Unique("b", until_start=False)),
            Message("mail", "c", "3"),
            Message("mail", "d", "4", HOUR, 1, Unique("d")),
        ]
    )
    assert client.push_tick("poll", 1, Message("mail", "e", "5", 0.0, 1, Unique("e")))

    assert [each.task_id for each in client.scheduled("mail")] == ["d"]
    leases = client.reserve("mail", limit=5)
    assert [lease.task_id for lease in leases] == ["b", "e", "c", "a"]
    outcomes = [Outcome("ack" if lease.task_id == "e" else "retry", lease) for lease in leases]
    client.step((), 0, outcomes=outcomes[::-1])
    assert push_with(client, "f", Unique("b")) == "b"
    assert [lease.task_id for lease in client.reserve("mail", limit=5)] == ["b", "c", "a"]


def test_many_keys_come_and_go(client: Client) -> None:
    for number in range(3):
        messages = [
            Message("mail", f"{number} {each}", "1", 0.0, 0, Unique(f"k{each}"))
            for each in range(150)
        ]
        assert client.push_many(messages) is None
        assert len(client.push_many(messages) or ()) == 150
        for lease in client.reserve("mail", limit=150):
            client.ack(lease)
    assert client.stats("mail").succeeded == 450


# Replacing.

REPLACE = Unique("k", replace=True)


def push_in_place(
    client: Client, task_id: str, commit_id: str | None = None, **more: float
) -> None:
    messages = [Message("mail", task_id, f"data of {task_id}", more.get("delay", 0.0), 0, REPLACE)]
    assert client.push_many(messages, commit_id=commit_id) is None


def undo(client: Client, *task_ids: str, commit_id: str) -> None:
    client.abort(commit_id, [Message("mail", each, "{}", 0.0, 0, REPLACE) for each in task_ids])


def waiting(client: Client) -> list[str]:
    """Name those that wait, without reserving them; check that the numbers agree."""
    stats = client.stats("mail")
    found = sorted(each.task_id for each in client.peek("mail"))
    assert stats.ready + stats.scheduled == len(found)
    assert balance(stats)
    return found


@pytest.mark.parametrize("delay", [0.0, HOUR])
@pytest.mark.parametrize("unique", [START, REPLACE])
def test_waiting_task_is_replaced(client: Client, unique: Unique, delay: float) -> None:
    push_with(client, "a", unique, delay=delay)
    push_in_place(client, "b", delay=HOUR)
    push_in_place(client, "c")

    stats = client.stats("mail")
    assert (stats.pushed, stats.canceled, stats.ready, stats.scheduled) == (3, 2, 1, 0)
    assert client.cancel("mail", "a") is None
    assert client.cancel("mail", "b") is None
    assert push_with(client, "d", START) == "c"
    assert client.scheduled("mail") == []
    assert client.dead_letters("mail") == []
    assert drain(client) == ["c"]
    assert push_with(client, "d", START) is None


def test_task_that_replaces_none_is_queued(client: Client) -> None:
    push_with(client, "a", START, queue="print")
    push_with(client, "b", Unique("other"))
    push_in_place(client, "c")

    assert waiting(client) == ["b", "c"]
    assert push_with(client, "d", START) == "c"


@pytest.mark.parametrize("unique", [DONE, START_OR_HOUR])
@pytest.mark.parametrize("is_back", [False, True])
def test_task_that_runs_or_ran_is_not_replaced(
    client: Client, unique: Unique, is_back: bool
) -> None:
    push_with(client, "a", unique)
    running = take(client)
    if is_back:
        client.nack(running, delay=HOUR)

    assert push_with(client, "b", REPLACE) == "a"
    stats = client.stats("mail")
    assert (stats.pushed, stats.canceled) == (1, 0)


@pytest.mark.parametrize("unique", [DONE, START_OR_HOUR, DONE_OR_HOUR])
def test_task_that_holds_its_key_for_longer_is_not_replaced(client: Client, unique: Unique) -> None:
    push_with(client, "a", unique, delay=HOUR)

    assert push_with(client, "b", REPLACE) == "a"
    assert waiting(client) == ["a"]


@pytest.mark.parametrize("is_back", [False, True])
def test_task_that_replaces_runs_beside_one_that_began(client: Client, is_back: bool) -> None:
    push_in_place(client, "a")
    running = take(client)
    if is_back:
        client.nack(running)
    push_in_place(client, "b")
    push_in_place(client, "c")
    client.nack(running)

    assert sorted(drain(client)) == ["a", "c"]


def test_task_whose_id_waits_replaces_none(client: Client) -> None:
    push_in_place(client, "a")
    client.push_many([Message("mail", "w", "{}")])

    assert client.push_many([Message("mail", "w", "{}", 0.0, 0, REPLACE)]) == [0]
    assert client.push_many([Message("mail", "a", "{}", HOUR, 0, REPLACE)]) == [0]
    assert waiting(client) == ["a", "w"]


def test_id_of_a_replaced_task_is_free(client: Client) -> None:
    push_in_place(client, "a")
    push_in_place(client, "b")
    client.push_many([Message("mail", "a", "newer")])

    assert sorted(drain(client)) == ["a", "b"]


def test_commit_replaces_its_own_tasks_in_their_order(client: Client) -> None:
    push_in_place(client, "old")
    messages = [
        Message("mail", "a", "1", HOUR, 0, REPLACE),
        Message("mail", "x", "2"),
        Message("mail", "b", "3", 0.0, 0, REPLACE),
        Message("mail", "c", "4", 0.0, 0, START),
    ]

    for _ in range(2):  # a repeated commit replaces nothing
        [place] = list(client.push_many(messages, commit_id="c1") or ())
        assert isinstance(place, Held)
        assert (place, place.task_id) == (3, "b")
        assert waiting(client) == ["b", "x"]
    client.abort("c1", messages)
    assert waiting(client) == ["old"]
    assert push_with(client, "d", START) == "old"


@pytest.mark.parametrize("delay", [0.0, HOUR])
def test_aborted_push_brings_back_what_it_has_replaced(client: Client, delay: float) -> None:
    client.push_many([Message("mail", "a", "data of a", delay, 1, START)])
    client.push_many([Message("mail", "x", "{}", delay)])
    push_in_place(client, "b", "c1")
    undo(client, "b", commit_id="c1")

    stats = client.stats("mail")
    assert (stats.pushed, stats.canceled) == (2, 0)
    assert (stats.ready, stats.scheduled) == ((0, 2) if delay else (2, 0))
    assert waiting(client) == ["a", "x"]
    assert push_with(client, "d", START) == "a"
    push_in_place(client, "e")
    assert waiting(client) == ["e", "x"]


def test_task_that_is_back_has_its_data_and_its_place(client: Client) -> None:
    push_in_place(client, "a")
    client.push_many([Message("mail", "x", "{}")])
    push_in_place(client, "b", "c1")
    undo(client, "b", commit_id="c1")

    assert [(lease.task_id, lease.data) for lease in client.reserve("mail", limit=5)] == [
        *(("a", "data of a"), ("x", "{}"))
    ]
    assert push_with(client, "d", START) is None


def test_aborts_of_tasks_that_replaced_each_other_bring_back_the_first(client: Client) -> None:
    for order in ("bcd", "dcb", "cbd", "cdb"):
        push_in_place(client, "a")
        for each in "bcd":
            push_in_place(client, each, each + order)
        for each in order[:2]:
            undo(client, each, commit_id=each + order)
        left = order[2]
        assert waiting(client) == [left]
        undo(client, left, commit_id=left + order)
        assert waiting(client) == ["a"]
        assert push_with(client, "e", START) == "a"
        client.drop_all("mail")


def test_aborted_push_brings_back_a_task_whose_id_it_has_used(client: Client) -> None:
    client.push_many([Message("mail", "a", "data of a", HOUR, 0, START)])
    messages = [Message("mail", "b", "{}", HOUR, 0, REPLACE), Message("mail", "a", "{}", HOUR)]
    assert client.push_many(messages, commit_id="c1") is None
    client.abort("c1", messages)

    assert [(each.task_id, each.data) for each in client.scheduled("mail")] == [("a", "data of a")]
    assert client.stats("mail").canceled == 0
    assert push_with(client, "d", START) == "a"


def test_aborted_push_brings_nothing_back_if_a_worker_has_its_task(client: Client) -> None:
    push_in_place(client, "a")
    push_in_place(client, "b", "c1")
    running = take(client)
    undo(client, "b", commit_id="c1")

    assert waiting(client) == []
    client.nack(running)
    assert drain(client) == ["b"]


def test_abort_of_another_task_brings_nothing_back(client: Client) -> None:
    push_in_place(client, "a")
    push_in_place(client, "b")
    client.ack(take(client))
    push_in_place(client, "b", "c1")
    undo(client, "b", commit_id="c1")

    assert waiting(client) == []


def test_task_that_is_back_has_no_key_that_another_one_has(client: Client) -> None:
    push_in_place(client, "a")
    messages = [Message("mail", "b", "{}", 0.0, 0, REPLACE), Message("mail", "x", "{}")]
    client.push_many(messages, commit_id="c1")
    client.cancel("mail", "b")
    push_in_place(client, "d")
    client.abort("c1", messages)

    assert waiting(client) == ["d"]
    assert push_with(client, "e", START) == "d"


def test_task_does_not_come_back_if_its_id_waits_again(client: Client) -> None:
    push_in_place(client, "a")
    push_in_place(client, "b", "c1")
    client.push_many([Message("mail", "a", "newer")])
    undo(client, "b", commit_id="c1")

    assert waiting(client) == ["a"]
    assert take(client).data == "newer"
    assert push_with(client, "c", START) is None


def test_task_comes_back_beside_a_newer_one_of_its_id_that_runs(client: Client) -> None:
    push_in_place(client, "a")
    push_in_place(client, "b", "c1", delay=HOUR)
    client.push_many([Message("mail", "a", "newer")])
    newer = take(client)
    undo(client, "b", commit_id="c1")

    assert push_with(client, "c", START) == "a"
    older = take(client)
    assert (newer.data, older.data) == ("newer", "data of a")
    client.ack(older)
    client.ack(newer)
    assert client.stats("mail").succeeded == 2


def test_task_that_its_own_push_replaces_is_in_no_batch(client: Client) -> None:
    messages = [Message("mail", each, "{}", 0.0, 0, REPLACE) for each in "ab"]
    assert client.push_many([*messages, Message("after", "f", "{}", 0.0, 0, None, True)]) is None

    client.ack(take(client))

    assert [lease.data for lease in client.reserve("after")] == ["batch:1,0 {}"]


def test_replaced_task_counts_as_settled(client: Client) -> None:
    client.push_many(
        [
            Message("mail", "a", "{}", 0.0, 0, START),
            Message("after", "f", "{}", 0.0, 0, None, True),
        ]
    )
    push_in_place(client, "b")

    assert [lease.data for lease in client.reserve("after")] == ["batch:1,1 {}"]


def test_threads_replace_each_other(client: Client) -> None:
    start = threading.Barrier(4)

    def push_some(name: str) -> None:
        start.wait(20)
        for number in range(10):
            push_in_place(client, f"{name}{number}", delay=HOUR)

    with (
        elsewhere(lambda: push_some("a")),
        elsewhere(lambda: push_some("b")),
        elsewhere(lambda: push_some("c")),
    ):
        push_some("d")

    [left] = waiting(client)
    assert left[1] == "9"
    stats = client.stats("mail")
    assert (stats.pushed, stats.canceled) == (40, 39)
