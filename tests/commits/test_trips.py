"""Commits that share a trip, above all those of concurrent threads, each with its own outcome."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from ctypes import c_ulong, py_object, pythonapi
from pathlib import Path
from threading import Event, Thread, Timer, get_ident
from time import monotonic
from typing import NoReturn

import pytest

from alligator.backends import sqlite_backend
from alligator.backends.base import Commit, Duplicates, Message
from alligator.commits import trips
from alligator.commits.committer import Committer
from alligator.commits.trips import ThreadTrips, Waiter, can_share_trip, not_sent
from alligator.constants import COMMIT_SECONDS as LIMIT
from alligator.constants import COMMITS_A_TRIP as MOST
from alligator.constants import MAX_COMMIT_BYTES
from alligator.exceptions import BackendError, BackendUnavailable
from tests.harness.programs import eventually
from tests.harness.trip_store import TripStore


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * MOST) as pool:
        yield pool


Push = Callable[[str], "Future[Duplicates | None]"]


@pytest.fixture
def push(store: TripStore, committer: Committer, pool: ThreadPoolExecutor) -> Iterator[Push]:
    """Push, under a commit id, from a thread of its own."""

    def push(name: str) -> "Future[Duplicates | None]":
        return pool.submit(committer.push, Commit([Message("all", name, "{}")], name))

    yield push
    store.free.set()


def hold(
    store: TripStore, committer: Committer, push: Push, first: str = "first"
) -> "Future[Duplicates | None]":
    """Start a trip, and block it."""
    store.free.clear()
    future = push(first)
    eventually(lambda: store.trips == [[first]])
    return future


def trips_of(committer: Committer) -> "ThreadTrips":
    return committer._threads["threads"]


def wait_until_waiting(committer: Committer, count: int) -> None:
    eventually(lambda: len(trips_of(committer).waiting) == count)


def test_push_of_a_single_thread_does_not_wait(store: TripStore, committer: Committer) -> None:
    for name in ("a", "b"):
        committer.push(Commit([Message("all", name, "{}")], name))

    assert store.trips == [["a"], ["b"]]


def test_pushes_during_a_trip_share_the_next_one(
    store: TripStore, committer: Committer, push: Push
) -> None:
    futures = [hold(store, committer, push)]
    for count, name in enumerate("abc", 1):
        futures.append(push(name))
        wait_until_waiting(committer, count)

    store.free.set()

    assert [future.result(20) for future in futures] == [None] * 4
    assert store.trips == [["first"], ["a", "b", "c"]]
    assert store.len("all") == 4


def test_trip_takes_a_limited_number_of_commits(
    store: TripStore, committer: Committer, push: Push
) -> None:
    futures = [hold(store, committer, push)]
    futures += [push(str(number)) for number in range(MOST + 1)]
    wait_until_waiting(committer, MOST + 1)

    store.free.set()

    assert [future.result(20) for future in futures] == [None] * (MOST + 2)
    assert [len(trip) for trip in store.trips] == [1, MOST, 1]


def test_trip_takes_a_limited_number_of_bytes(
    store: TripStore, committer: Committer, push: Push, pool: ThreadPoolExecutor
) -> None:
    futures = [hold(store, committer, push)]
    large = "x" * (MAX_COMMIT_BYTES // 2 + 1)
    for count, name in enumerate("abcd", 1):
        data = large if name in "bc" else "{}"
        commit = Commit([Message("all", name, data)], name)
        futures.append(pool.submit(committer.push, commit))
        wait_until_waiting(committer, count)

    store.free.set()

    assert [future.result(20) for future in futures] == [None] * 5
    assert store.trips == [["first"], ["a", "b"], ["c", "d"]]


def test_rejection_of_one_commit_does_not_affect_others(
    store: TripStore, committer: Committer, push: Push
) -> None:
    store.abort("refused", [])
    first = hold(store, committer, push)
    futures = [push("fine"), push("refused"), push("good")]
    wait_until_waiting(committer, 3)

    store.free.set()

    with pytest.raises(BackendError):
        futures[1].result(20)
    assert first.result(20) is futures[0].result(20) is futures[2].result(20) is None
    assert len(store.trips) == 2


def test_interruption_affects_only_the_threads_own_commit(
    store: TripStore, committer: Committer, push: Push
) -> None:
    first = hold(store, committer, push)
    others = [push("second"), push("third")]
    wait_until_waiting(committer, 2)

    store.error = SystemExit()
    store.free.set()
    with pytest.raises(SystemExit):
        first.result(20)

    assert [other.result(20) for other in others] == [None, None]
    with pytest.raises(BackendError):  # it was undone, should it still arrive
        store.push_many([Message("all", "first", "{}")], commit_id="first")
    assert store.len("all") == 2


def test_interruption_does_not_undo_a_commit_under_a_chosen_id(
    store: TripStore, committer: Committer
) -> None:
    for error in (KeyboardInterrupt(), ZeroDivisionError()):
        store.error = error
        with pytest.raises(type(error)):
            committer.push(Commit([Message("all", "a", "{}")], "row-1", undo=False))
        assert not store.undone.is_set()

    store.push_many([Message("all", "a", "{}")], commit_id="row-1")
    assert store.len("all") == 1


def test_error_of_one_commit_does_not_affect_others(
    store: TripStore, committer: Committer, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_many = store.push_many

    def overflowing(
        messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
        if commit_id == "bad":
            raise OverflowError("a delay that no store can keep")
        push_many(messages, commit_id=commit_id)

    monkeypatch.setattr(store, "push_many", overflowing)
    futures = [hold(store, committer, push), push("good"), push("bad"), push("fine")]
    wait_until_waiting(committer, 3)

    store.free.set()

    with pytest.raises(OverflowError):
        futures.pop(2).result(20)
    assert [future.result(20) for future in futures] == [None] * 3
    assert store.len("all") == 3


def test_waiting_for_a_trip_counts_as_time_of_the_push(
    store: TripStore, committer: Committer, push: Push
) -> None:
    futures = [hold(store, committer, push), push("second")]
    wait_until_waiting(committer, 1)
    first = trips_of(committer).waiting[0].deadline

    futures.append(push("third"))
    wait_until_waiting(committer, 2)
    later = trips_of(committer).waiting[1].deadline
    store.free.set()
    for future in futures:
        future.result(20)

    assert first is not None
    assert later is not None
    assert store.deadlines[1] == first < later


def test_commit_with_time_left_does_not_share_a_trip_with_a_late_one(
    store: TripStore, committer: Committer, push: Push
) -> None:
    futures = [hold(store, committer, push), push("early"), push("late"), push("later")]
    wait_until_waiting(committer, 3)
    trips_of(committer).waiting[0].deadline = monotonic() + 0.1

    store.free.set()

    for future in futures:
        future.result(20)
    assert store.trips == [["first"], ["early"], ["late", "later"]]


def test_commit_of_a_thread_interrupted_while_waiting_is_not_pushed(
    store: TripStore, committer: Committer, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hold(store, committer, push)

    with monkeypatch.context() as patch:
        patch.setattr(Waiter, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            committer.push(Commit([Message("all", "gone", "{}")], "gone"))
    store.free.set()
    first.result(20)
    push("next").result(20)

    assert [trip for trip in store.trips if "gone" in trip] == []
    assert store.len("all") == 2


@pytest.mark.parametrize("when", ["during its trip", "after its trip"])
def test_commit_of_a_thread_interrupted_during_its_trip_is_undone(
    store: TripStore, committer: Committer, push: Push, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    first = hold(store, committer, push)
    arrived, go_on = Event(), Event()
    wake = Waiter.set_result

    def arrive() -> None:
        arrived.set()
        assert go_on.wait(20)

    def wait(waiter: Waiter) -> None:
        store.on_trip = arrive if when == "during its trip" else None
        store.free.set()
        first.result(20)
        assert arrived.wait(20)
        raise KeyboardInterrupt

    def wake_and_say_so(waiter: Waiter, result: None) -> None:
        wake(waiter, result)
        arrived.set()

    with monkeypatch.context() as patch:
        patch.setattr(Waiter, "wait", wait)
        patch.setattr(Waiter, "set_result", wake_and_say_so)
        with pytest.raises(KeyboardInterrupt):
            committer.push(Commit([Message("all", "gone", "{}")], "gone"))
        go_on.set()
        assert store.undone.wait(20)

    assert store.trips == [["first"], ["gone"]]
    assert store.len("all") == 1
    with pytest.raises(BackendError):
        store.push_many([Message("all", "gone", "{}")], commit_id="gone")


def test_commits_waiting_when_the_driver_is_killed_get_another(
    store: TripStore, committer: Committer, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    first = hold(store, committer, push)
    late: list[Future[Duplicates | None]] = []

    def end() -> NoReturn:
        late.append(push("late"))
        wait_until_waiting(committer, 1)
        raise SystemExit  # as a greenlet that is killed with all others

    others = [push("second"), push("third")]
    wait_until_waiting(committer, 2)
    eventually(lambda: trips_of(committer)._driver)
    driver = trips_of(committer)._driver
    assert driver is not None
    store.on_trip = end
    store.free.set()

    assert first.result(20) is None
    for other in others:
        with pytest.raises(BackendUnavailable, match="the push was interrupted"):
            other.result(20)
    driver.join(20)
    assert late[0].result(20) is None
    assert store.len("all") == 2
    assert is_aborted(store, "second")


def is_aborted(store: TripStore, commit_id: str) -> bool:
    try:
        store.push_many([], commit_id=commit_id)
    except BackendError:
        return True
    return False


def interrupt(*args: object) -> NoReturn:
    raise KeyboardInterrupt


def test_commits_travel_alone_if_no_thread_can_be_started(
    store: TripStore, committer: Committer, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hold(store, committer, push)
    start = Thread.start

    def refuse(thread: Thread) -> None:
        if thread.name == "alligator-commits":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(Thread, "start", refuse)
    futures = [push("second"), push("third")]
    wait_until_waiting(committer, 2)

    store.free.set()

    assert [future.result(20) for future in [first, *futures]] == [None] * 3
    assert sorted(store.trips) == [["first"], ["second"], ["third"]]


def test_commit_does_not_wait_for_a_driver_that_failed_to_start(
    store: TripStore, committer: Committer, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hold(store, committer, push)
    start, wait = Thread.start, Waiter.wait
    futures: list[Future[Duplicates | None]] = []
    has_looked, is_first = Event(), threading.Lock()

    def refuse(thread: Thread) -> None:
        if thread.name != "alligator-commits":
            start(thread)
            return
        if is_first.acquire(blocking=False):
            futures.append(push("third"))
            assert has_looked.wait(20)
        else:
            has_looked.set()
        raise RuntimeError("can't start new thread")

    def wait_and_say_so(waiter: Waiter) -> None:
        has_looked.set()
        wait(waiter)

    monkeypatch.setattr(Thread, "start", refuse)
    monkeypatch.setattr(Waiter, "wait", wait_and_say_so)
    second = push("second")
    assert has_looked.wait(20)
    eventually(lambda: futures)  # the third may look before it is in the list
    store.free.set()

    assert [future.result(20) for future in [first, second, *futures]] == [None] * 3
    assert store.len("all") == 3


def test_signal_handler_can_push_while_its_thread_starts_a_driver(
    store: TripStore, committer: Committer, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hold(store, committer, push)
    start, handled = Thread.start, list[Duplicates | None]()

    def handle(*args: object) -> None:
        store.free.set()
        handled.append(committer.push(Commit([Message("all", "handler", "{}")], "handler")))

    def interrupted(thread: Thread) -> None:
        if thread.name == "alligator-commits" and not store.free.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)
            eventually(lambda: handled)
        start(thread)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        monkeypatch.setattr(Thread, "start", interrupted)
        committer.push(Commit([Message("all", "thread", "{}")], "thread"))
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert (first.result(20), handled) == (None, [None])
    assert store.len("all") == 3


def test_driver_ends_when_idle_and_a_later_push_starts_another(
    store: TripStore, committer: Committer, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trips, "IDLE_SECONDS", 0.01)
    for name in "ab":
        store.trips.clear()
        futures = [hold(store, committer, push, name), push(f"after {name}")]
        wait_until_waiting(committer, 1)
        store.free.set()
        for future in futures:
            future.result(20)
        eventually(lambda: trips_of(committer)._driver is None)

    assert store.len("all") == 4


def test_commits_beside_interrupted_ones_report_their_real_outcome(tmp_path: Path) -> None:
    client = sqlite_backend.Client(f"sqlite://{tmp_path / 'queue.db'}")
    committer = Committer(client, breaker=False)
    ends, outcomes = Event(), list[tuple[str, BaseException | None]]()

    def push_on(name: int) -> None:
        number = 0
        while not ends.is_set():
            number += 1
            task_id = f"{name}-{number}"
            try:
                committer.push(Commit([Message("all", task_id, "{}")], task_id))
                outcomes.append((task_id, None))
            except BaseException as error:
                outcomes.append((task_id, error))

    def push_interrupted() -> None:
        number = 0
        while not ends.is_set():
            number += 1
            timer = Timer(0.001 + number % 4 / 1000, interrupt_thread, (get_ident(),))
            with suppress(Stop):
                timer.start()
                while True:
                    committer.push(Commit([Message("other", os.urandom(9).hex(), "{}")]))

    def interrupt_thread(thread: int) -> None:
        pythonapi.PyThreadState_SetAsyncExc(c_ulong(thread), py_object(Stop))

    threads = [Thread(target=push_on, args=(name,)) for name in range(3)]
    threads.append(Thread(target=push_interrupted, daemon=True))
    for thread in threads:
        thread.start()
    eventually(lambda: len(outcomes) >= 1000, 100)
    ends.set()
    for thread in threads[:3]:
        thread.join(20)

    assert [error for _, error in outcomes if error is not None] == []
    assert client.len("all") == len(outcomes)
    threads[3].join(20)
    client.close()


class Stop(BaseException):
    """Raised in a thread from outside."""


def test_signal_handler_can_push_while_its_thread_makes_a_trip(
    store: TripStore, committer: Committer
) -> None:
    def handle(*args: object) -> None:
        committer.push(Commit([Message("all", "handler", "{}")], "handler"))

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        store.on_trip = lambda: os.kill(os.getpid(), signal.SIGUSR1)
        committer.push(Commit([Message("all", "thread", "{}")], "thread"))
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert store.trips == [["thread"], ["handler"]]
    assert store.len("all") == 2


def test_forked_child_does_not_wait_for_a_trip_of_its_parent(
    store: TripStore, committer: Committer, push: Push
) -> None:
    first = hold(store, committer, push)
    waiting = push("waits")
    wait_until_waiting(committer, 1)

    child = os.fork()
    if not child:
        store.free = Event()
        store.free.set()
        committer.push(Commit([Message("all", "child", "{}")]))
        os._exit(store.len("all"))
    _, status = os.waitpid(child, 0)
    store.free.set()

    assert first.result(20) is waiting.result(20) is None
    assert os.waitstatus_to_exitcode(status) == 1


# Which commits share a trip.


@pytest.mark.parametrize(
    ("first_waited", "other_waited", "can"),
    [
        (0.0, 0.0, True),
        (0.4 * LIMIT, 0.0, True),
        (0.6 * LIMIT, 0.0, False),
        (0.9 * LIMIT, 0.85 * LIMIT, True),
        (2 * LIMIT, 0.0, False),
    ],
)
def test_commits_share_a_trip_if_the_other_has_at_most_twice_the_time(
    first_waited: float, other_waited: float, can: bool
) -> None:
    end = monotonic() + LIMIT

    assert can_share_trip(end - first_waited, end - other_waited) is can


def test_error_of_a_commit_that_was_not_sent_is_local() -> None:
    assert not_sent("no thread could be started").is_local
