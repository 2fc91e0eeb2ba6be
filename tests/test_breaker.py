"""Pushes to a store that is away fail at once, after a while."""

import logging
import os
import time
from collections.abc import Sequence
from threading import Event, Thread

import pytest

from alligator import Gator, Task
from alligator.backends import locmem_backend
from alligator.backends.base import Message
from alligator.breaker import FAILURES, Breaker
from alligator.exceptions import BackendError, BackendUnavailable, TooManyTasks
from alligator.group_commit import GroupCommit
from alligator.health import Health
from tests.integrations.sites import Reply, Site, asgi, wsgi
from tests.sample_tasks import add


class Store(locmem_backend.Client):
    """A store that does what it is told to, and counts what it is asked."""

    error: BaseException | None = None
    pushes = 0
    hold: Event | None = None

    def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
        self.pushes += 1
        if self.hold is not None:
            assert self.hold.wait(10)
        if self.error is not None:
            raise self.error
        super().push_many(messages, commit_id=commit_id)


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("alligator.breaker.monotonic", clock)
    return clock


@pytest.fixture
def store() -> Store:
    store = Store("locmem://")
    store.error = BackendUnavailable("redis://db cannot be reached")
    return store


@pytest.fixture
def breaker(store: Store, clock: Clock) -> Breaker:
    return Breaker(GroupCommit(store))


def push(breaker: Breaker) -> None:
    breaker.push_many([Message("all", os.urandom(4).hex(), "{}")])


def fail(breaker: Breaker, times: int = FAILURES) -> BackendUnavailable:
    for _ in range(times):
        with pytest.raises(BackendUnavailable) as caught:
            push(breaker)
    return caught.value


def test_a_store_that_answers_is_always_asked(breaker: Breaker, store: Store) -> None:
    store.error = None
    for _ in range(20):
        push(breaker)

    assert not breaker.is_open
    assert store.pushes == store.len("all") == 20


def test_after_five_failures_in_a_row_it_is_not_asked_any_more(
    breaker: Breaker, store: Store
) -> None:
    fail(breaker, 4)
    assert not breaker.is_open
    fail(breaker, 3)

    assert breaker.is_open
    assert store.pushes == 5


def test_a_success_in_between_begins_the_count_anew(breaker: Breaker, store: Store) -> None:
    error = store.error
    fail(breaker, 4)
    store.error = None
    push(breaker)
    store.error = error
    fail(breaker, 4)

    assert not breaker.is_open


def test_the_refusal_says_why_and_for_how_long(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 0.25

    refusal = fail(breaker, 1)

    assert "is not asked again for 0.8 s" in str(refusal)
    assert "redis://db cannot be reached" in str(refusal)
    assert refusal.retry_after == 0.75


def test_the_pause_is_doubled_up_to_ten_seconds(
    breaker: Breaker, store: Store, clock: Clock
) -> None:
    fail(breaker)
    pauses = []
    for _ in range(6):
        pauses.append(breaker.retry_after)
        clock.now += breaker.retry_after - 0.01
        fail(breaker, 1)
        clock.now += 0.02
        fail(breaker, 1)

    assert pauses == [1, 2, 4, 8, 10, 10]
    assert store.pushes == 5 + 6


def test_a_success_closes_it(breaker: Breaker, store: Store, clock: Clock) -> None:
    error = store.error
    fail(breaker)
    clock.now += 1
    fail(breaker, 1)
    clock.now += 2
    store.error = None
    push(breaker)
    push(breaker)
    assert not breaker.is_open

    store.error = error
    fail(breaker)
    assert breaker.retry_after == 1  # as in the beginning


def test_a_refusal_of_the_store_is_an_answer(breaker: Breaker, store: Store, clock: Clock) -> None:
    fail(breaker)
    clock.now += 1
    store.error = BackendError("it is out of memory")
    with pytest.raises(BackendError, match="out of memory"):
        push(breaker)

    assert not breaker.is_open


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TooManyTasks("1001")])
def test_a_try_that_says_nothing_of_the_store_is_followed_by_another(
    breaker: Breaker, store: Store, clock: Clock, error: BaseException
) -> None:
    fail(breaker)
    clock.now += 1
    store.error = error
    with pytest.raises(type(error)):
        push(breaker)
    assert breaker.is_open

    store.error = None
    push(breaker)
    assert not breaker.is_open


