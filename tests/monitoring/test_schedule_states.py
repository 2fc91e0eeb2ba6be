"""What is shown of the schedules of a store."""

import json
from time import time

import pytest

from alligator import Gator
from alligator.backends.base import Announcement, Message
from alligator.monitoring.schedule_states import (
    MAX_SCHEDULES,
    ScheduleState,
    find_schedules,
)
from alligator.monitoring.stats import measure
from alligator.monitoring.stores import find_stores
from tests.harness.sample_tasks import add, fail

MINUTE = 60


def states(gator: Gator) -> list[ScheduleState]:
    (store,) = find_stores(gator)
    return find_schedules(store) or []


def announce(gator: Gator, now: float, *, about: str = "", **definition: object) -> None:
    text = about or json.dumps({"definition": "every 60 s", "catch_up": 3600, **definition})
    gator.client.announce_schedules([Announcement("nightly", text, 3600)], int(now))


def test_schedule_of_a_worker_is_shown(gator: Gator) -> None:
    announce(
        gator,
        86_400 * 20_000,
        definition="0 3 * * *",
        zone="Europe/Berlin",
        function="f",
        queue="q",
    )

    (state,) = states(gator)

    assert state[:6] == ("nightly", "0 3 * * *", "Europe/Berlin", "f", "q", 3600)
    assert (state.ran, state.is_kept, state.is_here) == (None, True, False)


def test_last_and_next_run_are_known(gator: Gator) -> None:
    now = int(time()) // MINUTE * MINUTE
    announce(gator, now - MINUTE)
    gator.client.push_tick("nightly", now, Message("mail", "a", "{}"))

    (state,) = states(gator)

    assert (state.ran, state.due) == (now, now + MINUTE)
    assert state.problem(now) == ""


def test_schedule_of_the_program_that_no_worker_announced_is_a_problem(gator: Gator) -> None:
    gator.every(MINUTE, add, 1, 2)

    (state,) = states(gator)

    assert (state.name, state.definition, state.is_here) == ("add", "every 60 s", True)
    assert "start latergator with --app" in state.problem(time())


def test_late_tick_is_a_problem(gator: Gator) -> None:
    now = int(time())
    announce(gator, now - 10 * MINUTE)

    (state,) = states(gator)

    assert state.problem(now).startswith("should have run ")
    assert "the log of the workers says why" in state.problem(now)
    kept_by_none = state._replace(seen_ago=1000.0)
    assert "latergator schedules forget" in kept_by_none.problem(now)


def test_skipped_tick_is_a_problem_for_a_day(gator: Gator) -> None:
    now = int(time())
    announce(gator, now - 10 * MINUTE, catch_up=MINUTE)

    (state,) = states(gator)

    assert state.due is not None
    assert state.due > now - 2 * MINUTE
    assert "that tick was skipped" in state.problem(now)
    assert state._replace(missed=now - 2 * 86_400).problem(now) == ""


def test_last_tick_in_the_future_is_a_problem_of_clocks(gator: Gator) -> None:
    now = int(time())
    announce(gator, now)
    gator.client.push_tick("nightly", now + 3600, Message("mail", "a", "{}"))

    (state,) = states(gator)

    assert "set the clocks of the workers" in state.problem(now)


@pytest.mark.parametrize(
    "about",
    [
        *("", "x", "[]", "null", "7", '{"definition": 7}', '{"definition": "* * *"}'),
        *('{"definition": "every 60 s", "catch_up": "x"}', "[" * 100_000),
        '{"definition": "* * * * *", "zone": "Mars", "function": [], "catch_up": 1e400}',
    ],
)
def test_record_that_is_damaged_breaks_nothing(gator: Gator, about: str) -> None:
    gator.client.announce_schedules([Announcement("nightly", about, 3600)], int(time()))

    (state,) = states(gator)
    (document,) = measure(gator)["stores"]

    assert (state.name, state.problem(time())) == ("nightly", "")
    assert [each["name"] for each in document["schedules"]] == ["nightly"]


def test_stats_show_the_schedules(gator: Gator) -> None:
    gator.cron("0 3 * * *", fail, timezone="Europe/Berlin", queue_name="reports")
    gator.client.announce_schedules([gator.schedules["fail"].announcement()], 1_800_000_000)
    gator.client.push_tick("fail", 1_800_000_000 + 1, Message("mail", "a", "{}"))

    (store,) = measure(gator)["stores"]
    (found,) = store["schedules"]

    seen_ago = found.pop("seen_ago")
    assert seen_ago >= 0
    assert found == {
        "name": "fail",
        "definition": "0 3 * * *",
        "timezone": "Europe/Berlin",
        "function": "tests.harness.sample_tasks.fail",
        "queue": "reports",
        "catch_up": 3600.0,
        "last": "2027-01-15T08:00:01.000Z",
        "next": "2027-01-16T02:00:00.000Z",
    }


def test_only_some_of_very_many_schedules_are_shown(gator: Gator) -> None:
    names = [f"s{number:04}" for number in range(MAX_SCHEDULES + 5)]
    gator.client.announce_schedules([Announcement(name, "{}", 3600) for name in names], 0)

    assert [state.name for state in states(gator)] == names[:MAX_SCHEDULES]


def test_store_that_keeps_nothing_shows_nothing() -> None:
    class Five:
        def len(self, queue_name: str) -> int:
            return 0

        def drop_all(self, queue_name: str) -> None:
            pass

        def push(self, *args: object) -> None:
            pass

        def pop(self, queue_name: str) -> None:
            pass

        def get(self, queue_name: str, task_id: str) -> None:
            pass

    gator = Gator("five://", backend_class=lambda dsn: Five())
    gator.every(60, add, 1, 2)

    (store,) = find_stores(gator)

    assert find_schedules(store) is None
    assert measure(gator)["stores"][0]["schedules"] is None
