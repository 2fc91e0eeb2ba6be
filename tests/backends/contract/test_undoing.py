"""The contract of every store: aborting a push."""

import pytest

from alligator.backends.base import (
    Client,
    Commit,
    Message,
)
from alligator.exceptions import BackendError
from tests.harness.contract import (
    HOUR,
    balance,
    drain,
    push,
    take,
)


def test_abort_removes_the_tasks_of_a_push(client: Client) -> None:
    messages = [Message("mail", "a", "1"), Message("print", "b", "2", HOUR)]
    client.push_many(messages, commit_id="c1")

    client.abort("c1", messages)

    assert (client.len("mail"), client.len("print")) == (0, 0)
    assert balance(client.stats("mail"))
    assert balance(client.stats("print"))


def test_push_after_its_abort_is_refused(client: Client) -> None:
    messages = [Message("mail", "a", "1")]
    client.abort("c1", messages)

    with pytest.raises(BackendError):
        client.push_many(messages, commit_id="c1")

    assert client.len("mail") == 0


def test_aborted_push_is_refused_when_repeated(client: Client) -> None:
    messages = [Message("mail", "a", "1")]
    client.push_many(messages, commit_id="c1")
    client.abort("c1", messages)

    with pytest.raises(BackendError):
        client.push_many(messages, commit_id="c1")

    assert client.len("mail") == 0


def test_leased_task_survives_an_abort(client: Client) -> None:
    messages = [Message("mail", "a", "1"), Message("mail", "b", "2")]
    client.push_many(messages, commit_id="c1")
    lease = take(client)

    client.abort("c1", messages)

    assert client.stats("mail").leased == 1
    assert client.len("mail") == 0
    client.ack(lease)
    assert client.stats("mail").succeeded == 1
    assert balance(client.stats("mail"))


def test_tasks_of_other_pushes_survive_an_abort(client: Client) -> None:
    push(client, "a")
    client.push_many([Message("mail", "b", "2")], commit_id="c1")

    client.abort("c2", [Message("mail", "c", "3")])
    client.abort("c1", [Message("mail", "b", "2")])

    assert drain(client) == ["a"]


# An abort removes what its push has added and no worker has had.


def test_task_that_waits_for_its_retry_survives_an_abort(client: Client) -> None:
    messages = [Message("mail", "a", "1"), Message("mail", "b", "2")]
    client.push_many(messages, commit_id="c1")
    client.nack(take(client), delay=HOUR)

    client.abort("c1", messages)

    stats = client.stats("mail")
    assert (stats.scheduled, stats.ready) == (1, 0)
    assert balance(stats)


@pytest.mark.parametrize("delay", [0.0, HOUR])
@pytest.mark.parametrize("commit_id", [None, "c3"])
def test_newer_task_of_the_same_id_survives_an_abort(
    client: Client, commit_id: str | None, delay: float
) -> None:
    messages = [Message("mail", "a", "1"), Message("mail", "b", "2")]
    client.push_many(messages, commit_id="c1")
    client.ack(take(client))
    client.push_many([Message("mail", "a", "new", delay)], commit_id=commit_id)

    client.abort("c1", messages)

    assert client.stats("mail").pushed == 2
    assert client.cancel("mail", "a") == ("new", False)
    assert client.len("mail") == 0


@pytest.mark.parametrize("delay", [0.0, HOUR])
def test_waiting_task_survives_the_abort_of_its_duplicate(client: Client, delay: float) -> None:
    push(client, "a", delay=delay)
    messages = [Message("mail", "b", "1", delay), Message("mail", "a", "2", delay)]
    client.push_many(messages, commit_id="c1")

    client.abort("c1", messages)

    stats = client.stats("mail")
    assert (stats.pushed, stats.ready + stats.scheduled) == (1, 1)
    assert client.cancel("mail", "a") == ("data of a", False)


def test_running_task_of_the_same_id_survives_an_abort(client: Client) -> None:
    push(client, "a")
    running = take(client)
    messages = [Message("mail", "a", "2")]
    client.push_many(messages, commit_id="c1")

    client.abort("c1", messages)

    assert client.len("mail") == 0
    client.ack(running)
    stats = client.stats("mail")
    assert (stats.pushed, stats.succeeded) == (1, 1)


# Ids that somebody chose, such as that of an outbox row: others may push under the same id.


def test_aborted_id_that_was_chosen_is_not_refused(client: Client) -> None:
    messages = [Message("mail", "a", "1")]
    client.abort("row-1", messages)

    client.push_many(messages, commit_id="row-1", undo=False)

    assert drain(client) == ["a"]


@pytest.mark.parametrize("delay", [0.0, HOUR])
def test_push_under_a_chosen_id_is_queued_again_after_its_abort(
    client: Client, delay: float
) -> None:
    messages = [Message("mail", "a", "1", delay), Message("print", "b", "2", delay)]
    client.push_many(messages, commit_id="row-1", undo=False)
    client.abort("row-1", messages)

    client.push_many(messages, commit_id="row-1", undo=False)
    client.push_many(messages, commit_id="row-1", undo=False)

    assert (client.len("mail"), client.len("print")) == (1, 1)
    client.abort("row-1", messages)
    assert (client.len("mail"), client.len("print")) == (0, 0)
    assert balance(client.stats("mail"))


def test_push_under_a_chosen_id_is_queued_once(client: Client) -> None:
    messages = [Message("mail", "a", "1")]
    client.push_many(messages, commit_id="row-1", undo=False)
    client.ack(take(client))

    assert client.push_many(messages, commit_id="row-1", undo=False) is None

    assert client.len("mail") == 0


def test_repeated_push_under_a_chosen_id_reports_the_same_duplicates(client: Client) -> None:
    push(client, "a")
    messages = [Message("mail", "b", "1"), Message("mail", "a", "2")]
    client.abort("row-1", messages)

    reported = [client.push_many(messages, commit_id="row-1", undo=False) for _ in range(2)]

    assert [[*(each or ())] for each in reported] == [[1], [1]]


def test_commits_of_one_call_differ_in_whether_their_ids_were_chosen(client: Client) -> None:
    commits = [
        Commit([Message("mail", task_id, "{}")], task_id, undo=task_id != "b") for task_id in "abc"
    ]
    for commit in commits:
        client.abort(commit.commit_id or "", commit.messages)

    first, second, third = client.push_commits(commits)

    assert isinstance(first, BackendError)
    assert second is None
    assert isinstance(third, BackendError)
    assert drain(client) == ["b"]
