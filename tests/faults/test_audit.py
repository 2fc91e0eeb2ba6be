"""The audit accepts additional runs that have a reason, and no others."""

from pathlib import Path

import pytest

from alligator.backends.base import QueueStats
from tests.faults.audit import Answer, AuditLog, audit

FROZEN, OTHER = 1, 2


def broken(folder: Path, runs: list[tuple[str, int, float]], pauses: str = "") -> list[str]:
    """Return the violations if these runs (task, process, time) were recorded, in this order."""
    audit_log = AuditLog(folder / "runs")
    lines = [
        f"{word} {name} {pid} {at + late:.6f}\n"
        for name, pid, at in runs
        for word, late in (("begin", 0.0), ("end", 0.1))
    ]
    audit_log.ledger.write_text("".join(lines))
    (folder / "runs.pauses").write_text(pauses)
    audit_log.answers.append(Answer(tuple({name: 0 for name, *_ in runs}), 201))
    stats = QueueStats()
    found = audit(audit_log, {}, stats, killed_or_frozen={FROZEN}, forgets=True)
    return found.broken


def test_run_before_a_freeze_is_a_reason(tmp_path: Path) -> None:
    assert broken(tmp_path, [("a", FROZEN, 1.0), ("a", OTHER, 3.0)]) == []


def test_frozen_process_may_begin_one_task_that_it_had_checked(tmp_path: Path) -> None:
    assert broken(tmp_path, [("a", OTHER, 2.0), ("a", FROZEN, 3.0)]) == []


def test_frozen_process_must_not_begin_what_it_had_only_reserved(tmp_path: Path) -> None:
    runs = [(name, pid, float(pid)) for pid in (OTHER, FROZEN) for name in "ab"]

    assert broken(tmp_path, runs) == ["I3: b ran 2 times, 0 of them with a reason"]


@pytest.mark.parametrize(
    ("pauses", "number"),
    [
        (f"{OTHER} 0.9 2.5\n", 0),
        ("3 0.9 2.5\n", 1),  # of another worker
        (f"{OTHER} 0.1 0.9\n", 1),  # before the task began
        (f"{OTHER} 5.0 7.0\n", 1),  # after it ran again
        ("", 1),
    ],
)
def test_late_heartbeat_is_a_reason(tmp_path: Path, pauses: str, number: int) -> None:
    assert len(broken(tmp_path, [("a", OTHER, 1.0), ("a", 4, 2.2)], pauses)) == number


@pytest.mark.parametrize(
    ("pushes", "spools", "number"), [(2, True, 0), (1, True, 2), (2, False, 3)]
)
def test_spooled_commit_may_be_pushed_again(
    tmp_path: Path, pushes: int, spools: bool, number: int
) -> None:
    audit_log = AuditLog(tmp_path / "runs")
    runs = ("begin a 1 1.0\nend a 1 1.1\n", "begin a 1 3.0\nend a 1 3.1\n")
    audit_log.ledger.write_text("".join(runs))
    audit_log.answers.append(Answer(("a",), 201))

    found = audit(
        audit_log,
        {},
        QueueStats(pushed=pushes, succeeded=pushes),
        killed_or_frozen=(),
        outages=1,
        spools=spools,
    )

    assert len(found.broken) == number, found.broken


@pytest.mark.parametrize(
    ("status", "forgets_reports", "counted", "number"),
    [(503, True, 0, 0), (503, True, 1, 0), (503, False, 0, 2), (201, True, 0, 2)],
)
def test_push_may_be_undone_whose_lease_a_crash_has_forgotten(
    tmp_path: Path, status: int, forgets_reports: bool, counted: int, number: int
) -> None:
    audit_log = AuditLog(tmp_path / "runs")
    audit_log.ledger.write_text("begin a 1 1.0\nend a 1 1.1\n")
    audit_log.answers.append(Answer(("a",), status))

    found = audit(
        audit_log,
        {},
        QueueStats(pushed=counted, succeeded=counted),
        outages=1,
        lossy=True,
        forgets_reports=forgets_reports,
    )

    assert len(found.broken) == number, found.broken
