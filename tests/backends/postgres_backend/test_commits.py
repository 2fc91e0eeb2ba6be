"""Pushes: each once and as a whole, and with a known outcome, whatever happens to the connection."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import NoReturn

import pytest

from alligator.backends.base import Commit, Message
from alligator.backends.postgres_backend import Client
from alligator.backends.postgres_backend.sessions import Session
from alligator.backends.postgres_backend.wire import Lost
from alligator.constants import COMMIT_MEMORY, LONG_COMMIT_MEMORY, MAX_TASKS
from alligator.exceptions import BackendError, BackendUnavailable, TooManyTasks
from tests.backends.postgres_backend.conftest import Open, Query
from tests.faults.proxy import Mishap, Proxy
from tests.harness.postgres_servers import PostgresServer
from tests.harness.programs import SLACK, eventually

MAIL = [Message("mail", "a", "{}"), Message("print", "b", "{}", 60.0)]


def waiting(client: Client) -> int:
    return client.len("mail") + client.len("print")


def test_push_whose_reply_is_lost_is_repeated_and_queued_once(
    open_client: Open, client: Client, network: Proxy, through: str
) -> None:
    client.ping()
    random = Random(7)
    for number in range(30):
        pushing = open_client(through, timeout="20")
        network.mishaps.append(Mishap.somewhere(random))

        pushing.push_many([Message("mail", f"{number}", "{}")])

        pushing.close()
    assert client.len("mail") == 30


def test_push_is_settled_when_the_server_has_restarted_in_time(
    open_client: Open, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushing = open_client(timeout="20")
    pushing.ping()
    sessions, lend = pushing._sessions, pushing._sessions.lend
    refused: list[str] = []

    @contextmanager
    def restarting(until: float) -> Iterator[Session]:
        if not refused:  # the first push arrives, and its reply is lost
            with lend(until) as session:
                refused.append("reply")
                yield session
            raise Lost("the server has crashed")
        if len(refused) < 6:
            refused.append("connection")
            raise Lost("connection refused")
        with lend(until) as session:
            yield session

    monkeypatch.setattr(sessions, "lend", restarting)
    pushing.push_many(MAIL, commit_id="c")

    assert len(refused) == 6
    assert waiting(client) == 2


def test_push_that_was_never_sent_fails_at_once(
    open_client: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushing = open_client(timeout="20")
    began = time.monotonic()

    def refuse(until: float) -> NoReturn:
        raise Lost("connection refused")

    monkeypatch.setattr(pushing._sessions, "lend", refuse)
    with pytest.raises(BackendUnavailable):
        pushing.push_many(MAIL)

    assert time.monotonic() - began < 10


def test_frozen_server_fails_a_push_in_time_and_refuses_it_later(
    open_client: Open, client: Client, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushing = open_client(timeout="1")
    pushing.push_many([Message("mail", "first", "{}")])
    # Without the undo it is the server's clock alone that keeps the push off the queue.
    monkeypatch.setattr(pushing._pusher, "undo_later", lambda *given: None)
    server.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="did not answer in time"):
            pushing.push_many(MAIL, commit_id="c")
        took = time.monotonic() - began
        time.sleep(0.05)
    finally:
        server.thaw()

    assert took < 1 * SLACK + 5
    client.ping()
    time.sleep(0.3)  # for what the server had received
    assert waiting(client) == 1
    pushing.push_many(MAIL, commit_id="c")
    assert waiting(client) == 3


def test_push_in_doubt_is_undone_when_the_server_answers_again(
    open_client: Open, client: Client, server: PostgresServer, query: Query
) -> None:
    pushing = open_client(timeout="1")
    pushing.ping()
    server.freeze()
    try:
        with pytest.raises(BackendUnavailable):
            pushing.push_many(MAIL, commit_id="c")
    finally:
        server.thaw()

    eventually(lambda: query("SELECT base FROM {s}.pushed WHERE id = 'c'") == [(0,)])
    assert waiting(client) == 0
    with pytest.raises(BackendError, match="aborted"):
        client.push_many(MAIL, commit_id="c")


def test_one_frozen_server_process_does_not_fail_a_push(open_client: Open, query: Query) -> None:
    client = open_client(timeout="8")
    client.ping()
    [session] = client._sessions._idle
    import os
    import signal

    pid = session.wire.pgconn.backend_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        client.push_many(MAIL, commit_id="c")
    finally:
        os.kill(pid, signal.SIGCONT)

    assert waiting(client) == 2


def test_push_that_arrives_late_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.ping()
    monkeypatch.setattr(Session, "server_time", lambda session, moment: 0.0)

    with pytest.raises(BackendUnavailable, match="too late"):
        client.push_many(MAIL, commit_id="c")

    assert waiting(client) == 0


def test_push_succeeds_after_the_clock_was_put_forward(client: Client) -> None:
    client.ping()
    for session in client._sessions._idle:
        session._offset -= 3600

    client.push_many(MAIL)

    assert waiting(client) == 2


def test_push_that_waited_for_a_lock_too_long_is_not_queued(
    open_client: Open, client: Client, server: PostgresServer, schema: str
) -> None:
    import psycopg

    pushing = open_client(timeout="1")
    pushing.ping()
    with psycopg.connect(server.dsn) as other:
        other.execute(f"INSERT INTO {schema}.pushed VALUES ('c', 7, now())".encode())
        with pytest.raises(BackendUnavailable):
            pushing.push_many(MAIL, commit_id="c")
        other.rollback()

    eventually(lambda: not pushing._pusher.pending)
    assert waiting(client) == 0


def test_commit_with_a_bad_value_does_not_reject_the_others(client: Client) -> None:
    good, bad = Commit([MAIL[0]], "good"), Commit([Message("mail", "nul\0", "{}")], "bad")

    first, second = client.push_commits([good, bad])

    assert first is None
    assert isinstance(second, BackendError)
    assert waiting(client) == 1


def test_commit_of_too_many_tasks_is_refused(client: Client) -> None:
    many = [Message("mail", f"{n}", "{}") for n in range(MAX_TASKS + 1)]

    refused, queued = client.push_commits([Commit(many), Commit(MAIL)])

    assert isinstance(refused, TooManyTasks)
    assert queued is None
    assert waiting(client) == 2


def test_pushes_of_the_same_ids_do_not_deadlock(open_client: Open) -> None:
    clients = [open_client(timeout="20") for _ in range(4)]
    random = Random(3)
    ids = [f"t{n}" for n in range(50)]

    def push(number: int) -> None:
        for _ in range(5):
            mixed = random.sample(ids, len(ids))
            commits = [Commit([Message("mail", each, "{}") for each in mixed]) for _ in range(3)]
            assert all(
                not isinstance(each, BackendError) for each in clients[number].push_commits(commits)
            )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(push, range(4)))

    assert clients[0].len("mail") == 50


def test_counters_are_exact_beside_folding(open_client: Open) -> None:
    client, other = open_client(timeout="20"), open_client(timeout="20")
    ends = threading.Event()

    def fold() -> None:
        while not ends.is_set():
            other._call(other._statements.fold, [])

    with ThreadPoolExecutor(1) as pool:
        folding = pool.submit(fold)
        for number in range(1, 101):
            client.push_many([Message("mail", f"{number}", "{}")])
            assert client.stats("mail").pushed == number
        ends.set()
        folding.result(30)


def test_old_commits_are_forgotten(client: Client, query: Query) -> None:
    client.push_many(MAIL, commit_id="old")
    client.push_many([Message("mail", "x", "{}")], commit_id="new")
    query("UPDATE {s}.pushed SET at = at - interval '301 s' WHERE id = 'old'")

    client._call(client._statements.fold, [])

    assert query("SELECT id FROM {s}.pushed") == [("new",)]


@pytest.mark.parametrize("tasks", [MAIL[:1], MAIL], ids=["one", "several"])
def test_commit_is_remembered_for_minutes_or_for_a_day(
    client: Client, query: Query, tasks: list[Message]
) -> None:
    for commit_id in ("c", "day-c"):
        client.abort(commit_id, tasks)
        client.push_many(tasks, commit_id=commit_id, undo=False)
        client.push_many(tasks, commit_id=f"{commit_id}-2", undo=False)

    def kept_after(seconds: float) -> set[str]:
        query(f"UPDATE {{s}}.pushed SET at = at - interval '{seconds} s'")
        client._call(client._statements.fold, [])
        return {str(row[0]) for row in query("SELECT id FROM {s}.pushed")}

    assert kept_after(COMMIT_MEMORY - 60) == {"c", "c-2", "day-c", "day-c-2"}
    assert kept_after(120) == {"day-c", "day-c-2"}
    assert kept_after(LONG_COMMIT_MEMORY - COMMIT_MEMORY - 120) == {"day-c", "day-c-2"}
    assert kept_after(120) == set()


def test_chosen_id_is_never_undone(
    open_client: Open, client: Client, server: PostgresServer
) -> None:
    pushing = open_client(timeout="1")
    pushing.ping()
    server.freeze()
    try:
        with pytest.raises(BackendUnavailable):
            pushing.push_many(MAIL, commit_id="tick", undo=False)
    finally:
        server.thaw()

    assert not pushing._pusher.pending
    client.abort("tick", MAIL)
    client.push_many(MAIL, commit_id="tick", undo=False)
    client.push_many(MAIL, commit_id="tick", undo=False)
    assert waiting(client) == 2


@pytest.mark.parametrize("messages", [MAIL, MAIL[:1]], ids=["several", "one"])
def test_chosen_id_that_was_aborted_has_only_its_latest_duplicates(
    client: Client, messages: list[Message]
) -> None:
    client.push_many([MAIL[0]])
    assert client.push_many(messages, commit_id="tick", undo=False) == [0]
    client.drop_all("mail")
    client.abort("tick", messages)

    assert client.push_many(messages, commit_id="tick", undo=False) is None
    assert client.push_many(messages, commit_id="tick", undo=False) is None
