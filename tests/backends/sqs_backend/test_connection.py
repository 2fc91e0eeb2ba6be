"""Requests to SQS: queues, batches and time limits."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from alligator.backends.base import Message, Outcome
from alligator.backends.sqs_backend import Client
from alligator.backends.sqs_backend.commits import _Commit
from alligator.backends.sqs_backend.credentials import _Found
from alligator.exceptions import BackendError, BackendUnavailable, ConfigurationError
from tests.harness.programs import SLACK
from tests.harness.sqs_queues import RawQueue, drain, intercept, open_clients, push

# Queues.


@pytest.mark.parametrize("name", ["x" * 76, "ü" * 20, ""])
def test_name_that_is_too_long_for_sqs_is_rejected(name: str) -> None:
    with pytest.raises(ConfigurationError, match="1 to 75"):
        Client("sqs://eu-west-1/").push(name, "a", "data")


def test_queues_of_other_prefixes_are_not_listed(client: Client, sqs: str) -> None:
    push(client, "a")
    push(client, "a", queue="mail_dead")
    other, bare = Client(f"{sqs}?prefix={uuid4().hex}-"), Client(sqs)
    push(bare, "a", queue=uuid4().hex)

    assert client.queue_names() == ["mail", "mail_dead"]
    assert other.queue_names() == []
    assert len(bare.queue_names()) == 1
    other.close()
    bare.close()


def test_created_queue_keeps_tasks_as_long_as_possible(client: Client) -> None:
    push(client, "a")

    reply = client._sqs.attributes(client._sqs.queue("mail"), "All")
    assert reply["MessageRetentionPeriod"] == str(14 * 86_400)
    assert reply["MaximumMessageSize"] == str(1024 * 1024)
    policy = json.loads(reply["RedrivePolicy"])
    assert policy["deadLetterTargetArn"].endswith("mail_dead")
    assert policy["maxReceiveCount"] == 100
    assert client.warnings() == []


def test_missing_queue_is_not_created_with_create_no(
    connect: Callable[..., Client],
) -> None:
    client = connect("&create=no")

    with pytest.raises(BackendError, match="aws sqs create-queue --queue-name"):
        push(client, "a")
    push(connect(), "a")
    push(client, "b")

    assert sorted(drain(client)) == ["a", "b"]


def test_deleted_queue_is_created_again(client: Client) -> None:
    push(client, "a")
    client._sqs.call("delete_queue", QueueUrl=client._sqs.queue("mail"))

    push(client, "b")

    assert drain(client) == ["b"]


# Requests.


def test_failed_messages_of_a_batch_are_sent_once_more(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(client, *"abc")
    leases = client.reserve("mail", limit=3)
    calls: list[int] = []

    def answer(operation: str, params: dict[str, Any]) -> dict[str, Any] | None:
        if operation != "send_message_batch":
            return None
        calls.append(len(params["Entries"]))
        if len(calls) > 1:
            return None
        keep, *rest = params["Entries"]
        RawQueue(client).send(body=keep["MessageBody"])
        error = {"SenderFault": False, "Code": "InternalError"}
        return {"Failed": [{"Id": entry["Id"], **error} for entry in rest]}

    intercept(client, monkeypatch, answer)

    client.step((), 0, outcomes=[Outcome("retry", lease) for lease in leases])

    assert calls == [3, 2]
    assert sorted(drain(client)) == ["a", "b", "c"]


def test_push_to_a_server_that_hangs_ends_in_time(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(client, "a")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        hanging = Client(f"sqs+{address}/?region=us-east-1")
        open_clients(hanging)
        hanging.commit_seconds = 2.0
        monkeypatch.setitem(hanging._sqs._urls, "mail", address + "/1/mail")
        began = time.monotonic()

        with pytest.raises(BackendUnavailable, match="did not answer in time"):
            push(hanging, "b")

        assert time.monotonic() - began < 2 + SLACK
        hanging.close()


@pytest.mark.timeout(120, method="thread")
@pytest.mark.parametrize(
    ("holder", "method"),
    [(threading.Thread, "start"), (_Found, "_open"), (_Commit, "__init__")],
    ids=["search for credentials", "client of boto3", "record of a commit"],
)
def test_signal_handler_that_interrupts_a_push_is_refused_at_once(
    client: Client, monkeypatch: pytest.MonkeyPatch, holder: type, method: str
) -> None:
    original, sent = getattr(holder, method), list[bool]()
    refused, took = list[BackendError](), list[float]()

    def handle(*args: object) -> None:
        began = time.monotonic()
        try:
            client.push_many([Message("mail", "handler", "data")], commit_id="handler")
        except BackendError as error:
            refused.append(error)
        took.append(time.monotonic() - began)

    def interrupted(*args: Any, **named: Any) -> Any:
        if not sent and threading.current_thread() is threading.main_thread():
            sent.append(True)
            os.kill(os.getpid(), signal.SIGUSR1)
            while not took:  # the handler runs here
                time.sleep(0.001)
        return original(*args, **named)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(holder, method, interrupted)
            client.push_many([Message("mail", "own", "data")], commit_id="own")
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert took[0] < client.commit_seconds / 2
    assert all("signal handler" in str(error) for error in refused)
    assert sorted(drain(client)) == (["own"] if refused else ["handler", "own"])


def test_missing_region_is_reported_with_the_remedy(
    sqs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(ConfigurationError, match=r"\?region=eu-west-1 .*AWS_REGION"):
        push(Client(sqs), "a")


def test_forked_child_and_its_parent_continue(client: Client) -> None:
    push(client, "before")
    client.wait(["mail"], 20)

    child = os.fork()
    if not child:
        code = 1
        with suppress(BaseException):
            code = len(drain(client))  # what its parent has received is not for it
            push(client, *(f"child {n}" for n in range(5)))
            client.close()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    for n in range(5):
        push(client, f"parent {n}")

    assert status == 0
    assert len(drain(client)) == 11
