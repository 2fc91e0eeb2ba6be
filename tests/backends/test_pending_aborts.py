"""Aborts that are made later: each until it succeeds, and none is lost."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread
from typing import NoReturn

import pytest

from alligator.backends import pending_aborts
from alligator.backends.pending_aborts import PendingAborts
from tests.harness.programs import eventually


def test_threads_that_make_aborts_at_once_lose_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pending, both, made = PendingAborts(), Barrier(2), []

    def first() -> None:
        made.append("first")
        if len(made) <= 2:
            both.wait(20)

    with monkeypatch.context() as patch:
        patch.setattr(PendingAborts, "_start", lambda self: None)
        pending.add(first)
        pending.add(lambda: made.append("second"))
    with ThreadPoolExecutor() as pool:
        for ended in [pool.submit(pending.run) for _ in range(2)]:
            ended.result(20)

    assert made[:2] == ["first", "first"]
    assert "second" in made
    assert len(pending) == 0


def test_abort_is_repeated_after_any_error() -> None:
    pending = PendingAborts()
    errors: list[Exception] = [OSError("no route"), MemoryError("no memory")]
    made: list[str] = []

    def abort() -> None:
        if errors:
            raise errors.pop()
        made.append("abort")

    pending.add(abort)
    eventually(lambda: not pending)

    assert made == ["abort"]


def test_abort_is_given_up_when_the_store_has_forgotten_its_commit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pending_aborts, "COMMIT_MEMORY", -1.0)
    pending = PendingAborts()

    def fail() -> NoReturn:
        raise OSError("no route")

    pending.add(fail)
    eventually(lambda: not pending)

    assert "could not undo a failed push; its tasks may run: no route" in caplog.text


def test_abort_without_a_thread_is_made_with_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pending, made = PendingAborts(), []

    def refuse(thread: Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        pending.add(lambda: made.append(1))
    assert "can't start new thread" in caplog.text
    assert not made
    pending.add(lambda: made.append(2))
    eventually(lambda: not pending)

    assert made == [1, 2]
