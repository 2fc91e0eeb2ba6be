"""What only SQS does, and what it does where it cannot keep the contract."""

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Lease, Message, Outcome
from alligator.backends.sqs_backend import Client
from alligator.backends.sqs_dsn import decode, encode, read_dsn
from alligator.exceptions import (
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    TaskTooLarge,
    TooManyTasks,
)
from alligator.health import Health
from tests import sample_tasks
from tests.backends.conftest import MOTO_LIMITS, SQS_LIMITS
from tests.programs import SLACK

HOUR = 3600.0


@pytest.fixture
def dsn(sqs: str) -> str:
    return f"{sqs}?prefix={uuid4().hex[:8]}-&poll=0"


@pytest.fixture
def connect(dsn: str) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def open_another(options: str = "") -> Client:
        clients.append(Client(dsn + options))
        return clients[-1]

    yield open_another
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    return connect()


class Raw:
    """A queue as SQS shows it, past our client."""

    def __init__(self, client: Client, queue: str = "mail", *, dead: bool = False) -> None:
        self.sqs = client._sqs.client()
        self.url = client._sqs.queue(queue, dead=dead)

    def send(self, body: str, **params: Any) -> str:
        return str(
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body, **params)["MessageId"]
        )

    def bodies(self) -> list[str]:
        """Look at up to ten messages, and leave them there."""
        reply = self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return [message["Body"] for message in reply.get("Messages", ())]

    def count(self, state: str = "") -> int:
        name = f"ApproximateNumberOfMessages{state}"
        reply = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])
        return int(reply["Attributes"][name])

    def set(self, **attributes: object) -> None:
        given = {name: str(value) for name, value in attributes.items()}
        self.sqs.set_queue_attributes(QueueUrl=self.url, Attributes=given)


def push(client: Client, *task_ids: str, queue: str = "mail", delay: float = 0.0) -> None:
    client.push_many([Message(queue, task_id, f"data of {task_id}", delay) for task_id in task_ids])


def take(client: Client, *, lease_for: float = HOUR) -> Lease:
    (lease,) = client.reserve("mail", lease_for=lease_for)
    return lease


def drain(client: Client, queue: str = "mail") -> list[str]:
    return [lease.task_id for lease in client.reserve(queue, limit=100)]


def failing(
    client: Client, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str, dict[str, Any]], Any]
) -> None:
    """Let *answer* see each request first: what it returns or raises stands for SQS."""
    real = client._sqs.call

    def call(operation: str, *, quick: bool = False, **params: Any) -> dict[str, Any]:
        said: dict[str, Any] | None = answer(operation, params)
        return real(operation, quick=quick, **params) if said is None else said

    monkeypatch.setattr(client._sqs, "call", call)


def test_the_lists_of_what_sqs_cannot_do_name_tests_that_exist() -> None:
    here = Path(__file__).parent
    text = (here / "test_contract.py").read_text() + (here / "test_model.py").read_text()
    listed = [*SQS_LIMITS.values(), *MOTO_LIMITS.values()]
    names = [name.partition("[")[0] for names in listed for name in names]

    assert set(names) <= set(re.findall(r"def (test_\w+)\(", text))
    assert len(names) == len(set(names))


# The DSN, and names.


@pytest.mark.parametrize(
    ("dsn", "region", "endpoint"),
    [
        ("sqs://eu-west-1/", "eu-west-1", None),
        ("sqs://eu-west-1", "eu-west-1", None),
        ("sqs://", None, None),
        ("sqs+http://localhost:9324/", None, "http://localhost:9324"),
        ("sqs+https://sqs.example/?region=us-west-2", "us-west-2", "https://sqs.example"),
    ],
)
def test_a_dsn_names_a_region_or_a_server(
    dsn: str, region: str | None, endpoint: str | None
) -> None:
    settings = read_dsn(dsn)

    assert (settings.region, settings.endpoint) == (region, endpoint)


