"""The contract of every store: pushing tasks, one or several commits at a time."""

import time

import pytest

from alligator.backends.base import (
    Client,
    Commit,
    Message,
    QueueStats,
)
from alligator.constants import MAX_TASK_BYTES, MAX_TASKS
from alligator.exceptions import BackendError
from tests.harness.contract import (
    HOUR,
    drain,
    push,
    take,
)

# Pushing.


def test_pushed_task_is_reserved_as_it_was(client: Client) -> None:
    client.push_many([Message("mail", "a", '{"n": 1}')])

    (lease,) = client.reserve("mail")

    assert (lease.queue_name, lease.task_id, lease.data, lease.lost) == ("mail", "a", '{"n": 1}', 0)


def test_tasks_of_one_call_are_reserved_in_the_order_given(client: Client) -> None:
    names = [f"{n * 7919 % 1000}" for n in range(300)]

    push(client, *names)

    assert drain(client) == names


def test_tasks_of_an_earlier_call_go_first(client: Client) -> None:
    push(client, "z", "y")
    time.sleep(0.002)
    push(client, "a", "b")

    assert drain(client) == ["z", "y", "a", "b"]


def test_push_serves_several_queues(client: Client) -> None:
    client.push_many([Message("mail", "a", "1"), Message("print", "a", "2")])

    assert take(client, "mail").data == "1"
    assert take(client, "print").data == "2"


def test_push_takes_a_thousand_tasks(client: Client) -> None:
    names = [f"t{n}" for n in range(MAX_TASKS)]

    push(client, *names)

    assert drain(client) == names


def test_push_of_nothing_does_nothing(client: Client) -> None:
    client.push_many([])
    client.push_many([], commit_id="nothing")

    assert client.stats("mail") == QueueStats()


def test_push_queues_all_tasks_or_none(client: Client) -> None:
    unfit = Message("mail", "b", object())  # type: ignore[arg-type]
    if client.conn_string.startswith("locmem:"):
        pytest.skip("memory takes anything")
    with pytest.raises(Exception):  # noqa: B017, PT011 - of what kind depends on the store
        client.push_many([Message("mail", "a", "1"), unfit, Message("mail", "c", "3")])

    assert client.len("mail") == 0


def test_id_that_comes_twice_in_one_call_is_queued_once(client: Client) -> None:
    messages = [
        Message("mail", "a", "1"),
        Message("mail", "a", "2", HOUR),
        Message("mail", "b", "3"),
    ]

    client.push_many([messages[0]._replace(task_id="c", delay=HOUR), *messages, messages[0]])

    assert [lease.data for lease in client.reserve("mail", limit=5)] == ["1", "3"]
    assert client.stats("mail").pushed == 3


def test_id_may_be_used_again_once_its_task_is_done(client: Client) -> None:
    push(client, "a")
    client.ack(take(client))

    push(client, "a")

    assert take(client).task_id == "a"


def test_repeated_commit_does_nothing(client: Client) -> None:
    client.push_many([Message("mail", "a", "1")], commit_id="c1")

    client.push_many([Message("mail", "b", "2")], commit_id="c1")

    assert drain(client) == ["a"]


def test_repeated_commit_does_nothing_after_its_tasks_have_run(client: Client) -> None:
    client.push_many([Message("mail", "a", "1")], commit_id="c1")
    client.ack(take(client))

    client.push_many([Message("mail", "a", "1")], commit_id="c1")

    assert client.len("mail") == 0
    assert client.stats("mail").pushed == 1


def test_commits_of_other_ids_are_queued(client: Client) -> None:
    client.push_many([Message("mail", "a", "1")], commit_id="c1")
    client.push_many([Message("mail", "b", "2")], commit_id="c2")

    assert drain(client) == ["a", "b"]


@pytest.mark.parametrize("name", ["all", "a b", "ümläut ☃", "q:{1}", "*", "%s'\"; --", "x" * 200])
def test_queue_may_have_any_name(client: Client, name: str) -> None:
    push(client, "a", queue=name)

    assert client.queue_names() == [name]
    assert take(client, name).queue_name == name


@pytest.mark.parametrize(
    "data", ["", "ümläut ☃ 🐊", '"\\u0000"', "nul \0 byte", "x" * MAX_TASK_BYTES]
)
def test_data_comes_back_unchanged(client: Client, data: str) -> None:
    client.push_many([Message("mail", "ä:1 {x}", data)])

    lease = take(client)

    assert (lease.task_id, lease.data) == ("ä:1 {x}", data)


# Several pushes at once.


def test_commits_of_one_call_have_separate_outcomes(client: Client) -> None:
    given_up = [Message("mail", "b", "2")]
    client.abort("c2", given_up)

    first, second, third = client.push_commits(
        [
            Commit([Message("mail", "a", "1"), Message("print", "p", "3")], "c1"),
            Commit(given_up, "c2"),
            Commit([Message("mail", "c", "4")]),
        ]
    )

    assert first is third is None
    assert isinstance(second, BackendError)
    assert drain(client) == ["a", "c"]
    assert take(client, "print").task_id == "p"


def test_repeated_commits_are_queued_once(client: Client) -> None:
    commits = [Commit([Message("mail", each, "{}")], each) for each in "abc"]
    client.push_commits(commits)

    errors = client.push_commits(commits)

    assert errors == [None, None, None]
    assert sorted(drain(client)) == ["a", "b", "c"]


def test_commit_without_tasks_beside_one_with_a_task(client: Client) -> None:
    commits = [Commit([], "nothing"), Commit([Message("mail", "a", "1")], "c1")]

    assert client.push_commits(commits) == [None, None]

    client.ack(take(client))
    client.push_many([Message("mail", "a", "1")], commit_id="c1")
    assert drain(client) == []
