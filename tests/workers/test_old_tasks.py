"""A worker says when Alligator 1.0 has left tasks, and starts in any case."""

import logging

import pytest

from alligator import Gator
from alligator.exceptions import BackendUnavailable
from alligator.workers.old_tasks import warn_of_old_tasks

log = logging.getLogger("alligator")


def test_old_tasks_are_counted_for_each_queue(
    gator: Gator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gator.client, "old_tasks", {"a": 0, "b": 3}.__getitem__)

    warn_of_old_tasks(log, gator, ["a", "b"])

    [record] = caplog.records
    assert record.getMessage().startswith("3 tasks of Alligator 1.0 are left in queue b")


def test_store_that_is_away_is_no_obstacle(
    gator: Gator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def old_tasks(name: str) -> int:
        raise BackendUnavailable("away")

    monkeypatch.setattr(gator.client, "old_tasks", old_tasks)

    warn_of_old_tasks(log, gator, ["a"])

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
