"""Commits: their messages, their time limit, and faults while they are sent."""

import asyncio
import json
import time
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest

from alligator.backends.base import Commit, Message
from alligator.backends.sqs_backend import Client
from alligator.backends.sqs_backend.errors import Unanswered
from alligator.commits.committer import Committer
from alligator.exceptions import BackendError, BackendUnavailable, TaskTooLarge, TooManyTasks
from tests.backends.conftest import PATIENCE
from tests.harness.programs import SLACK
from tests.harness.sqs_proxy import Hold, SqsProxy
from tests.harness.sqs_queues import HOUR, RawQueue, drain, intercept, open_clients, push


def test_commit_is_one_message_until_a_worker_receives_it(client: Client) -> None:
    push(client, "a", "b", "c")
    raw = RawQueue(client)
    assert [[task["id"] for task in json.loads(body)["tasks"]] for body in raw.bodies()] == [
        ["a", "b", "c"]
    ]

    assert [lease.task_id for lease in client.reserve("mail", limit=2)] == ["a", "b"]

    assert [[task["id"] for task in json.loads(body)["tasks"]] for body in raw.bodies()] == [["c"]]


def test_commit_of_scheduled_tasks_is_delayed_by_sqs(client: Client) -> None:
    push(client, "a", "b", delay=HOUR)

    assert RawQueue(client).count("Delayed") == 1
    assert drain(client) == []


def test_commit_that_is_too_long_is_sent_as_several_messages(client: Client) -> None:
    long = "x" * 250_000
    client.push_many([Message("mail", str(n), long) for n in range(6)])

    assert len(RawQueue(client).bodies()) == 2
    assert sorted(drain(client)) == [str(n) for n in range(6)]


def test_commit_respects_the_message_size_of_its_queue(client: Client) -> None:
    RawQueue(client).set(MaximumMessageSize=262_144)

    client.push_many([Message("mail", str(n), "x" * 200_000) for n in range(2)])
    with pytest.raises(TaskTooLarge, match="262,144"):
        client.push_many([Message("mail", "c", ""), Message("mail", "b", "ü" * 131_072)])

    assert len(RawQueue(client).bodies()) == 2


def test_commit_has_at_most_a_thousand_tasks(client: Client) -> None:
    with pytest.raises(TooManyTasks):
        push(client, *(str(n) for n in range(1001)))


def test_commit_that_fails_half_way_can_be_continued(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [Message("mail", "a", "1"), Message("print", "b", "2")]
    url = client._sqs.queue("print")
    away = True

    def answer(operation: str, params: dict[str, Any]) -> None:
        if away and operation == "send_message" and params["QueueUrl"] == url:
            raise BackendUnavailable("gone")

    intercept(client, monkeypatch, answer)

    with pytest.raises(BackendUnavailable, match="1 of 2 messages"):
        client.push_many(messages, commit_id="c1")
    away = False
    client.push_many(messages, commit_id="c1")

    assert (drain(client), drain(client, "print")) == (["a"], ["b"])


def test_commit_that_was_sent_cannot_be_aborted(client: Client) -> None:
    messages = [Message("mail", "a", "1")]
    client.push_many(messages, commit_id="c1")

    with pytest.raises(BackendError, match="cannot take back"):
        client.abort("c1", messages)

    client.abort("c2", messages)
    with pytest.raises(BackendError, match="aborted"):
        client.push_many(messages, commit_id="c2")
    assert drain(client) == ["a"]


def test_push_is_repeated_after_a_broken_connection(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    client._sqs.queue("mail")  # to find it takes time, too

    def answer(operation: str, params: dict[str, Any]) -> None:
        if operation == "send_message":
            tries.append(params)
            if len(tries) == 1:
                raise BackendUnavailable("broken")

    intercept(client, monkeypatch, answer)

    push(client, "a")

    assert (len(tries), drain(client)) == (2, ["a"])


# Time limits.


def test_commit_of_many_messages_ends_in_time(
    client: Client, connect: Callable[..., Client], proxy: SqsProxy
) -> None:
    push(client, "a")
    hasty = connect()
    push(hasty, "b")
    open_clients(hasty)
    hasty.commit_seconds = 2.0
    never = Event()

    with proxy.rule(lambda r: Hold(never, 0.2) if r.operation == "SendMessage" else None):
        began = time.monotonic()
        # On a busy machine, not even the first message is sent in time.
        late = "did not answer in time|of 16 messages of the commit were sent"
        with pytest.raises(BackendUnavailable, match=late):
            hasty.push_many([Message("mail", str(n), "x" * 700_000) for n in range(16)])
        took = time.monotonic() - began

    assert took < 2 + SLACK
    assert proxy.count("SendMessage") < 2 + 12


def test_commit_sends_nothing_when_a_queue_is_not_found_in_time(
    connect: Callable[..., Client], proxy: SqsProxy
) -> None:
    client = connect(patience=2.0)
    never = Event()

    with proxy.rule(lambda r: Hold(never, 0.4) if r.operation == "CreateQueue" else None):
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="in time"):
            client.push_many([Message(f"q{n}", "a", "data") for n in range(20)])
        took = time.monotonic() - began

    assert took < 2 + SLACK
    assert proxy.count("SendMessage") == 0


def test_patient_push_may_take_longer_than_a_commit(
    client: Client, connect: Callable[..., Client], proxy: SqsProxy
) -> None:
    push(client, "a")
    hasty = connect(patience=0.1)
    messages = [Message("mail", str(n), "x" * 700_000) for n in range(3)]

    with pytest.raises(BackendUnavailable):
        hasty.push_many(messages, commit_id="c")
    [pushed] = hasty.push_commits([Commit(messages, "c", deadline=time.monotonic() + PATIENCE)])

    assert pushed is None

    assert proxy.count("SendMessage") == 1 + 3


def test_commits_of_an_event_loop_run_in_parallel(
    client: Client, connect: Callable[..., Client], proxy: SqsProxy
) -> None:
    push(client, "a")
    hasty = connect()
    push(hasty, "b")
    open_clients(hasty)
    hasty.commit_seconds = 2.0
    never = Event()
    commits = [Commit([Message("mail", f"c{n}", "data")], f"c{n}") for n in range(10)]
    committer = Committer(hasty, breaker=False)

    async def push_all() -> list[object]:
        pushes = [committer.commit(each, awaits=True) for each in commits]
        return await asyncio.gather(*pushes, return_exceptions=True)

    with proxy.rule(lambda r: Hold(never, 5.0) if r.operation == "SendMessage" else None):
        began = time.monotonic()
        outcomes = asyncio.run(push_all())
        took = time.monotonic() - began

    assert [type(outcome) for outcome in outcomes] == [Unanswered] * 10
    assert took < 2 + SLACK