@pytest.mark.parametrize(
    ("dsn", "way_out"),
    [
        ("sqs://AKIA:s3cret@eu-west-1/", "AWS_ACCESS_KEY_ID"),
        ("sqs://AKIA@eu-west-1/", "AWS_ACCESS_KEY_ID"),
        ("sqs://eu-west-1/mail", "sqs://region/"),
        ("sqs://localhost:9324/", "region"),
        ("sqs+http:///", "sqs+http://localhost:9324/"),
        ("sqs+http://localhost:x/", "sqs+http://host:port/"),
        ("sqs://eu-west-1/?password=s3cret", "prefix, region, poll, create"),
        ("sqs://eu-west-1/?poll=21", "from 0 to 20"),
        ("sqs://eu-west-1/?poll=0.5", "whole number"),
        ("sqs://eu-west-1/?create=perhaps", "yes or no"),
        ("sqs://eu-west-1/?prefix=a.b", "letters, digits"),
    ],
)
def test_a_dsn_that_cannot_work_is_refused_with_the_way_out(dsn: str, way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(way_out)) as caught:
        Client(dsn)

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["mail", "a b", "ü☃", "_x20", "a_x2", "mail_dead", "dead", "_dead_dead", "x.fifo", "\n"]
)
def test_a_name_comes_back_from_what_sqs_allows(name: str) -> None:
    encoded = encode(name)

    assert decode(encoded) == name
    assert re.fullmatch("[A-Za-z0-9_-]+", encoded)
    assert not encoded.endswith("_dead")


@pytest.mark.parametrize("name", ["x" * 76, "ü" * 20, ""])
def test_a_name_that_sqs_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="1 to 75"):
        Client("sqs://eu-west-1/").push(name, "a", "data")


def test_queues_of_other_prefixes_are_not_named(client: Client, sqs: str) -> None:
    push(client, "a")
    push(client, "a", queue="mail_dead")
    other, bare = Client(f"{sqs}?prefix={uuid4().hex}-"), Client(sqs)
    push(bare, "a", queue=uuid4().hex)

    assert client.queue_names() == ["mail", "mail_dead"]
    assert other.queue_names() == []
    assert len(bare.queue_names()) == 1
    other.close()
    bare.close()


# Queues.


def test_a_queue_is_made_with_what_keeps_tasks_longest(client: Client) -> None:
    push(client, "a")

    reply = client._sqs.attributes(client._sqs.queue("mail"), "All")
    assert reply["MessageRetentionPeriod"] == str(14 * 86_400)
    assert reply["MaximumMessageSize"] == str(1024 * 1024)
    policy = json.loads(reply["RedrivePolicy"])
    assert policy["deadLetterTargetArn"].endswith("mail_dead")
    assert policy["maxReceiveCount"] == 100
    assert client.warnings() == []


def test_a_missing_queue_is_not_made_when_that_is_forbidden(
    connect: Callable[..., Client],
) -> None:
    client = connect("&create=no")

    with pytest.raises(BackendError, match="aws sqs create-queue --queue-name"):
        push(client, "a")
    push(connect(), "a")
    push(client, "b")

    assert sorted(drain(client)) == ["a", "b"]


def test_a_queue_that_was_deleted_is_made_again(client: Client) -> None:
    push(client, "a")
    client._sqs.call("delete_queue", QueueUrl=client._sqs.queue("mail"))

    push(client, "b")

    assert drain(client) == ["b"]


def test_to_look_at_a_queue_does_not_make_it(client: Client) -> None:
    client.stats("mail")
    client.len("mail")
    client.dead_letters("mail")
    client.drop_all("mail")
    client.ping()

    assert client._sqs.names() == []


def test_health_warns_of_a_set_up_that_loses_tasks(
    client: Client, connect: Callable[..., Client]
) -> None:
    push(client, "a")
    elsewhere = client._sqs.attributes(client._sqs.queue("other", dead=True), "QueueArn")
    policy = {"deadLetterTargetArn": elsewhere["QueueArn"], "maxReceiveCount": 3}
    Raw(client).set(MessageRetentionPeriod=4 * 86_400, RedrivePolicy=json.dumps(policy))
    Raw(client, dead=True).set(MessageRetentionPeriod=86_400)

    warnings = [text for text in connect().warnings() if "mail" in text]

    for text, part in zip(
        warnings,
        ["for 4 days", "maxReceiveCount", "`latergator dead` does not look", "for 1 days"],
        strict=True,
    ):
        assert part in text


# A commit.


def test_a_commit_is_one_message_until_a_worker_opens_it(client: Client) -> None:
    push(client, "a", "b", "c")
    raw = Raw(client)
    assert [[task["id"] for task in json.loads(body)["tasks"]] for body in raw.bodies()] == [
        ["a", "b", "c"]
    ]

    assert [lease.task_id for lease in client.reserve("mail", limit=2)] == ["a", "b"]

    assert [[task["id"] for task in json.loads(body)["tasks"]] for body in raw.bodies()] == [["c"]]


