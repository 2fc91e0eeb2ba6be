"""A schedule, apart from the gator that makes it."""

import json

from alligator import Gator
from alligator.schedules.schedule import format_moment
from tests.harness.sample_tasks import add


def test_ticks_of_one_moment_are_the_same_task_everywhere() -> None:
    first, second = (Gator("locmem://").every(30, add, 1, 2) for _ in range(2))

    assert first.message(60) == second.message(60)
    assert first.message(60).task_id == "add@1970-01-01T00:01:00Z"
    assert first.message(90).task_id != first.message(60).task_id


def test_announcement_holds_no_arguments() -> None:
    schedule = Gator("locmem://").every(30, add, 1, 2, name="sums", catch_up=5)

    name, about, ttl = schedule.announcement()

    assert (name, ttl) == ("sums", 86_400)
    assert json.loads(about) == {
        "definition": "every 30 s",
        "zone": None,
        "function": "tests.harness.sample_tasks.add",
        "queue": "all",
        "catch_up": 5.0,
    }


def test_moments_are_written_in_utc() -> None:
    assert format_moment(1_800_000_000.9) == "2027-01-15T08:00:00Z"
