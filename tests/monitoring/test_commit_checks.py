"""What health reports of commits and spools of this process."""

from pathlib import Path

import pytest

from alligator import Gator
from alligator.commits.spool import Content, Spool
from alligator.exceptions import BackendError
from alligator.monitoring.commit_checks import STUCK_SECONDS
from alligator.monitoring.health import Health
from tests.harness import sample_tasks
from tests.harness.health import Durable, gator_on, work_on


def test_commit_that_failed_recently_is_a_warning() -> None:
    class Full(Durable):
        def push_many(
            self, messages: object, *, commit_id: str | None = None, undo: bool = True
        ) -> None:
            raise BackendError("full")

    gator = gator_on(Full)
    before = Health(gator).verdict()
    with pytest.raises(BackendError), gator.transaction():
        gator.task(sample_tasks.add, 1, 2)

    after = Health(gator).verdict()

    assert before.checks["commits:failed"][0]["status"] == "pass"
    assert after.checks["commits:failed"][0]["status"] == after.status == "warn"


def test_spool_that_is_stuck_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spool, "warnings", lambda _: [])  # the folder of the tests may be in memory
    contents = [
        Content(1, 1, 10, STUCK_SECONDS - 1),
        Content(1, 1, 10, STUCK_SECONDS + 1),
        Content(2, 5, 10, 1.0, 2, "a secret"),
    ]
    gator = Gator("locmem://", "mail", backend_class=Durable, spool=str(tmp_path / "spool.db"))
    work_on(gator, "mail")
    found = []
    for content in contents:
        monkeypatch.setattr(Spool, "content", lambda _, content=content: content)
        found.append(Health(gator).verdict())

    recent, old, failing = found
    assert recent.checks["spool:oldestAge"][0]["status"] == "pass"
    assert old.checks["spool:oldestAge"][0]["status"] == "warn"
    assert old.checks["spool:failing"][0]["status"] == "pass"
    assert failing.checks["spool:failing"][0]["observedValue"] == 2
    assert failing.checks["spool:failing"][0]["status"] == "warn"
    assert "a secret" not in str(failing)


def test_outbox_is_reported_and_old_or_refused_commits_warn(tmp_path: Path) -> None:
    import sqlite3

    from alligator.commits.outbox import Content
    from alligator.exceptions import ConfigurationError

    with Gator("locmem://") as gator:
        assert "outbox:depth" not in Health(gator).verdict().checks
        gator.relay_from(lambda: sqlite3.connect(tmp_path / "shop.db"))
        [relay] = gator.relays

        fine = Health(gator).verdict().checks
        relay.content = Content(3, 61.0, 1, "BackendError: too large")
        relay.problem = ConfigurationError("no table")
        checks = Health(gator).verdict().checks

    names = ("outbox:depth", "outbox:oldestAge", "outbox:refused")
    assert [fine[name][0]["status"] for name in names] == ["pass"] * 3
    assert [checks[name][0]["status"] for name in names] == ["warn"] * 3
    assert [checks[name][0]["observedValue"] for name in names] == [3, 61.0, 1]
