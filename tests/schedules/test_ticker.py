"""The thread that queues the ticks of schedules, with a clock that the tests move."""

import logging
from collections.abc import Callable, Sequence
from threading import Event
from time import time
from typing import Any

import pytest

from alligator import Gator, Snooze
from alligator.backends.base import Announcement, Client, Message
from alligator.backends.locmem_backend import Client as Locmem
from alligator.exceptions import BackendError, BackendUnavailable
from alligator.schedules.ticker import AT_ONCE, LONGEST_WAIT, Ticker
from tests.harness import workers
from tests.harness.contract import becomes, drain
from tests.harness.sample_tasks import add, fail

NOON = 1_800_000_000 - 1_800_000_000 % 86_400 + 12 * 3600


class Worker:
    """The ticker of one worker, and its clock."""

    def __init__(self, gator: Gator, now: float = NOON) -> None:
        self.now = now
        self.gator = gator
        self.ticker = Ticker(gator.client, [*gator.schedules.values()], lambda: self.now)

    def at(self, *seconds: float) -> float:
        """Set its clock to so many seconds after noon, one after the other, and let it look."""
        left = 0.0
        for each in seconds:
            self.now = NOON + each
            while not (left := self.ticker.run_once()):
                pass
        return left


class Away(Locmem):
    """A store that can be away, before or after it has done what was asked."""

    away = ""

    def announce_schedules(self, schedules: Sequence[Announcement], now: int) -> list[int]:
        if self.away == "announcing":
            raise BackendUnavailable("gone fishing")
        return super().announce_schedules(schedules, now)

    def push_tick(self, name: str, moment: int, message: Message) -> bool:
        if self.away == "before":
            raise BackendUnavailable("gone fishing")
        queued = super().push_tick(name, moment, message)
        if self.away == "after":
            raise BackendUnavailable("gone fishing")
        return queued


@pytest.fixture
def store() -> Away:
    return Away("locmem://")


def make(store: Client, define: Callable[[Gator], object] | None = None) -> Gator:
    """Return the gator of one process, with a schedule."""
    gator = Gator("locmem://", backend_class=lambda dsn: store)
    (define or (lambda gator: gator.every(30, add, 1, 2)))(gator)
    return gator


def ids(store: Client) -> list[str]:
    """Return when the ticks were due that are on the queue, in seconds after noon."""
    return [task_id.rpartition("@")[2][11:-1] for task_id in drain(store, "all")]


def test_tick_is_queued_when_it_is_due(store: Away) -> None:
    worker = Worker(make(store))

    worker.at(0, 29.9)
    assert ids(store) == []
    worker.at(30)
    assert ids(store) == ["12:00:30"]
    worker.at(30.5, 59)
    assert ids(store) == []
    worker.at(61)
    assert ids(store) == ["12:01:00"]


def test_ticker_returns_when_to_look_again(store: Away) -> None:
    worker = Worker(make(store))

    assert worker.at(0) == LONGEST_WAIT
    assert worker.at(28) == 2
    assert worker.at(30) == LONGEST_WAIT


def test_first_appearance_does_not_run_the_past(store: Away) -> None:
    worker = Worker(make(store, lambda gator: gator.every(30, add, 1, 2, catch_up=3600)))

    worker.at(0.5, 1, 2)

    assert ids(store) == []


def test_several_workers_queue_each_tick_once(store: Away) -> None:
    fast, slow = Worker(make(store)), Worker(make(store))
    for second in range(181):
        fast.at(second + 2)
        slow.at(second)

    assert ids(store) == [
        *("12:00:30", "12:01:00", "12:01:30", "12:02:00", "12:02:30", "12:03:00"),
    ]


def test_tick_is_queued_by_the_slow_clock_if_the_fast_one_ends(store: Away) -> None:
    fast, slow = Worker(make(store)), Worker(make(store))
    fast.at(1, 31)
    slow.at(0, 29, 30, 31, 60)

    assert ids(store) == ["12:00:30", "12:01:00"]


def test_missed_ticks_are_caught_up_in_order(store: Away) -> None:
    Worker(make(store)).at(0)

    Worker(make(store)).at(65)

    assert ids(store) == ["12:00:30", "12:01:00"]


