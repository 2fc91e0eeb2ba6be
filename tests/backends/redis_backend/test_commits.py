"""Pushes to Redis: repeated or undone after a lost reply, several in one round trip, in order."""

import asyncio
import random
import time
from contextlib import suppress
from typing import Any, Literal

import pytest

from alligator.backends import pending_aborts
from alligator.backends.base import (
    Commit,
    Lease,
    Message,
    Outcome,
    Pushed,
    Verdict,
)
from alligator.backends.redis_backend import Client
from alligator.backends.redis_backend import commits as redis_commits
from alligator.backends.redis_backend.commits import Pusher
from alligator.constants import COMMIT_MEMORY, LONG_COMMIT_MEMORY, MAX_TASKS
from alligator.exceptions import (
    BackendError,
    BackendUnavailable,
    TooManyTasks,
)
from tests.harness.programs import SLACK, eventually
from tests.harness.redis_network import (
    LossyNetwork,
    Thread,
    commits,
    execute,
    ids,
    messages,
    undoing,
)
from tests.harness.store_servers import Server

pytestmark = pytest.mark.usefixtures("closed", "note_earlier")


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "not connected"])
def test_push_to_a_frozen_server_fails_in_time_and_is_not_queued(
    server: Server, connected: bool
) -> None:
    client = Client(server)
    if connected:
        client.push_many(messages("before"))
    server.freeze()

    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match="did not answer in time"):
        client.push_many(messages("late"), commit_id="frozen")
    took = time.monotonic() - began
    server.thaw()
    eventually(lambda: not undoing())

    assert took < 2 + SLACK
    assert ids(client.reserve("all", limit=9)) == ["before"] * connected
    assert client.stats("all").pushed == connected
    if connected:  # else it had not been sent
        assert client.conn.get("{alligator}:frozen:commit") == "aborted"


def test_lost_reply_causes_no_duplicate(client: Client, network: LossyNetwork) -> None:
    pusher = Client(network.dsn)
    network.lose.append("reply")

    pusher.push_many(messages("a", "b"))

    assert ids(client.reserve("all", limit=9)) == ["a", "b"]
    assert client.stats("all").pushed == 2


def test_reply_lost_after_the_run_causes_no_second_run(
    client: Client, network: LossyNetwork
) -> None:
    pusher = Client(network.dsn)
    network.lose.append("reply")
    client.push_many(messages("a"), commit_id="once")
    client.ack(client.reserve("all")[0])

    pusher.push_many(messages("a"), commit_id="once")

    assert client.len("all") == 0


def test_lost_request_is_sent_again(client: Client, network: LossyNetwork) -> None:
    network.lose.append("request")

    Client(network.dsn).push_many(messages("a"))

    assert client.len("all") == 1


def test_push_with_two_lost_replies_fails_and_is_undone(
    client: Client, network: LossyNetwork
) -> None:
    pusher = Client(network.dsn)
    network.lose.extend(["reply", "reply"])

    with pytest.raises(BackendUnavailable):
        pusher.push_many([*messages("a"), Message("other", "b", "{}", 60.0)])

    assert client.len("all") == client.len("other") == 0
    assert client.stats("all").pushed == client.stats("other").pushed == 0
    assert not undoing()


@pytest.mark.parametrize("is_async", [False, True])
def test_push_under_a_chosen_id_is_repeated_and_not_undone(
    client: Client, network: LossyNetwork, is_async: bool
) -> None:
    pusher = Client(network.dsn)
    network.lose.extend(["reply"] * (3 if is_async else 2))  # all attempts
    commit = Commit(messages("a"), "row-1", undo=False)

    async def apush() -> list[Pushed]:
        return await pusher.apush_commits([commit])

    [error] = asyncio.run(apush()) if is_async else pusher.push_commits([commit])

    assert isinstance(error, BackendUnavailable)
    assert not undoing()
    assert client.len("all") == 1
    pusher.push_many(messages("a"), commit_id="row-1", undo=False)
    assert client.stats("all").pushed == 1


def test_failed_push_under_a_chosen_id_does_not_affect_that_of_another(
    client: Client, network: LossyNetwork
) -> None:
    client.push_many(messages("a"), commit_id="tick", undo=False)
    network.lose.extend(["request", "request"])

    with pytest.raises(BackendUnavailable):
        Client(network.dsn).push_many(messages("a"), commit_id="tick", undo=False)

    assert client.len("all") == 1