def test_a_task_of_a_commit_is_lost_no_more_often_than_the_others(client: Client) -> None:
    push(client, "a", "b")
    Raw(client).bodies()

    assert [lease.lost for lease in client.reserve("mail", limit=2)] == [0, 0]


def test_tasks_of_a_commit_are_reserved_in_its_order(client: Client) -> None:
    names = [str(n) for n in range(25)]

    push(client, *names)

    assert drain(client) == names


def test_tasks_of_a_commit_have_delays_of_their_own(client: Client) -> None:
    client.push_many([Message("mail", "a", "1"), Message("mail", "b", "2", 0.5)])

    assert drain(client) == ["a"]
    assert client.stats("mail").scheduled == 1
    time.sleep(1.1)
    assert drain(client) == ["b"]


def test_a_commit_of_scheduled_tasks_is_held_back_by_sqs(client: Client) -> None:
    push(client, "a", "b", delay=HOUR)

    assert Raw(client).count("Delayed") == 1
    assert drain(client) == []


def test_a_commit_that_is_too_long_for_one_message_is_several(client: Client) -> None:
    long = "x" * 250_000
    client.push_many([Message("mail", str(n), long) for n in range(6)])

    assert len(Raw(client).bodies()) == 2
    assert sorted(drain(client)) == [str(n) for n in range(6)]


def test_a_queue_may_take_shorter_messages_only(client: Client) -> None:
    Raw(client).set(MaximumMessageSize=262_144)

    client.push_many([Message("mail", str(n), "x" * 200_000) for n in range(2)])
    with pytest.raises(TaskTooLarge, match="262,144"):
        client.push_many([Message("mail", "c", ""), Message("mail", "b", "ü" * 131_072)])

    assert len(Raw(client).bodies()) == 2


def test_a_commit_has_a_thousand_tasks_at_most(client: Client) -> None:
    with pytest.raises(TooManyTasks):
        push(client, *(str(n) for n in range(1001)))


def test_a_commit_that_fails_half_way_says_what_stays_and_can_be_gone_on_with(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [Message("mail", "a", "1"), Message("print", "b", "2")]
    url = client._sqs.queue("print")
    away = True

    def answer(operation: str, params: dict[str, Any]) -> None:
        if away and operation == "send_message" and params["QueueUrl"] == url:
            raise BackendUnavailable("gone")

    failing(client, monkeypatch, answer)

    with pytest.raises(BackendUnavailable, match="1 of 2 messages"):
        client.push_many(messages, commit_id="c1")
    away = False
    client.push_many(messages, commit_id="c1")

    assert (drain(client), drain(client, "print")) == (["a"], ["b"])


def test_what_was_sent_cannot_be_taken_back(client: Client) -> None:
    messages = [Message("mail", "a", "1")]
    client.push_many(messages, commit_id="c1")

    with pytest.raises(BackendError, match="cannot take back"):
        client.abort("c1", messages)

    client.abort("c2", messages)
    with pytest.raises(BackendError, match="aborted"):
        client.push_many(messages, commit_id="c2")
    assert drain(client) == ["a"]


def test_a_push_whose_connection_breaks_is_tried_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    client._sqs.queue("mail")  # to find it takes time, too

    def answer(operation: str, params: dict[str, Any]) -> None:
        if operation == "send_message":
            tries.append(params)
            if len(tries) == 1:
                raise BackendUnavailable("broken")

    failing(client, monkeypatch, answer)

    push(client, "a")

    assert (len(tries), drain(client)) == (2, ["a"])


# Long delays.


def test_a_delay_of_more_than_fifteen_minutes_is_sent_on(client: Client) -> None:
    push(client, "a", delay=HOUR)
    raw = Raw(client)
    assert raw.count("Delayed") == 1
    # What is left when SQS has held it for as long as it can.
    late = {"alligator": 1, "tasks": [{"id": "b", "data": "2", "delay": 2000, "lost": 2}]}
    raw.send(json.dumps(late))

    assert drain(client) == []

    assert (raw.count("Delayed"), raw.count(), raw.count("NotVisible")) == (2, 0, 0)


def test_a_task_that_was_sent_on_is_given_when_it_is_due(client: Client) -> None:
    tasks = [{"id": "b", "data": "2", "delay": 1.0, "lost": 2}]
    Raw(client).send(json.dumps({"alligator": 1, "tasks": tasks}))

    assert drain(client) == []
    time.sleep(1.1)

    lease = take(client)
    assert (lease.task_id, lease.data, lease.lost) == ("b", "2", 2)


# Leases.


def test_lost_workers_are_counted_through_retries_and_releases(client: Client) -> None:
    push(client, "a")
    take(client, lease_for=0)

    client.release(take(client))
    client.nack(take(client), data="other")

    lease = take(client)
    assert (lease.data, lease.lost) == ("other", 1)


def test_a_task_that_was_lost_too_often_is_dead(client: Client) -> None:
    push(client, "a")
    found = [client.step(["mail"], 1, lease_for=0, max_lost=3).leases for _ in range(4)]

    assert [[lease.lost for lease in leases] for leases in found] == [[0], [1], [2], []]
    (letter,) = client.dead_letters("mail")
    assert (letter.task_id, letter.data) == ("a", "data of a")
    assert "lost 3 times" in letter.reason
    stats = client.stats("mail")
    assert (stats.ready, stats.leased, stats.dead) == (0, 0, 1)


def test_a_lease_of_part_of_a_second_is_a_second(client: Client) -> None:
    push(client, "a")
    client.reserve("mail", lease_for=0.05)

    time.sleep(0.2)
    assert drain(client) == []
    time.sleep(1)
    assert drain(client) == ["a"]


def test_outcomes_of_all_kinds_are_settled(client: Client) -> None:
    push(client, "ack", "retry", "release", "dead")
    push(client, "other", queue="print")
    by_id = {lease.task_id: lease for lease in client.reserve("mail", limit=4)}
    (other,) = client.reserve("print")
    outcomes = [
        Outcome("ack", by_id["ack"]),
        Outcome("retry", by_id["retry"], HOUR),
        Outcome("release", by_id["release"]),
        Outcome("dead", by_id["dead"], reason="no luck"),
        Outcome("ack", other),
    ]

    for _ in range(2):  # an outcome that is told again counts once
        client.step((), 0, outcomes=outcomes)

    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled, stats.leased, stats.dead) == (1, 1, 0, 1)
    assert client.stats("print").leased == 0


