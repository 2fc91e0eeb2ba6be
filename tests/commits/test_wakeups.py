"""Workers are woken after a commit, by a thread that neither the commit nor its caller waits for."""

import os
import threading
from collections.abc import Sequence
from functools import partial

import pytest

from alligator.backends.shared_database import Written
from alligator.commits import wakeups
from alligator.commits.wakeups import Wakeups
from tests.harness.programs import eventually

A, B = Written("1", {"mail": 1}), Written("2", {"mail": 1})


class Server:
    """Says which transactions have not ended, and notes those that have."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.woken: list[Written] = []
        self.calls = 0
        self.fails = False

    def wake(self, written: Sequence[Written]) -> list[int]:
        self.calls += 1
        if self.fails:
            raise ConnectionError("away")
        self.woken += [each for each in written if each.transaction not in self.open]
        return [place for place, each in enumerate(written) if each.transaction in self.open]


@pytest.fixture
def server() -> Server:
    return Server()


def has_woken(server: Server, number: int) -> bool:
    return len(server.woken) == number


def test_workers_are_woken_for_each_commit(server: Server) -> None:
    wake = Wakeups(server.wake)
    wake.add(A)
    wake.add(B)

    eventually(lambda: server.woken == [A, B])


def test_open_transaction_is_looked_at_again_until_it_ends(server: Server) -> None:
    server.open = {"1"}
    wake = Wakeups(server.wake)
    wake.add(A)
    wake.add(B)
    eventually(lambda: server.woken == [B] and server.calls > 3)
    server.open = set()

    eventually(lambda: server.woken == [B, A])


def test_transaction_that_lasts_too_long_is_left_to_the_workers(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "GIVE_UP_SECONDS", 0.05)
    monkeypatch.setattr(wakeups, "IDLE_SECONDS", 0.05)
    server.open = {"1"}
    wake = Wakeups(server.wake)
    wake.add(A)

    eventually(lambda: wake._thread is None)  # nothing is left to do
    assert server.woken == []


def test_failure_ends_neither_the_thread_nor_later_wakeups(server: Server) -> None:
    server.fails = True
    wake = Wakeups(server.wake)
    wake.add(A)
    eventually(lambda: server.calls == 1)
    server.fails = False
    wake.add(B)

    eventually(lambda: server.woken == [B])


def test_thread_that_has_ended_is_started_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "IDLE_SECONDS", 0.01)
    wake = Wakeups(server.wake)
    for number in range(20):
        wake.add(A)
        eventually(partial(has_woken, server, number + 1))
        if number % 2:
            eventually(lambda: wake._thread is None)


def test_end_of_the_program_waits_for_the_last_one(server: Server) -> None:
    wake = Wakeups(server.wake)
    wake.add(A)
    wake.finish()

    assert server.woken == [A]


def test_forked_child_has_its_own_thread(server: Server) -> None:
    server.open = {"1"}
    wake = Wakeups(server.wake)
    wake.add(A)
    eventually(lambda: server.calls > 0)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            server.open, server.woken = set(), []
            wake.add(B)
            eventually(lambda: server.woken == [B])
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    server.open = set()

    assert status == 0
    eventually(lambda: server.woken == [A])


def test_thread_that_cannot_be_started_is_no_failure(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    Wakeups(server.wake).add(A)

    assert "workers look within" not in caplog.text
    assert "they look within five seconds" in caplog.text
