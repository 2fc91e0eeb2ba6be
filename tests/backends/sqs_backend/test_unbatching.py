"""Messages of several tasks, which workers split."""

import json
import time
from collections import Counter

import pytest

from alligator.backends.base import Message
from alligator.backends.sqs_backend import Client
from tests.harness.contract import becomes
from tests.harness.sqs_proxy import Fail, Fault, Refuse, Request, SqsProxy
from tests.harness.sqs_queues import RawQueue, denies, drain, push, run_all, take


def test_tasks_of_a_commit_are_reserved_in_its_order(client: Client) -> None:
    names = [str(n) for n in range(25)]

    push(client, *names)

    assert drain(client) == names


def test_tasks_of_a_commit_start_with_no_lost_leases(client: Client) -> None:
    push(client, "a", "b")
    RawQueue(client).bodies()

    assert [lease.lost for lease in client.reserve("mail", limit=2)] == [0, 0]


def test_tasks_of_a_commit_have_delays_of_their_own(client: Client) -> None:
    client.push_many([Message("mail", "a", "1"), Message("mail", "b", "2", 3.0)])

    assert drain(client) == ["a"]
    assert client.stats("mail").scheduled == 1
    assert becomes(lambda: drain(client) == ["b"])


def test_task_that_was_sent_again_is_reserved_when_due(client: Client) -> None:
    tasks = [{"id": "b", "data": "2", "delay": 3.0, "lost": 2}]
    RawQueue(client).send(json.dumps({"alligator": 1, "tasks": tasks}))

    assert drain(client) == []
    time.sleep(3.1)

    lease = take(client)
    assert (lease.task_id, lease.data, lease.lost) == ("b", "2", 2)


# Faults.


def test_message_that_was_partly_split_is_continued(client: Client, proxy: SqsProxy) -> None:
    names = [f"{n:03}" for n in range(60)]
    push(client, *names)
    calls = Counter[str]()

    def every_third(request: Request) -> Fault:
        calls[request.operation] += 1
        is_due = request.operation == "SendMessageBatch" and calls[request.operation] % 3 == 0
        return Refuse() if is_due else None

    with proxy.rule(every_third):
        ran = run_all(client)

    assert Counter(ran) == Counter(names)


def test_tasks_that_cannot_be_sent_alone_are_sent_together(client: Client, proxy: SqsProxy) -> None:
    names = [f"{n:03}" for n in range(30)]
    push(client, *names)
    faults = iter([None, Refuse(), Refuse(), Fail(frozenset("0")), Fail(frozenset("0"))])

    def rule(request: Request) -> Fault:
        return next(faults, None) if request.operation == "SendMessageBatch" else None

    with proxy.rule(rule):
        client.reserve("mail")

    sent = [r for r in proxy.seen if r.operation == "SendMessageBatch"]
    (rest,) = sent[-1].entries
    tasks = json.loads(rest["MessageBody"])["tasks"]
    assert len(tasks) in (10, 11)
    assert client.reserve("mail", limit=1)


def test_tasks_that_were_sent_are_not_sent_again_after_a_failure(
    client: Client, proxy: SqsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.backends.sqs_backend.unbatching.AGAIN_SECONDS", 0)
    names = [f"{n:03}" for n in range(20)]
    push(client, *names)
    first = iter([None])

    def only_the_first(request: Request) -> Fault:
        if request.operation != "SendMessageBatch":
            return None
        return next(first, Refuse())

    with proxy.rule(only_the_first):
        client.reserve("mail", limit=1)
    ran = run_all(client)

    assert set(names) - set(ran) == set()
    sent = [
        task["id"]
        for request in proxy.seen
        if request.operation == "SendMessageBatch"
        for entry in request.entries
        for task in json.loads(entry["MessageBody"])["tasks"]
    ]
    assert [sent.count(name) for name in names[:10]] == [1] * 10


def test_message_whose_deletion_failed_is_deleted_next_time(
    client: Client, proxy: SqsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.backends.sqs_backend.unbatching.AGAIN_SECONDS", 0)
    names = [f"{n:03}" for n in range(5)]
    push(client, *names)

    with proxy.rule(denies("DeleteMessageBatch", code="ThrottlingException")):
        leases = [*client.reserve("mail", limit=1)]
    ran = run_all(client)

    assert Counter([*ran, *(lease.task_id for lease in leases)]) == Counter(names)


def test_long_message_is_hidden_for_half_a_minute_at_a_time(
    client: Client, proxy: SqsProxy
) -> None:
    push(client, *(f"{n:03}" for n in range(20)))

    client.reserve("mail", limit=1, lease_for=5)

    hidden = [
        entry["VisibilityTimeout"]
        for request in proxy.seen
        if request.operation == "ChangeMessageVisibilityBatch"
        for entry in request.entries
    ]
    assert hidden == [30]