@pytest.mark.parametrize("verdict", ["", "ack", "release"], ids=["taken", "done", "given back"])
def test_push_of_which_a_worker_has_had_a_task_succeeds(
    client: Client,
    network: LossyNetwork,
    monkeypatch: pytest.MonkeyPatch,
    verdict: Verdict | Literal[""],
) -> None:
    undo = Pusher._undo

    def too_late(self: Pusher, *args: Any) -> bool:
        (lease,) = client.reserve("all")
        client.step((), 0, outcomes=[Outcome(verdict, lease)] if verdict else ())
        return undo(self, *args)

    monkeypatch.setattr(Pusher, "_undo", too_late)
    network.lose.extend(["reply", "reply"])
    both = [*messages("a"), Message("other", "b", "{}", 60.0)]

    Client(network.dsn).push_many(both, commit_id="c")

    assert not network.lose
    assert client.stats("all").pushed == client.len("other") == 1
    client.push_many(both, commit_id="c")  # it is known
    assert client.stats("all").pushed == client.len("other") == 1


def test_push_stays_whole_once_a_worker_has_one_of_its_tasks(
    client: Client, network: LossyNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    undo = Pusher._undo

    def too_late(self: Pusher, *args: Any) -> bool:
        client.reserve("all")
        return undo(self, *args)

    monkeypatch.setattr(Pusher, "_undo", too_late)
    network.lose.extend(["reply", "reply", "reply"])

    Client(network.dsn).push_many(messages("a", "b"))  # accepted: one of its tasks may have run

    stats = client.stats("all")
    assert (stats.pushed, stats.leased, stats.ready) == (2, 1, 1)


def test_commits_share_one_round_trip(client: Client, network: LossyNetwork) -> None:
    pusher = Client(network.dsn)
    pusher.push_many(messages("before"))
    sent = client.conn.info("stats")["total_reads_processed"]

    errors = pusher.push_commits(commits(*"abcdefgh"))

    assert errors == [None] * 8
    assert client.conn.info("stats")["total_reads_processed"] - sent <= 2  # a push, this question
    assert ids(client.reserve("all", limit=99)) == ["before", *"abcdefgh"]


def test_commit_that_is_too_large_does_not_block_others(client: Client) -> None:
    huge = Commit(messages(*map(str, range(MAX_TASKS + 1))))

    too_many, fine = client.push_commits([huge, *commits("a")])

    assert isinstance(too_many, TooManyTasks)
    assert fine is None
    assert ids(client.reserve("all", limit=9)) == ["a"]


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_commits_without_a_reply_are_sent_again(
    client: Client, network: LossyNetwork, lost: str
) -> None:
    pusher = Client(network.dsn)
    network.lose.append(lost)

    errors = pusher.push_commits(commits(*"abc"))

    assert errors == [None, None, None]
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c"]
    assert client.stats("all").pushed == 3


def test_task_after_a_large_commit_comes_after_it_in_the_queue(client: Client) -> None:
    many = [f"{number:04}" for number in range(MAX_TASKS)]

    pushed = client.push_commits([Commit(messages(*many), None), Commit(messages("0"), None)])

    assert pushed == [None, None]
    assert ids(client.reserve("all", limit=MAX_TASKS)) == many
    assert ids(client.reserve("all")) == ["0"]


def test_commits_without_a_second_reply_are_undone(client: Client, network: LossyNetwork) -> None:
    pusher = Client(network.dsn)
    network.lose.extend(["reply", "reply"])

    errors = pusher.push_commits([*commits(*"abc"), Commit(messages("d"))])

    assert [type(error) for error in errors] == [BackendUnavailable] * 4
    assert len({id(error) for error in errors}) == 4  # each is raised in a thread of its own
    assert client.len("all") == client.stats("all").pushed == 0


def test_push_is_undone_by_the_caller_while_there_is_time(
    client: Client, network: LossyNetwork
) -> None:
    pusher = Client(f"{network.dsn}?timeout=20")
    network.lose.extend(["reply", "reply", "request", "request", "reply"])

    with pytest.raises(BackendUnavailable):
        pusher.push_many(messages("a"))

    assert not undoing()
    assert not network.lose
    assert client.len("all") == client.stats("all").pushed == 0


def test_push_that_cannot_be_undone_in_time_is_undone_later(
    client: Client, network: LossyNetwork
) -> None:
    pusher = Client(network.dsn)
    network.lose.extend(["reply"] * 2 + ["request"] * 99)

    with pytest.raises(BackendUnavailable):
        pusher.push_many(messages("a"))
    assert undoing()
    network.lose.clear()
    eventually(lambda: not undoing())

    assert client.len("all") == client.stats("all").pushed == 0


def test_accepted_tasks_are_queued_once_in_a_bad_network(
    client: Client, network: LossyNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All times are a quarter of what they are.
    monkeypatch.setattr(redis_commits, "COMMIT_SECONDS", 0.5)
    for module in (redis_commits, pending_aborts):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.0125)
        monkeypatch.setattr(module, "LONGEST_PAUSE", 0.25)
    chance = random.Random(7)
    fates = ["nothing", "reply", "reply", "request"]
    network.lose.extend(chance.choice(fates) for _ in range(1000))
    pusher = Client(network.dsn)
    accepted: list[str] = []

    def push(name: str) -> None:
        for n in range(30):
            pair = [f"{name}.{n}.a", f"{name}.{n}.b"]
            with suppress(BackendUnavailable):
                pusher.push_many(messages(*pair), commit_id=f"{name}.{n}" if n % 2 else None)
                accepted.extend(pair)

    threads = [Thread(lambda name=name: push(name)) for name in "xyz"]  # type: ignore[misc]
    for thread in threads:
        thread.join()
        assert thread.error is None
    network.lose.clear()
    eventually(lambda: not undoing())

    assert 0 < len(accepted) < 180
    assert sorted(ids(client.reserve("all", limit=1000))) == sorted(accepted)
    assert client.stats("all").pushed == len(accepted)


def test_abort_keeps_other_pushes_and_leased_tasks(client: Client) -> None:
    client.push_many(messages("theirs"))
    client.push_many(messages("taken", "theirs", "ours"), commit_id="c")
    first, taken = client.reserve("all", limit=2)
    client.nack(taken)
    client.release(first)

    client.abort("c", messages("taken", "theirs", "ours"))

    assert sorted(ids(client.reserve("all", limit=9))) == ["taken", "theirs"]
    assert client.stats("all").pushed == 2


def test_aborted_commit_reports_it(client: Client) -> None:
    client.abort("c", messages("a"))

    with pytest.raises(BackendError, match="aborted"):
        client.push_many(messages("a"), commit_id="c")

    assert client.len("all") == 0


def test_large_push_does_not_overtake_an_earlier_one(client: Client) -> None:
    for n in range(5):
        client.push_many(messages(f"first {n}"))
        client.push_many(messages(*(f"many {n}.{i:03d}" for i in range(400))))

    order = [task_id for _ in range(3) for task_id in ids(client.reserve("all", limit=1000))]

    assert order == [
        task_id
        for n in range(5)
        for task_id in (f"first {n}", *(f"many {n}.{i:03d}" for i in range(400)))
    ]


def test_leases_of_a_task_have_different_tokens(client: Client) -> None:
    client.push_many(messages("a"))
    tokens = []

    def lease(lease_for: float = 60.0) -> Lease:
        (found,) = client.step(["all"], 1, lease_for=lease_for, max_lost=2).leases
        tokens.append(found.token)
        return found

    client.nack(lease())
    client.release(lease())
    lease(0.0)
    assert lease(0.0).lost == 1
    client.step(["all"], 1, max_lost=2)
    (letter,) = client.dead_letters("all")
    assert letter.reason.startswith("lost 2 times")
    client.retry_dead("all", "a")
    assert lease().lost == 0

    assert len(set(tokens)) == len(tokens) == 5


@pytest.mark.parametrize("undo", [True, False])
@pytest.mark.parametrize("command", ["hset", "zadd", "hincrby", "sadd", "rpush"])
def test_push_that_fails_halfway_is_undone(
    server: Server, client: Client, command: str, undo: bool
) -> None:
    execute(client, "ACL", "SETUSER", "default", f"-{command}")

    with pytest.raises(BackendError, match="denies its user a command"):
        client.push_many(messages("a", "b"), commit_id="c", undo=undo)
    execute(client, "ACL", "SETUSER", "default", "+@all")
    eventually(lambda: not undoing())

    assert client.len("all") == 0
    assert client.conn.hlen("{alligator}:all:job") == 0
    assert client.reserve("all", limit=9) == ()
    if not undo:
        client.push_many(messages("a", "b"), commit_id="c", undo=False)
        assert client.len("all") == 2


def test_commit_is_remembered_for_minutes_or_for_a_day(client: Client) -> None:
    delayed = Message("all", "delayed", "{}", 60.0)  # its marker is written twice
    for commit_id in ("c", "day-c"):
        client.push_many([*messages(f"of-{commit_id}"), delayed], commit_id=commit_id, undo=False)

    lives = {
        str(key).partition(":")[2]: client.conn.ttl(key) for key in client.conn.keys("*:commit")
    }
    assert set(lives) == {"c:commit", "day-c:commit"}
    assert COMMIT_MEMORY - SLACK <= lives["c:commit"] <= COMMIT_MEMORY
    assert LONG_COMMIT_MEMORY - SLACK <= lives["day-c:commit"] <= LONG_COMMIT_MEMORY
