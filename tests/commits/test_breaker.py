"""Pushes to a store that cannot be reached fail at once after some failures."""

import logging
import os
import time
from collections.abc import Sequence
from threading import Event, Thread

import pytest

from alligator import Gator, Task
from alligator.backends import locmem_backend
from alligator.backends.base import Commit, Message
from alligator.commits.breaker import FAILURES, TRIAL_SECONDS, Breaker
from alligator.commits.committer import Committer
from alligator.exceptions import BackendError, BackendUnavailable, TooManyTasks
from alligator.monitoring.health import Health
from tests.harness.programs import eventually
from tests.harness.sample_tasks import add
from tests.harness.web_sites import Reply, Site, asgi, wsgi


class Store(locmem_backend.Client):
    """A store whose answers the test sets, and which counts the calls."""

    error: BaseException | None = None
    pushes = 0
    hold: Event | None = None

    def push_many(
        self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
    ) -> None:
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
    for module in ("breaker", "trips"):
        monkeypatch.setattr(f"alligator.commits.{module}.monotonic", clock)
    return clock


@pytest.fixture
def store() -> Store:
    store = Store("locmem://")
    store.error = BackendUnavailable("redis://db cannot be reached")
    return store


@pytest.fixture
def committer(store: Store, clock: Clock) -> Committer:
    return Committer(store)


@pytest.fixture
def breaker(committer: Committer) -> Breaker:
    return breaker_of(committer)


def breaker_of(committer: Committer) -> Breaker:
    assert committer.breaker is not None
    return committer.breaker


def push(committer: Committer) -> None:
    committer.push(Commit([Message("all", os.urandom(4).hex(), "{}")]))


def fail(committer: Committer, times: int = FAILURES) -> BackendUnavailable:
    for _ in range(times):
        with pytest.raises(BackendUnavailable) as caught:
            push(committer)
    return caught.value


def test_breaker_passes_all_pushes_while_the_store_answers(
    committer: Committer, breaker: Breaker, store: Store
) -> None:
    store.error = None
    for _ in range(20):
        push(committer)

    assert not breaker.is_open
    assert store.pushes == store.len("all") == 20


def test_breaker_opens_after_five_failures_in_a_row(
    committer: Committer, breaker: Breaker, store: Store
) -> None:
    fail(committer, 4)
    assert not breaker.is_open
    fail(committer, 3)

    assert breaker.is_open
    assert store.pushes == 5


def test_success_resets_the_count_of_failures(
    committer: Committer, breaker: Breaker, store: Store
) -> None:
    error = store.error
    fail(committer, 4)
    store.error = None
    push(committer)
    store.error = error
    fail(committer, 4)

    assert not breaker.is_open


def test_error_of_an_open_breaker_says_why_and_for_how_long(
    committer: Committer, breaker: Breaker, clock: Clock
) -> None:
    fail(committer)
    clock.now += 0.25

    refusal = fail(committer, 1)

    assert "fail for the next 0.8 s" in str(refusal)
    assert "redis://db cannot be reached" in str(refusal)
    assert refusal.retry_after == 0.75


def test_pause_is_doubled_up_to_ten_seconds(
    committer: Committer, breaker: Breaker, store: Store, clock: Clock
) -> None:
    fail(committer)
    pauses = []
    for _ in range(6):
        pauses.append(breaker.retry_after)
        clock.now += breaker.retry_after - 0.01
        fail(committer, 1)
        clock.now += 0.02
        fail(committer, 1)

    assert pauses == [1, 2, 4, 8, 10, 10]
    assert store.pushes == 5 + 6


def test_commits_that_fail_concurrently_count_once(store: Store) -> None:
    committer = Committer(store)
    breaker = breaker_of(committer)
    store.hold = Event()
    threads = [Thread(target=fail, args=(committer, 1)) for _ in range(3 * FAILURES)]
    for thread in threads:
        thread.start()
    eventually(lambda: store.pushes == 3 * FAILURES)
    store.hold.set()
    for thread in threads:
        thread.join(10)

    assert not breaker.is_open
    fail(committer, FAILURES - 1)
    assert breaker.is_open


def test_push_that_was_not_sent_does_not_count_as_a_failure(
    committer: Committer, breaker: Breaker, store: Store
) -> None:
    error = BackendUnavailable("no thread could be started")
    error.is_local = True
    store.error = error

    fail(committer, 2 * FAILURES)

    assert not breaker.is_open


def test_trial_that_never_ends_is_followed_by_another(
    committer: Committer, breaker: Breaker, store: Store, clock: Clock
) -> None:
    fail(committer)
    clock.now += 1
    assert breaker.enter(), "its event loop is stopped, not closed"
    store.error = None

    with pytest.raises(BackendUnavailable):
        push(committer)
    clock.now += TRIAL_SECONDS
    push(committer)

    assert not breaker.is_open