def test_ticks_that_are_too_late_are_skipped_and_logged(
    store: Away, caplog: pytest.LogCaptureFixture
) -> None:
    Worker(make(store)).at(0)
    worker = Worker(make(store))

    worker.at(200, 201, 202)

    assert ids(store) == ["12:02:30", "12:03:00"]
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line == (
        "schedule add: no worker was there for its ticks from 2027-01-15T12:00:30Z to "
        "2027-01-15T12:02:19Z; they are skipped, because its catch_up is 60 s"
    )


def test_schedule_without_catch_up_skips_what_is_late(store: Away) -> None:
    gator = make(store, lambda gator: gator.every(30, add, 1, 2, catch_up=0))
    Worker(gator).at(0)

    worker = Worker(gator)
    worker.at(35)
    assert ids(store) == []
    worker.at(60.4)
    assert ids(store) == ["12:01:00"]


def test_catch_up_may_be_longer_than_stores_remember_commits(store: Away) -> None:
    week = 7 * 86_400

    def define(gator: Gator) -> None:
        gator.cron("0 3 * * *", add, 1, 2, catch_up=week)

    Worker(make(store, define)).at(0, 86_400)
    drain(store, "all")

    Worker(make(store, define)).at(5 * 86_400)

    assert ids(store) == ["03:00:00"] * 4


def test_many_missed_ticks_do_not_hold_up_other_schedules(store: Away) -> None:
    def define(gator: Gator) -> None:
        gator.every(1, add, 1, 2, name="often", catch_up=3600)
        gator.every(60, add, 1, 2, name="rarely")

    Worker(make(store, define)).at(0)
    worker = Worker(make(store, define))
    worker.now = NOON + 1000

    assert worker.ticker.run_once() == 0

    names = [task_id.partition("@")[0] for task_id in drain(store, "all")]
    assert (names.count("often"), names.count("rarely")) == (AT_ONCE, 1)


@pytest.mark.parametrize("away", ["before", "after"])
def test_outage_of_the_store_loses_and_repeats_no_tick(store: Away, away: str) -> None:
    worker = Worker(make(store))
    worker.at(0)

    store.away = away
    for second in (30, 31, 40):
        with pytest.raises(BackendUnavailable):
            worker.at(second)
    store.away = ""
    worker.at(60)

    assert ids(store) == ["12:00:30", "12:01:00"]


def test_tick_is_queued_after_the_outage_in_which_its_schedule_appeared(store: Away) -> None:
    worker = Worker(make(store))
    store.away = "announcing"
    with pytest.raises(BackendUnavailable):
        worker.at(0)
    store.away = ""

    worker.at(5, 30)

    assert ids(store) == ["12:00:30"]


def test_clock_that_is_set_back_repeats_no_tick(store: Away) -> None:
    worker = Worker(make(store))
    worker.at(0, 30, 60, 31, 60, 61)

    assert ids(store) == ["12:00:30", "12:01:00"]


