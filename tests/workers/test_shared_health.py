"""The health that several worker processes share with their parent."""

import pytest

from alligator.workers import shared_health
from alligator.workers.liveness import WorkerHealth
from alligator.workers.shared_health import SharedHealth


def test_shared_health_misses_silent_workers_but_not_ended_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_health, "SILENT_SECONDS", 0)
    shared = SharedHealth(2)
    silent = shared.health()

    for slot in (0, 1):
        with shared.posting(slot, lambda: WorkerHealth(is_alive=True, store_answers=False)):
            pass

    assert silent == WorkerHealth(is_alive=False, store_answers=False)
    assert shared.health() == WorkerHealth(is_alive=True, store_answers=True)