def test_success_closes_the_breaker(
    committer: Committer, breaker: Breaker, store: Store, clock: Clock
) -> None:
    error = store.error
    fail(committer)
    clock.now += 1
    fail(committer, 1)
    clock.now += 2
    store.error = None
    push(committer)
    push(committer)
    assert not breaker.is_open

    store.error = error
    fail(committer)
    assert breaker.retry_after == 1  # as in the beginning


def test_rejection_by_the_store_closes_the_breaker(
    committer: Committer, breaker: Breaker, store: Store, clock: Clock
) -> None:
    fail(committer)
    clock.now += 1
    store.error = BackendError("it is out of memory")
    with pytest.raises(BackendError, match="out of memory"):
        push(committer)

    assert not breaker.is_open


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TooManyTasks("1001")])
def test_trial_without_a_result_is_followed_by_another(
    committer: Committer, breaker: Breaker, store: Store, clock: Clock, error: BaseException
) -> None:
    fail(committer)
    clock.now += 1
    store.error = error
    with pytest.raises(type(error)):
        push(committer)
    assert breaker.is_open

    store.error = None
    push(committer)
    assert not breaker.is_open


def test_only_one_trial_runs_at_a_time(
    committer: Committer, breaker: Breaker, store: Store, clock: Clock
) -> None:
    fail(committer)
    clock.now += 1
    store.hold = Event()
    trying = Thread(target=fail, args=(committer, 1))
    trying.start()
    while store.pushes < 6:
        time.sleep(0.001)

    refusals = [fail(committer, 1) for _ in range(10)]

    assert store.pushes == 6
    assert all("fail for the next" in str(refusal) for refusal in refusals)
    store.hold.set()
    trying.join()
    assert breaker.retry_after == 2


def test_only_one_of_fifty_threads_makes_a_trial(
    committer: Committer, breaker: Breaker, store: Store, clock: Clock
) -> None:
    fail(committer)
    clock.now += 1
    store.hold = Event()
    threads = [Thread(target=fail, args=(committer, 1)) for _ in range(50)]
    for thread in threads:
        thread.start()
    while sum(thread.is_alive() for thread in threads) > 1:
        time.sleep(0.001)
    store.hold.set()
    for thread in threads:
        thread.join()

    assert store.pushes == 6


def test_failures_in_progress_do_not_extend_the_pause(
    committer: Committer, breaker: Breaker, store: Store, clock: Clock
) -> None:
    fail(committer, FAILURES - 1)
    store.hold = Event()
    threads = [Thread(target=fail, args=(committer, 1)) for _ in range(20)]
    for thread in threads:
        thread.start()
    while store.pushes < FAILURES - 1 + 20:
        time.sleep(0.001)
    clock.now += 0.01
    store.hold.set()
    for thread in threads:
        thread.join()

    assert breaker.retry_after == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_breaker_of_a_forked_child_is_its_own(
    committer: Committer, breaker: Breaker, store: Store
) -> None:
    fail(committer)

    with breaker._lock:  # as if a thread of the parent were just using it
        child = os.fork()
        if child == 0:  # pragma: no cover
            store.error = None
            push(committer)
            os._exit(breaker.is_open)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert breaker.is_open


# In a gator, and on a site.


def gator_on(store: Store, **settings: bool) -> Gator:
    return Gator("locmem://", backend_class=lambda _: store, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("settings", "pushes"), [({}, 5), ({"breaker": False}, 8)])
def test_gator_has_a_breaker_unless_it_is_switched_off(
    store: Store, settings: dict[str, bool], pushes: int
) -> None:
    gator = gator_on(store, **settings)
    for _ in range(8):
        with pytest.raises(BackendUnavailable):
            gator.task(add, 1, 2)

    assert store.pushes == pushes


def test_breaker_does_not_affect_workers(store: Store, clock: Clock) -> None:
    gator = gator_on(store)
    task = Task()
    task.to_call(add, 1, 2)
    locmem_backend.Client.push_many(store, [Message("all", "1", gator.guard.write(task, "all"))])
    for _ in range(5):
        with pytest.raises(BackendUnavailable):
            gator.task(add, 1, 2)

    done = gator.pop()

    assert done is not None
    assert done.result == 3


@pytest.mark.parametrize("site", [wsgi, asgi])
def test_503_has_a_retry_after_header(
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


def test_health_shows_the_breaker(store: Store, clock: Clock) -> None:
    gator = gator_on(store)
    (before,) = Health(gator).verdict().checks["commits:breaker"]
    for _ in range(5):
        with pytest.raises(BackendUnavailable):
            gator.task(add, 1, 2)
    (after,) = Health(gator).verdict().checks["commits:breaker"]

    assert (before["observedValue"], before["status"]) == ("closed", "pass")
    assert (after["observedValue"], after["status"]) == ("open", "warn")
    assert "1 s more" in after["output"]