def test_data_that_was_dropped_does_not_bring_the_past_back(
    store: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.schedules.ticker.ANNOUNCE_SECONDS", 0.0)
    worker = Worker(make(store))
    worker.at(0, 30)
    drain(store, "all")
    store.forget_schedule("add")

    worker.at(45, 60)

    assert ids(store) == ["12:01:00"]


def test_schedule_whose_tick_cannot_be_made_does_not_hold_up_others(
    store: Away, caplog: pytest.LogCaptureFixture
) -> None:
    argument: Any = [1]

    def define(gator: Gator) -> None:
        gator.every(30, add, argument, 2, name="bad")
        gator.every(30, add, 1, 2, name="good")

    worker = Worker(make(store, define))
    worker.at(0)
    argument.append(object())

    assert worker.at(30, 31) == LONGEST_WAIT

    assert drain(store, "all") == ["good@2027-01-15T12:00:30Z"]
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage().startswith("schedule bad: its tick cannot be queued yet: ")
    argument.pop()
    worker.at(32)
    assert drain(store, "all") == ["bad@2027-01-15T12:00:30Z"]


def test_store_that_refuses_is_asked_again(
    store: Away, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(make(store))
    worker.at(0)

    def refuse(*args: Any) -> bool:
        raise BackendError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(store, "push_tick", refuse)
        worker.at(30)
    worker.at(31)

    assert ids(store) == ["12:00:30"]
    assert "out of memory" in caplog.text


def test_caught_up_tick_is_logged(store: Away, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "alligator")
    Worker(make(store)).at(0)

    Worker(make(store)).at(50)

    assert "schedule add: queued its tick of 2027-01-15T12:00:30Z, 20.0 s after it was due" in (
        caplog.text
    )


def test_store_that_keeps_nothing_gets_each_tick_of_one_worker() -> None:
    class Forgetful(Locmem):
        remembers_ticks = False

        def announce_schedules(self, schedules: Any, now: int) -> Any:
            return [None for _ in schedules]

        def push_tick(self, name: str, moment: int, message: Message) -> bool:
            return super(Locmem, self).push_tick(name, moment, message)

    store = Forgetful("locmem://")
    worker = Worker(make(store))

    worker.at(0, 30, 31, 60)

    assert ids(store) == ["12:00:30", "12:01:00"]


def test_thread_queues_ticks_and_ends(store: Away) -> None:
    gator = make(store, lambda gator: gator.every(1, add, 1, 2))
    ticker = Ticker(store, [*gator.schedules.values()])

    ticker.start()

    assert becomes(lambda: store.len("all") > 0)
    ticker.stop()
    assert becomes(lambda: ticker._thread is not None and not ticker._thread.is_alive())


def test_thread_survives_errors_of_the_store(
    store: Away, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Event()
    calls: list[int] = []

    def announce(schedules: list[Announcement], now: int) -> list[int]:
        calls.append(now)
        if len(calls) < 3:
            raise ZeroDivisionError("any")
        asked.set()
        return [now]

    monkeypatch.setattr(store, "announce_schedules", announce)
    ticker = Ticker(store, [*make(store).schedules.values()])

    ticker.start()

    assert asked.wait(30)
    assert becomes(lambda: "schedules: their ticks are queued again" in caplog.text)
    ticker.stop()
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1


def test_announcement_names_what_people_want_to_know(store: Away) -> None:
    gator = make(store, lambda gator: gator.cron("0 3 * * *", fail, timezone="Europe/Berlin"))
    Worker(gator).at(0)

    (record,) = store.schedules()

    assert record.about == (
        '{"definition": "0 3 * * *", "zone": "Europe/Berlin", "function": '
        '"tests.harness.sample_tasks.fail", "queue": "all", "catch_up": 3600.0}'
    )


# With pauses, expiry and snoozes.


def not_yet() -> None:
    raise Snooze(3600)


def test_ticks_of_a_paused_queue_wait_until_it_is_resumed(gator: Gator) -> None:
    gator.every(30, add, 1, 2)
    worker = Worker(gator)
    worker.at(0)
    gator.pause()

    worker.at(30, 60)

    assert drain(gator.client, "all") == []
    assert gator.len() == 2
    gator.resume()
    assert drain(gator.client, "all") == ["add@2027-01-15T12:00:30Z", "add@2027-01-15T12:01:00Z"]


def test_tick_that_waits_for_too_long_expires(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    gator.every(30, add, 1, 2, expires=60)
    worker = Worker(gator)
    worker.at(0)
    gator.pause()
    worker.at(30)
    monkeypatch.setattr("alligator.execution.attempt.time", lambda: time() + 3600)

    gator.resume()
    workers.burst(gator)

    assert (gator.stats().expired, gator.stats().succeeded) == (1, 0)


def test_tick_is_queued_beside_one_that_snoozes(gator: Gator) -> None:
    gator.every(30, not_yet)
    worker = Worker(gator)
    worker.at(0, 30)
    workers.burst(gator)

    worker.at(60)
    workers.burst(gator)

    stats = gator.stats()
    assert (stats.scheduled, stats.ready, stats.failed) == (2, 0, 0)
