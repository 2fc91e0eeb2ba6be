"""The judges of limits of tenants see when one has too many tasks at once, or has waited too long."""

from math import inf
from pathlib import Path

import pytest

from tests.faults.audit import AuditLog, Pause, Run
from tests.faults.cases.limit_keys import ran_at_once, to_first_end, waited_for

RUNS = [Run(1, 0.0, 2.0), Run(2, 1.0, 3.0), Run(3, 2.0, 4.0), Run(4, 2.5, 2.6)]


def test_runs_at_once_are_counted() -> None:
    assert ran_at_once(RUNS[:3], []) == 2  # the third begins when the first one ends
    assert ran_at_once(RUNS, []) == 3
    assert ran_at_once([], []) == 0


def test_run_of_a_killed_worker_does_not_count() -> None:
    assert ran_at_once([*RUNS, Run(5, 2.5)], []) == 3


@pytest.mark.parametrize(
    ("pause", "most"),
    [
        (Pause(2, 0.5, 1.5), 2),
        (Pause(2, 2.9, 9.0), 2),
        (Pause(2, 3.5, 9.0), 3),  # when its run had ended
        (Pause(5, 0.5, 1.5), 3),  # of another worker
    ],
)
def test_run_of_a_frozen_worker_does_not_count(pause: Pause, most: int) -> None:
    assert ran_at_once(RUNS, [pause]) == most


def test_run_after_the_last_lease_of_a_killed_worker_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "runs.2.end").write_text("            2.500000")

    last_leases = AuditLog(tmp_path / "runs").last_leases()

    assert last_leases == [Pause(2, 2.5, inf)]
    assert ran_at_once(RUNS, last_leases) == 2


def test_run_of_a_task_that_is_done_does_not_count() -> None:
    killed, done, late = Run(1, 0.0), Run(2, 1.0, 2.0), Run(3, 1.5, 4.0)

    assert to_first_end([killed, done, late]) == [killed, done]
    assert to_first_end([killed]) == [killed]
    assert to_first_end([]) == []


def test_run_during_a_crash_of_a_forgetful_store_does_not_count() -> None:
    assert ran_at_once(RUNS, [], [(2.7, 3.5)]) == 1


def test_tasks_of_the_large_tenant_are_counted_while_others_wait() -> None:
    started = {"large:0": 0.0, "own:1": 2.0, "small-1:2": 3.5}
    begun = {f"large:{n}": float(n) for n in range(9)} | {"own:1": 4.5, "small-1:2": 3.4}

    assert waited_for(started, begun) == [2, 0]
