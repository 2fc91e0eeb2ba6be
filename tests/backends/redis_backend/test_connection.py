"""Connections to Redis: waits, interrupts, forks and restarts of the server."""

import ctypes
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress

import pytest

from alligator.backends.redis_backend import Client
from alligator.exceptions import (
    BackendError,
    BackendUnavailable,
)
from tests.harness.programs import SLACK, eventually
from tests.harness.redis_network import (
    Thread,
    commits,
    ids,
    is_waiting,
    messages,
    undoing,
)
from tests.harness.store_servers import Server

pytestmark = pytest.mark.usefixtures("closed", "note_earlier")


def test_refused_connection_fails_at_once(server: Server) -> None:
    client = Client(server)
    server.stop()

    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        client.push_many(messages("a"))

    assert time.monotonic() - began < SLACK  # and it was not tried until the two seconds were over
    assert not undoing()


def test_restart_of_the_server_has_no_effect(run: Callable[..., Server]) -> None:
    server = run(appendonly="yes", appendfsync="always")
    client = Client(server)
    client.push_many(messages("a"))

    server.kill()
    server.start()

    assert ids(client.reserve("all")) == ["a"]
    client.push_many(messages("b"))
    assert client.stats("all").pushed == 2


def test_killed_wait_raises_and_the_next_one_works(client: Client) -> None:
    waiting = Thread(lambda: client.wait(["all"], 60))
    eventually(lambda: is_waiting(client.conn))

    for info in client.conn.client_list():
        if info["cmd"] == "blpop":
            client.conn.client_kill_filter(_id=info["id"])
    waiting.join(5)
    again = Thread(lambda: client.wait(["all"], 60))
    eventually(lambda: is_waiting(client.conn))
    client.push_many(messages("a"))
    again.join(5)

    assert isinstance(waiting.error, BackendUnavailable)
    assert again.error is None
    assert not again.is_alive()


def test_push_wakes_one_worker_which_wakes_the_next(client: Client) -> None:
    workers = [Thread(lambda: client.wait(["low", "all"], 60)) for _ in range(3)]
    eventually(lambda: sum(info["cmd"] == "blpop" for info in client.conn.client_list()) == 3)

    client.push_many(messages("a", "b"))
    eventually(lambda: sum(worker.is_alive() for worker in workers) == 2)
    client.step(["low", "all"], 1)
    eventually(lambda: sum(worker.is_alive() for worker in workers) == 1)
    client.step(["low", "all"], 1)

    client.interrupt()
    for worker in workers:
        worker.join(5)
        assert worker.error is None


def test_signal_handler_ends_a_wait(client: Client) -> None:
    onlooker = Client(client.conn_string)

    def send() -> None:
        eventually(lambda: is_waiting(onlooker.conn))
        os.kill(os.getpid(), signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, lambda *_: client.interrupt())
    try:
        sending = Thread(send)
        began = time.monotonic()
        client.wait(["all"], 60)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    sending.join()

    assert time.monotonic() - began < 20
    assert sending.error is None


def test_interrupt_ends_only_the_next_wait(client: Client) -> None:
    client.interrupt()

    began = time.monotonic()
    client.wait(["all"], 60)
    assert time.monotonic() - began < 20
    client.wait(["all"], 0.1)
    assert time.monotonic() - began >= 0.1


def test_interrupt_loses_no_task_that_was_just_reserved(client: Client) -> None:
    names = [f"{number:03}" for number in range(200)]
    took: list[str] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            took.extend(ids(client.wait_then_step(["all"], 60, 1).leases))

    def push() -> None:
        for name in names:
            client.push_many(messages(name))

    working, pushing = Thread(work), Thread(push)
    while pushing.is_alive():
        client.interrupt()
    ended.set()
    client.interrupt()
    for thread in (working, pushing):
        thread.join(5)
        assert thread.error is None

    left = ids(client.reserve("all", limit=200))

    assert sorted([*took, *left]) == names


def test_wait_may_end_while_it_is_interrupted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = client._connections.acquire(time.monotonic() + 5)
    client._connections._waiting[connection] = []

    def end_it() -> float:
        connection.close()
        return time.monotonic()

    monkeypatch.setattr("alligator.backends.redis_backend.connection.monotonic", end_it)

    client.interrupt()

    assert connection.is_closed