def test_one_at_a_time_tries_the_store(breaker: Breaker, store: Store, clock: Clock) -> None:
    fail(breaker)
    clock.now += 1
    store.hold = Event()
    trying = Thread(target=fail, args=(breaker, 1))
    trying.start()
    while store.pushes < 6:
        time.sleep(0.001)

    refusals = [fail(breaker, 1) for _ in range(10)]

    assert store.pushes == 6
    assert all("is not asked again" in str(refusal) for refusal in refusals)
    store.hold.set()
    trying.join()
    assert breaker.retry_after == 2


def test_of_fifty_threads_one_tries_the_store(breaker: Breaker, store: Store, clock: Clock) -> None:
    fail(breaker)
    clock.now += 1
    store.hold = Event()
    threads = [Thread(target=fail, args=(breaker, 1)) for _ in range(50)]
    for thread in threads:
        thread.start()
    while sum(thread.is_alive() for thread in threads) > 1:
        time.sleep(0.001)
    store.hold.set()
    for thread in threads:
        thread.join()

    assert store.pushes == 6


def test_failures_that_were_on_their_way_do_not_lengthen_the_pause(
    breaker: Breaker, store: Store
) -> None:
    store.hold = Event()
    threads = [Thread(target=fail, args=(breaker, 1)) for _ in range(20)]
    for thread in threads:
        thread.start()
    while store.pushes < 20:
        time.sleep(0.001)
    store.hold.set()
    for thread in threads:
        thread.join()

    assert breaker.retry_after == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_finds_out_for_itself(breaker: Breaker, store: Store) -> None:
    fail(breaker)

    with breaker._lock:  # as if a thread of the parent were just using it
        child = os.fork()
        if child == 0:  # pragma: no cover
            store.error = None
            push(breaker)
            os._exit(breaker.is_open)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert breaker.is_open


# In a gator, and on a site.


def gator_on(store: Store, **settings: bool) -> Gator:
    return Gator("locmem://", backend_class=lambda _: store, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("settings", "pushes"), [({}, 5), ({"breaker": False}, 8)])
def test_a_gator_has_one_unless_it_is_switched_off(
    store: Store, settings: dict[str, bool], pushes: int
) -> None:
    gator = gator_on(store, **settings)
    for _ in range(8):
        with pytest.raises(BackendUnavailable):
            gator.task(add, 1, 2)

    assert store.pushes == pushes


def test_what_a_worker_does_is_not_held_up(store: Store, clock: Clock) -> None:
    gator = gator_on(store)
    task = Task()
    task.to_call(add, 1, 2)
    locmem_backend.Client.push_many(store, [Message("all", "1", gator.write(task, "all"))])
    for _ in range(5):
        with pytest.raises(BackendUnavailable):
            gator.task(add, 1, 2)

    done = gator.pop()

    assert done is not None
    assert done.result == 3


@pytest.mark.parametrize("site", [wsgi, asgi])
def test_the_503_says_when_to_come_back(
    site: Site, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    gator = gator_on(store)
    get = site(lambda _: Reply(200) if gator.task(add, 1, 2) else Reply(500), {"gator": gator})

    with caplog.at_level(logging.CRITICAL, "alligator"):
        first = get()
        for _ in range(4):
            get()
        clock.now += 1
        get()  # the one that tries
        clock.now += 0.5
        last = get()

    assert (first.status, last.status) == (503, 503)
    assert (first.headers["retry-after"], last.headers["retry-after"]) == ("5", "2")


def test_health_shows_it(store: Store, clock: Clock) -> None:
    gator = gator_on(store)
    (before,) = Health(gator).verdict().checks["commits:breaker"]
    for _ in range(5):
        with pytest.raises(BackendUnavailable):
            gator.task(add, 1, 2)
    (after,) = Health(gator).verdict().checks["commits:breaker"]

    assert (before["observedValue"], before["status"]) == ("closed", "pass")
    assert (after["observedValue"], after["status"]) == ("open", "warn")
    assert "1 s more" in after["output"]