def test_an_ack_that_comes_late_is_honoured(client: Client) -> None:
    push(client, "a")
    late = take(client, lease_for=0)

    client.ack(late)

    assert drain(client) == []


def test_a_lease_that_cannot_be_extended_is_lost(client: Client) -> None:
    push(client, "a", "b")
    done, held = client.reserve("mail", limit=2)
    client.ack(done)

    assert client.extend([done, held], HOUR) == [done]


def test_what_fails_of_a_batch_is_tried_once_more(
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
        Raw(client).send(body=keep["MessageBody"])
        error = {"SenderFault": False, "Code": "InternalError"}
        return {"Failed": [{"Id": entry["Id"], **error} for entry in rest]}

    failing(client, monkeypatch, answer)

    client.step((), 0, outcomes=[Outcome("retry", lease) for lease in leases])

    assert calls == [3, 2]
    assert sorted(drain(client)) == ["a", "b", "c"]


def test_a_task_that_could_not_be_moved_stays_where_it_is(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(client, *"ab")
    one, two = client.reserve("mail", limit=2)
    away = True

    def answer(operation: str, params: dict[str, Any]) -> dict[str, Any] | None:
        if not away or operation != "send_message_batch":
            return None
        error = {"SenderFault": False, "Code": "InternalError"}
        return {"Failed": [{"Id": entry["Id"], **error} for entry in params["Entries"]]}

    failing(client, monkeypatch, answer)

    with pytest.raises(BackendUnavailable, match="InternalError"):
        client.step((), 0, outcomes=[Outcome("ack", one), Outcome("retry", two)])
    assert client.stats("mail").leased == 1
    away = False
    client.step((), 0, outcomes=[Outcome("ack", one), Outcome("retry", two)])

    assert drain(client) == ["b"]


def test_no_task_is_found_by_its_id(client: Client) -> None:
    push(client, "a")

    for action in (client.get, client.lease, client.cancel):
        with pytest.raises(BackendError, match="cannot find a task by its id"):
            action("mail", "a")


def test_dropping_all_drops_what_is_leased_too_and_spares_the_dead(client: Client) -> None:
    push(client, "leased", "dead")
    leased, dead = client.reserve("mail", limit=2)
    client.dead_letter(dead, reason="no luck")
    push(client, "ready")
    push(client, "scheduled", delay=HOUR)

    client.drop_all("mail")
    client.ack(leased)

    stats = client.stats("mail")
    assert (stats.ready, stats.scheduled, stats.leased, stats.dead) == (0, 0, 0, 1)


# Payloads of others.


def test_a_task_that_alligator_1_sent_is_read(client: Client) -> None:
    Raw(client).send('{"task_id": "old", "module": "mail"}')

    lease = take(client)

    assert (lease.task_id, lease.data) == ("old", '{"task_id": "old", "module": "mail"}')


@pytest.mark.parametrize(
    "body",
    [
        "garbage",
        "[1]",
        '{"alligator": 2, "tasks": [{"id": "a", "data": "1"}]}',
        '{"alligator": 1, "tasks": []}',
        '{"alligator": 1, "tasks": [{"id": "a"}]}',
        '{"alligator": 1, "tasks": 7}',
        '{"task_id": 7}',
        "[" * 10_000,
    ],
)
def test_what_is_no_task_is_given_as_it_is_and_can_be_buried(client: Client, body: str) -> None:
    message_id = Raw(client).send(body)

    lease = take(client)
    client.dead_letter(lease, reason="not a task")

    assert (lease.task_id, lease.data) == (message_id, body)
    assert [letter.data for letter in client.dead_letters("mail")] == [body]


# Dead letters.


def test_dead_letters_can_be_looked_at_again_at_once(client: Client) -> None:
    push(client, *(f"t{n}" for n in range(12)))
    for lease in client.reserve("mail", limit=12):
        client.dead_letter(lease, reason="no luck", traceback="x" * 100)

    one, two = client.dead_letters("mail"), client.dead_letters("mail")

    assert len(one) == 12
    assert {letter.task_id for letter in one} == {letter.task_id for letter in two}


def test_a_dead_task_is_made_ready_or_dropped(client: Client) -> None:
    push(client, "a", "b")
    for lease in client.reserve("mail", limit=2):
        client.dead_letter(lease, reason="no luck")

    assert client.retry_dead("mail", "a")
    assert not client.retry_dead("mail", "a")
    assert client.drop_dead("mail", "b")
    assert not client.drop_dead("mail", "b")

    assert client.dead_letters("mail") == []
    lease = take(client)
    assert (lease.task_id, lease.data, lease.lost) == ("a", "data of a", 0)


def test_a_dead_letter_that_amazons_redrive_moves_back_is_a_task(client: Client) -> None:
    push(client, "a")
    client.dead_letter(take(client), reason="no luck")
    (body,) = Raw(client, dead=True).bodies()

    Raw(client).send(body)

    assert take(client).data == "data of a"


def test_what_sqs_itself_buried_is_listed_task_by_task(client: Client) -> None:
    push(client, "a", "b")
    (body,) = Raw(client).bodies()
    Raw(client, dead=True).send(body)

    letters = client.dead_letters("mail")

    assert [letter.task_id for letter in letters] == ["a", "b"]
    assert "SQS has put it away" in letters[0].reason
    assert client.drop_dead("mail", "a")
    assert client.retry_dead("mail", "b")
    assert client.dead_letters("mail") == []


def test_a_traceback_that_does_not_fit_is_left_out(client: Client) -> None:
    client.push_many([Message("mail", "a", "x" * 1_000_000)])

    client.dead_letter(take(client), reason="no luck", traceback="x" * 60_000)

    (letter,) = client.dead_letters("mail")
    assert (letter.reason, letter.traceback) == ("no luck", "")


# Waiting.


def test_what_a_wait_receives_is_the_next_step_of_its_thread(client: Client) -> None:
    push(client, "a", "b")
    drain(client)
    push(client, "c")

    client.wait(["mail"], 20)

    assert client.stats("mail").leased == 3
    assert drain(client, "print") == []
    assert drain(client) == ["c"]


def test_what_a_wait_received_has_the_lease_that_the_step_wants(client: Client) -> None:
    push(client, "a")
    client.wait(["mail"], 20)

    assert [lease.task_id for lease in client.reserve("mail", lease_for=0)] == ["a"]

    assert take(client).lost == 1


def test_an_interrupted_wait_gives_back_what_it_receives(client: Client) -> None:
    push(client, "before")
    drain(client)
    interrupted = Thread(target=client.wait, args=(["mail"], 20))
    interrupted.start()
    time.sleep(0.3)
    client.interrupt()

    push(client, "a")
    interrupted.join(10)

    assert not interrupted.is_alive()
    lease = take(client)
    assert (lease.task_id, lease.lost) == ("a", 0)


def test_a_client_that_is_closed_gives_back_what_a_wait_received(
    connect: Callable[..., Client],
) -> None:
    client, other = connect(), connect()
    push(client, "a")
    client.wait(["mail"], 20)

    client.close()

    lease = take(other)
    assert (lease.task_id, lease.lost) == ("a", 0)


def test_all_queues_of_a_wait_are_looked_at(client: Client) -> None:
    push(client, "a", queue="print")
    began = time.monotonic()

    client.wait(["mail", "print"], 20)

    assert time.monotonic() - began < 5
    assert [lease.task_id for lease in client.step(["mail", "print"], 1).leases] == ["a"]


def test_a_step_looks_well_before_it_finds_nothing(connect: Callable[..., Client]) -> None:
    client = connect("&poll=1")
    push(client, "a")
    drain(client)
    began = time.monotonic()

    assert not client.step(["mail"], 1).leases

    assert 0.9 < time.monotonic() - began < 5


# Trouble.


def test_a_server_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    client = Client("sqs+http://127.0.0.1:9/?region=us-east-1")

    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        push(client, "a")
    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        client.ping()
    client.close()


def test_a_push_to_a_server_that_hangs_ends_within_its_budget(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(client, "a")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        hanging = Client(f"sqs+{address}/?region=us-east-1")
        hanging._sqs.client(quick=True)  # to make it takes time, too
        monkeypatch.setitem(hanging._sqs._urls, "mail", address + "/1/mail")
        began = time.monotonic()

        with pytest.raises(BackendUnavailable, match="did not answer in time"):
            push(hanging, "b")

        assert time.monotonic() - began < 2 + SLACK
        hanging.close()


def test_missing_credentials_are_told_how_to_be_given(
    sqs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    client = Client(sqs)

    with pytest.raises(BackendError, match="set AWS_ACCESS_KEY_ID"):
        push(client, "a")
    client.close()


def test_a_missing_region_is_told_how_to_be_given(
    sqs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(ConfigurationError, match="AWS_REGION"):
        push(Client(sqs), "a")


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("AccessDenied", BackendError, "IAM policy"),
        ("InvalidClientTokenId", BackendError, "does not accept the credentials"),
        ("SignatureDoesNotMatch", BackendError, "does not accept the credentials"),
        ("ThrottlingException", BackendUnavailable, "too often"),
        ("RequestThrottled", BackendUnavailable, "too often"),
        ("OverLimit", BackendUnavailable, "in flight"),
        ("ServiceUnavailable", BackendUnavailable, "not available"),
        ("AWS.SimpleQueueService.NonExistentQueue", BackendError, "no such queue"),
        ("AWS.SimpleQueueService.PurgeQueueInProgress", BackendUnavailable, "60 seconds"),
        ("Whatever", BackendError, "Whatever"),
    ],
)
def test_an_error_of_sqs_says_what_it_means(
    client: Client, code: str, kind: type[BackendError], words: str
) -> None:
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    error = client._sqs.explain(ClientError({"Error": {"Code": code}}, "SendMessage"))

    assert words in str(error)
    assert isinstance(error, BackendUnavailable) == (kind is BackendUnavailable)


def test_a_forked_child_and_its_parent_go_on(client: Client) -> None:
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


# All together.


def test_a_worker_runs_what_a_transaction_has_committed(dsn: str, tmp_path: Path) -> None:
    gator, ran = Gator(dsn), tmp_path / "ran"
    with gator.transaction():
        for n in range(3):
            gator.task(sample_tasks.record, str(ran), str(n))
        gator.task(sample_tasks.fail)

    Worker(gator, burst=True, log_level="CRITICAL").run_forever()

    assert sorted(ran.read_text().split()) == ["0", "1", "2"]
    (letter,) = gator.dead_letters()
    assert "RuntimeError" in letter.reason
    assert "Traceback" in letter.traceback
    assert gator.stats().ready == gator.stats().leased == 0
    gator.client.close()


def test_health_knows_of_no_worker_and_says_what_is_not_promised(dsn: str) -> None:
    gator = Gator(dsn)
    gator.task(sample_tasks.add, 1, 2)

    verdict = Health(gator, timeout=20).verdict()

    assert verdict.status == "pass", verdict
    assert "workers:connections" not in verdict.checks
    said = " ".join(entry["output"] for entry in verdict.checks["limits"])
    assert "cannot be taken back" in said
    gator.client.close()
