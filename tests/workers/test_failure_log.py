"""Outages of the store are logged once, and again after a while."""

import time

import pytest

from alligator import Gator, Worker
from tests.harness.programs import eventually
from tests.harness.workers import Shaky, note, ran, workers_running


def test_outage_is_logged_by_one_thread_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gator = Gator("locmem://", backend_class=Shaky)
    store: Shaky = gator.backend
    store.away.set()
    gator.task(note, 1)

    with workers_running(Worker(gator, concurrency=4)):
        eventually(lambda: store.asked >= 8)
        store.away.clear()
        eventually(lambda: "working again on" in caplog.text)
        time.sleep(0.1)

    assert caplog.text.count("gone fishing") == 1
    assert caplog.text.count("working again on") == 1
    assert ran == [1]


def test_outage_is_logged_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("alligator.workers.failure_log.REPEAT_SECONDS", 0.05)
    gator = Gator("locmem://", backend_class=Shaky)
    gator.backend.away.set()
    line = "cannot reach locmem://: gone fishing; next attempt in"

    with workers_running(Worker(gator, concurrency=2)):
        eventually(lambda: caplog.text.count(line) >= 3)
        gator.backend.away.clear()

    assert "ERROR" in caplog.text