def test_interrupted_wait_leaves_no_broken_connection(client: Client) -> None:
    waiting = Thread(lambda: client.wait_then_step(["all"], 60, 1))
    eventually(lambda: is_waiting(client.conn))

    client.interrupt()
    waiting.join(5)
    client.push_many(messages("a"))

    assert waiting.error is None
    assert ids(client.reserve("all")) == ["a"]


def test_wait_on_a_frozen_server_can_be_interrupted(server: Server, client: Client) -> None:
    waiting = Thread(lambda: client.wait_then_step(["all"], 60, 1))
    eventually(lambda: is_waiting(client.conn))
    server.freeze()
    began = time.monotonic()

    try:
        while waiting.is_alive():
            client.interrupt()
            waiting.join(0.05)
    finally:
        server.thaw()

    assert time.monotonic() - began < 20
    assert waiting.error is None


def test_task_is_kept_if_its_wait_was_refused(server: Server, client: Client) -> None:
    client.conn.acl_setuser(
        "worker", enabled=True, passwords=["+x"], keys=["*"], commands=["+@all", "-blpop"]
    )
    worker = Client(client.conn_string.replace("redis://", "redis://worker:x@"))

    worker.push_many(messages("a"))
    worker.step((), 0)
    worker.reserve("other")
    step = worker.wait_then_step(["all"], 60, 1)

    assert ids(step.leases) == ["a"]
    with pytest.raises(BackendError, match="denies"):
        worker.wait_then_step(["all"], 60, 1)
    worker.close()


def test_waiting_workers_do_not_keep_others_from_the_server(client: Client) -> None:
    workers = [Thread(lambda: client.wait(["all"], 60)) for _ in range(20)]
    eventually(lambda: sum(info["cmd"] == "blpop" for info in client.conn.client_list()) == 20)

    client.push_many(messages("a"))

    client.interrupt()
    for worker in workers:
        worker.join(5)
        assert worker.error is None


def fork_without_hooks() -> int:
    """Fork as uWSGI does: what is registered with `os.register_at_fork` is not called."""
    return int(ctypes.PyDLL(None).fork())


@pytest.mark.parametrize("fork", [os.fork, fork_without_hooks])
def test_forked_child_has_connections_of_its_own(client: Client, fork: Callable[[], int]) -> None:
    client.push_many(messages("a"))
    waiting = Thread(lambda: client.wait(["other"], 60))
    eventually(lambda: is_waiting(client.conn))
    client.ping()
    before = {info["id"] for info in client.conn.client_list()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork and threads, on purpose
        child = fork()
    if not child:
        with suppress(BaseException):
            client.interrupt()
            client.push_many(messages("b"))
            client.push_many(messages("c"))
            mine = str(client._connections.command("CLIENT", "ID"))
            client.close()
            os._exit(1 if mine in before else 0)
        os._exit(1)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert waiting.is_alive()
    assert ids(client.reserve("all", limit=9)) == ["a", "b", "c"]
    assert {info["id"] for info in client.conn.client_list()} == before
    client.interrupt()
    waiting.join(5)


# Servers that have forgotten the scripts.


def test_commits_survive_a_forgotten_script(client: Client) -> None:
    client.push_many(messages("before"))
    client.conn.script_flush()

    errors = client.push_commits(commits(*"abc"))

    assert errors == [None, None, None]
    assert ids(client.reserve("all", limit=9)) == ["before", *"abc"]


def test_flushed_script_cache_has_no_effect(client: Client) -> None:
    client.push_many(messages("a"))

    client.conn.script_flush()
    client.push_many(messages("b"))
    client.conn.script_flush()

    assert ids(client.step(["all"], 2).leases) == ["a", "b"]


def test_forgotten_script_is_sent_again_after_a_wait(client: Client) -> None:
    client.step(["all"], 1)
    client.push_many(messages("a"))

    client.conn.script_flush()
    step = client.wait_then_step(["all"], 60, 1)

    assert ids(step.leases) == ["a"]
