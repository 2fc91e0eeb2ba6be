"""Texts for values of the dashboard."""

from json import dumps
from typing import Any

import pytest

from alligator import Gator
from alligator.backends.base import Message
from alligator.monitoring.stats import measure as real
from alligator.web.dashboard import page
from alligator.web.endpoint import Endpoint
from tests.harness.dashboard import details_query, show, text_of


def test_value_that_a_store_does_not_know_is_a_dash(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(gators: Any) -> dict[str, Any]:
        document = real(gators)
        store = document["stores"][0]
        unknown: dict[str, Any] = dict.fromkeys(store["queues"][0])
        unknown |= {"name": "all", "counters": {}, "rates": {"succeeded": {"1m": None}}}
        store |= {"queues": [unknown], "workers": None, "commits": None}
        return document

    monkeypatch.setattr(page, "measure", measure)

    text = text_of(show(endpoint))

    assert "Ready — Scheduled — Leased — Dead — Succeeded —" in text
    assert "This store does not record its workers." in text


def test_headers_and_attempt_of_a_task_are_shown_with_its_details(gator: Gator) -> None:
    payload = {"module": "shop", "callable": "charge", "args": [], "kwargs": {}, "attempt": 4}
    data = dumps({**payload, "headers": {"request_id": "5f1c"}})
    gator.client.push_many([Message("all", "a", data)])
    gator.client.dead_letter(*gator.client.reserve("all"), reason="no luck")
    shy, open_ = Endpoint(gator), Endpoint(gator, details=True)
    query = details_query(shy, "no luck")

    assert "request_id: 5f1c" in show(open_, query)
    assert "5f1c" not in show(shy, query)
    assert "Attempt 4" in text_of(show(shy, query))
