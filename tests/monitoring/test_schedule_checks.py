"""What health reports of the schedules of a store."""

from time import time
from typing import Any

import pytest

from alligator import Gator
from alligator.backends.base import Announcement
from alligator.exceptions import BackendError
from alligator.monitoring.health import Health
from tests.harness.sample_tasks import add


def announce(gator: Gator, *names: str, ago: float) -> None:
    about = '{"definition": "every 60 s", "catch_up": 3600}'
    gator.client.announce_schedules(
        [Announcement(name, about, 3600) for name in names], int(time() - ago)
    )


def test_store_without_schedules_has_no_check_of_them(gator: Gator) -> None:
    assert "schedules:late" not in Health(gator).verdict().checks


def test_schedules_in_time_pass(gator: Gator) -> None:
    announce(gator, "nightly", ago=0)

    verdict = Health(gator).verdict()

    (entry,) = verdict.checks["schedules:late"]
    assert (verdict.status, entry["status"], entry["observedValue"]) == ("pass", "pass", 0)


def test_each_late_schedule_is_a_warning(gator: Gator) -> None:
    announce(gator, "nightly", "hourly", ago=600)
    announce(gator, "in time", ago=0)

    verdict = Health(gator).verdict()

    first, second = verdict.checks["schedules:late"]
    assert (verdict.status, first["status"], first["observedValue"]) == ("warn", "warn", 2)
    assert first["output"].startswith("schedule hourly should have run ")
    assert second["output"].startswith("schedule nightly should have run ")


def test_schedule_that_no_worker_keeps_is_a_warning(gator: Gator) -> None:
    gator.every(60, add, 1, 2)

    (entry,) = Health(gator).verdict().checks["schedules:late"]

    assert entry["output"] == (
        "schedule add has been announced by no worker: start latergator with --app"
    )


def test_schedules_that_cannot_be_read_are_a_warning(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise BackendError("no rights")

    monkeypatch.setattr(gator.client, "schedules", fail)

    (entry,) = Health(gator).verdict().checks["schedules:late"]

    assert (entry["status"], entry["output"]) == ("warn", "no rights")
