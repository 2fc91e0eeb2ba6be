"""Writes to the tables: times and counts."""

import time
from math import inf
from pathlib import Path

import pytest

from alligator.backends.base import Announcement, Limit, Message, Outcome, Verdict, WorkerInfo
from alligator.backends.sqlite_backend import Client, clock
from alligator.constants import COMMIT_MEMORY, LONG_COMMIT_MEMORY
from tests.harness.sqlite_files import query

HOUR = 3600.0


def recount(path: Path, queue: str) -> dict[str, int]:
    rows = query(path, f"SELECT state, count(*) FROM task WHERE queue = '{queue}' GROUP BY state")
    return {str(state): int(str(count)) for state, count in rows}


def test_clock_that_is_set_back_makes_no_task_wait_longer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.push("mail", "leased", "1")
    client.reserve("mail", lease_for=60)
    client.push_many([Message("mail", "scheduled", "2", 60.0), Message("mail", "ready", "3")])
    client.beat(WorkerInfo(name="w"), 60)

    monkeypatch.setattr(clock, "time", lambda: time.time() - HOUR)

    assert client.reserve("mail", lease_for=120)[0].task_id == "ready"
    assert 50 < client.step(["mail"], 1).pause <= 60
    assert client.workers()[0].seen_ago < 10
    monkeypatch.setattr(clock, "time", lambda: time.time() - HOUR + 90)
    # One after the other, for the one whose lease has ended is leased alone.
    leases = [*client.reserve("mail", limit=5), *client.reserve("mail", limit=5)]
    assert {lease.task_id for lease in leases} == {"leased", "scheduled"}


def test_clock_that_is_set_back_lengthens_no_pause_and_keeps_no_schedule(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.pause("mail", 60)
    client.pause("print", inf)
    client.announce_schedules([Announcement("nightly", "{}", 60)], 1)

    monkeypatch.setattr(clock, "time", lambda: time.time() - HOUR)
    client.push("other", "a", "1")

    assert 30 < client.stats("mail").paused <= 60
    assert client.stats("print").paused == inf
    monkeypatch.setattr(clock, "time", lambda: time.time() - HOUR + 90)
    assert client.stats("mail").paused == 0
    assert client.schedules() == []


@pytest.mark.parametrize("key", [None, "t"])
def test_clock_that_is_set_back_lengthens_the_time_of_no_limit(
    client: Client, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    client.push_many([Message("mail", name, "1", limit_key=key) for name in "ab"])
    client.limit("mail", Limit(starts=1, seconds=60), key)
    client.ack(client.reserve("mail")[0])
    assert not client.reserve("mail")

    monkeypatch.setattr(clock, "time", lambda: time.time() - HOUR)
    client.push("other", "c", "3")

    assert not client.reserve("mail")
    assert 30 < client.step(["mail"], 1).pause <= 60
    monkeypatch.setattr(clock, "time", lambda: time.time() - HOUR + 90)
    assert len(client.reserve("mail")) == 1


def test_counts_equal_those_of_a_recount(client: Client, path: Path) -> None:
    client.push_many([Message("mail", f"t{n}", "1", n % 3 * HOUR) for n in range(60)])
    leases = client.reserve("mail", limit=12)
    verdicts: tuple[Verdict, ...] = ("ack", "retry", "release", "dead")
    client.step(
        (), 0, outcomes=[Outcome(verdicts[n % 4], lease) for n, lease in enumerate(leases[:8])]
    )
    client.cancel("mail", "t1")

    stats = client.stats("mail")

    assert recount(path, "mail") == {
        state: getattr(stats, state) for state in ("ready", "scheduled", "leased", "dead")
    }


def test_stats_do_not_scan_the_backlog(client: Client, path: Path) -> None:
    for batch in range(5):
        client.push_many([Message("mail", f"{batch}-{n}", "1") for n in range(1000)])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    client.stats("mail")
    with client._database.read() as connection:
        connection.set_progress_handler(count, 1)
    client.stats("mail")
    client.step(["print"], 1)

    assert steps < 1000


def test_commit_is_remembered_for_minutes_or_for_a_day(
    client: Client, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget_after(seconds: float) -> set[str]:
        """Push under both ids that long after the first time; return which of them queue a task."""
        monkeypatch.setattr(clock, "time", lambda: time.time() + seconds)
        client.drop_all("mail")
        client.push_many([Message("mail", "other", "{}")], commit_id=f"other-{seconds}")
        for commit_id in ("c", "day-c"):
            client.push_many([Message("mail", commit_id, "{}")], commit_id=commit_id, undo=False)
        return {lease.task_id for lease in client.reserve("mail", limit=9)} - {"other"}

    assert forget_after(0) == {"c", "day-c"}
    assert forget_after(COMMIT_MEMORY - 9) == set()
    assert forget_after(COMMIT_MEMORY + 9) == {"c"}
    assert forget_after(LONG_COMMIT_MEMORY - 9) == {"c"}
    assert forget_after(LONG_COMMIT_MEMORY + 9) == {"day-c"}  # "c" was pushed 18 s before
    assert query(path, "SELECT count(*) FROM pushed") == [(4,)]
