"""The contract of every store: what an id and a token identify."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from alligator.backends.base import (
    Client,
    Commit,
    Message,
    Outcome,
    Verdict,
)
from alligator.exceptions import BackendError
from tests.harness.contract import (
    AT_ONCE,
    HOUR,
    balance,
    drain,
    push,
    take,
)

# An id identifies at most one waiting task.


@pytest.mark.parametrize("delay", [0.0, HOUR])
def test_waiting_task_is_neither_duplicated_nor_changed(client: Client, delay: float) -> None:
    push(client, "a", delay=delay)

    duplicates = client.push_many([Message("mail", "a", "other")])

    stats = client.stats("mail")
    assert duplicates is not None
    assert [*duplicates] == [0]
    assert (stats.pushed, stats.ready + stats.scheduled) == (1, 1)
    assert client.cancel("mail", "a") == ("data of a", False)


def test_push_reports_its_duplicates(client: Client) -> None:
    push(client, "a")
    push(client, "b", queue="print")
    messages = [
        Message(*each, "{}")
        for each in [("print", "a"), ("mail", "a"), ("mail", "c"), ("mail", "c")]
    ]

    assert [*(client.push_many([*messages, Message("print", "b", "{}")]) or ())] == [1, 3, 4]
    assert client.push_many([Message("mail", "d", "{}")]) is None
    assert sorted(drain(client)) == ["a", "c", "d"]
    assert sorted(drain(client, "print")) == ["a", "b"]


def test_repeated_commit_reports_the_same_duplicates(client: Client) -> None:
    push(client, "a")
    messages = [Message("mail", "b", "1"), Message("mail", "a", "2")]
    client.push_many(messages, commit_id="c1")

    assert [*(client.push_many(messages, commit_id="c1") or ())] == [1]


def test_commits_of_one_call_report_their_duplicates(client: Client) -> None:
    push(client, "a")
    client.abort("c2", [])

    first, second, third = client.push_commits(
        [
            Commit([Message("mail", "b", "1"), Message("mail", "a", "2")], "c1"),
            Commit([Message("mail", "c", "3")], "c2"),
            Commit([Message("mail", "d", "4")], "c3"),
        ]
    )

    assert isinstance(first, Sequence)
    assert [*first] == [1]
    assert isinstance(second, BackendError)
    assert third is None


def test_async_push_reports_duplicates(client: Client) -> None:
    push(client, "a")

    [found] = asyncio.run(client.apush_commits([Commit([Message("mail", "a", "2")], "c1")]))

    assert isinstance(found, Sequence)
    assert [*found] == [0]


@pytest.mark.parametrize("delay", [0.0, HOUR])
def test_running_task_does_not_block_a_new_one_of_its_id(client: Client, delay: float) -> None:
    push(client, "a")
    running = take(client)

    assert client.push_many([Message("mail", "a", "new", delay)]) is None

    stats = client.stats("mail")
    assert (stats.leased, stats.ready + stats.scheduled, stats.pushed) == (1, 1, 2)
    assert client.push_many([Message("mail", "a", "newest")]) is not None
    client.ack(running)
    assert client.cancel("mail", "a") == ("new", False)
    assert balance(client.stats("mail"))


def test_dead_task_does_not_block_a_new_one_of_its_id(client: Client) -> None:
    push(client, "a")
    client.dead_letter(take(client), reason="no luck")

    assert client.push_many([Message("mail", "a", "new")]) is None

    lease = take(client)
    assert (lease.task_id, lease.data) == ("a", "new")
    client.ack(lease)
    (letter,) = client.dead_letters("mail")
    assert (letter.task_id, letter.data, letter.reason) == ("a", "data of a", "no luck")
    assert balance(client.stats("mail"))


@pytest.mark.parametrize("verdict", ["retry", "release"])
def test_returned_task_runs_beside_a_newer_one_of_its_id(client: Client, verdict: Verdict) -> None:
    push(client, "a")
    running = take(client)
    client.push_many([Message("mail", "a", "new")])

    client.step((), 0, outcomes=[Outcome(verdict, running)])

    assert client.stats("mail").ready == 2
    # By its id the newer one is meant.
    newer = client.lease("mail", "a")
    assert newer is not None
    assert newer.data == "new"
    client.ack(newer)
    assert client.push_many([Message("mail", "a", "newest")]) is not None
    assert client.cancel("mail", "a") == ("data of a", False)
    assert balance(client.stats("mail"))


def test_lost_task_returns_beside_a_newer_one_of_its_id(client: Client) -> None:
    push(client, "a")
    take(client, lease_for=AT_ONCE)
    client.push_many([Message("mail", "a", "new")])

    leases = [take(client), take(client)]

    assert {(lease.task_id, lease.data, lease.lost) for lease in leases} == {
        ("a", "new", 0),
        ("a", "data of a", 1),
    }
    for lease in leases:
        client.ack(lease)
    assert client.stats("mail").succeeded == 2
    assert balance(client.stats("mail"))


def test_waiting_tasks_of_one_id_are_all_listed_and_dropped(client: Client) -> None:
    push(client, "a")
    running = take(client)
    client.push_many([Message("mail", "a", "new", HOUR)])
    client.nack(running, delay=HOUR / 2)

    assert [(each.task_id, each.data) for each in client.scheduled("mail")] == [
        ("a", "data of a"),
        ("a", "new"),
    ]
    client.drop_all("mail")

    stats = client.stats("mail")
    assert (stats.scheduled, stats.dropped) == (0, 2)
    assert client.push_many([Message("mail", "a", "newest")]) is None
    assert take(client).data == "newest"


def test_latest_dead_task_of_an_id_is_retried_and_dropped(client: Client) -> None:
    for number in range(3):
        client.push_many([Message("mail", "a", f"data {number}")])
        client.dead_letter(take(client), reason=f"no luck {number}")
        time.sleep(0.002)

    assert [letter.data for letter in client.dead_letters("mail")] == ["data 2", "data 1", "data 0"]
    assert {letter.task_id for letter in client.dead_letters("mail")} == {"a"}
    assert client.retry_dead("mail", "a")
    assert take(client).data == "data 2"
    assert client.drop_dead("mail", "a")
    assert [letter.data for letter in client.dead_letters("mail")] == ["data 0"]
    assert client.drop_dead("mail", "a")
    assert not client.drop_dead("mail", "a")
    assert not client.retry_dead("mail", "a")
    assert balance(client.stats("mail"))


def test_dead_task_that_is_retried_returns_beside_a_newer_one(client: Client) -> None:
    push(client, "a")
    client.dead_letter(take(client), reason="no luck")
    client.push_many([Message("mail", "a", "new")])

    assert client.retry_dead("mail", "a")

    assert sorted(lease.data for lease in client.reserve("mail", limit=5)) == ["data of a", "new"]


# A token is never reused: what a frozen worker reports later applies to its own run.


@pytest.mark.parametrize("state", ["ready", "leased", "retrying", "dead"])
@pytest.mark.parametrize("verdict", ["ack", "retry", "release", "dead"])
def test_frozen_worker_changes_no_newer_task_of_its_id(
    client: Client, verdict: Verdict, state: str
) -> None:
    push(client, "a")
    frozen = take(client, lease_for=AT_ONCE)
    client.ack(take(client))
    client.push_many([Message("mail", "a", "new")])
    lease = None if state == "ready" else take(client)
    if lease and state == "retrying":
        client.nack(lease, delay=HOUR)
    if lease and state == "dead":
        client.dead_letter(lease, reason="no luck")
    before = client.stats("mail")._replace(oldest=0.0)

    client.step((), 0, outcomes=[Outcome(verdict, frozen, HOUR, "old", "late", "late")])

    assert client.stats("mail")._replace(oldest=0.0) == before
    assert client.extend([frozen], HOUR) == [frozen]
    if state == "dead":
        assert [letter.data for letter in client.dead_letters("mail")] == ["new"]
        assert client.retry_dead("mail", "a")
    if lease and state == "leased":
        assert client.extend([lease], HOUR) == []
        client.nack(lease)
    assert client.cancel("mail", "a") == ("new", False)


def test_late_ack_removes_its_own_task_and_not_the_newer_one(client: Client) -> None:
    push(client, "a")
    frozen = take(client, lease_for=AT_ONCE)
    client.push_many([Message("mail", "a", "new")])
    again = client.step(["mail"], 2).leases

    client.ack(frozen)

    stats = client.stats("mail")
    assert (stats.succeeded, stats.ready + stats.leased) == (1, 1)
    for lease in again:
        client.ack(lease)
    assert client.stats("mail").succeeded + client.stats("mail").ready == 2
    assert balance(client.stats("mail"))


@pytest.mark.parametrize("state", ["scheduled", "dead"])
def test_late_ack_finds_its_task_beside_a_newer_one(client: Client, state: str) -> None:
    push(client, "a")
    frozen = take(client, lease_for=AT_ONCE)
    current = take(client)
    client.push_many([Message("mail", "a", "new")])
    if state == "dead":
        client.dead_letter(current, reason="no luck")
    else:
        client.nack(current, delay=HOUR)

    client.ack(frozen)

    stats = client.stats("mail")
    assert (stats.succeeded, stats.ready, stats.scheduled, stats.dead) == (1, 1, 0, 0)
    assert take(client).data == "new"
    assert balance(stats)


def test_tokens_differ_between_pushes(client: Client) -> None:
    tokens = []
    for _ in range(3):
        push(client, "a")
        lease = take(client)
        tokens.append(lease.token)
        client.ack(lease)
    client.drop_all("mail")
    push(client, "a")
    tokens.append(take(client).token)

    assert len(set(tokens)) == 4
