"""The charts of the dashboard."""

from typing import Any

import pytest

from alligator.monitoring.stats import measure as real
from alligator.web.dashboard import page
from alligator.web.endpoint import Endpoint
from tests.harness.dashboard import show, text_of


def test_charts_rates_and_percentiles_are_shown_if_the_store_has_them(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(gators: Any) -> dict[str, Any]:
        document = real(gators)
        (queue,) = document["stores"][0]["queues"]
        rates = {"1m": 2.5, "5m": 1.0, "15m": None}
        times = {"count": 9, "mean": 1.0, "p50": 0.25, "p95": 3.0, "p99": None}
        sample = {"ready": 4, "scheduled": 0, "leased": 1, "dead": 0, "pushed": 9}
        history = [
            {"time": f"2026-01-01T00:00:{second}Z", "succeeded": second, "failed": 0, **sample}
            for second in (10, 20, 30)
        ]
        queue |= {"rates": {"succeeded": rates, "failed": rates}, "run_time": times}
        queue |= {"latency": times, "history": history}
        running = {"task_id": "x", "function": "shop.send", "since": document["time"]}
        worker = {"name": "w", "queues": ["all"], "started": document["time"], "seen_ago": 0.1}
        worker |= {"running": [running], "memory": 2**20, "concurrency": 4}
        commits = {"committed": 5, "discarded": {"veto": 6}, "undone": 8, "failed": 7}
        document["stores"][0] |= {"workers": [worker], "commits": commits}
        return document

    monkeypatch.setattr(page, "measure", measure)

    html = show(endpoint)

    text = text_of(html)
    assert "Succeeding 2.5 /s Failing 2.5 /s" in text
    assert "2.5 2.5 250 ms · 3 s 3 s" in text
    assert "shop.send on w for 0 ms" in text
    assert "1 of 4 1.0 MiB" in text
    assert "Committed 5 Discarded: veto 6 Undone 8 Failed 7" in text
    assert "ready 0 leased 0" in text  # what the cards say, not the last sample
    assert "succeeded 2.5/s failed 2.5/s" in text
    assert 'aria-label="Depth over time: now ready 0, leased 0; at most 4"' in html
    assert 'aria-label="Pace over time: now succeeded 2.5/s, failed 2.5/s; at most 1.0/s"' in html
