"""What the dashboard selects and counts."""

import re
from json import dumps
from time import time
from typing import Any

import pytest

from alligator import Gator
from alligator.backends.base import Message, Running, WorkerInfo
from alligator.monitoring.stats import format_utc
from alligator.monitoring.stats import measure as real
from alligator.web.dashboard import page
from alligator.web.endpoint import Endpoint
from tests.harness.dashboard import (
    bury,
    details_query,
    schedule,
    show,
    text_of,
)


@pytest.mark.parametrize(
    ("seen_ago", "said"),
    [(14.0, "for 17 s"), (40.0, "for 17 s; last heartbeat of its worker 40 s ago")],
)
def test_time_of_a_running_task_includes_the_time_since_its_heartbeat(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, seen_ago: float, said: str
) -> None:
    def measure(gators: Any) -> dict[str, Any]:
        document = real(gators)
        running = {"task_id": "x", "function": "shop.send", "since": format_utc(time() - 17)}
        worker = {"name": "w", "queues": ["all"], "started": document["time"]}
        worker |= {"running": [running], "seen_ago": seen_ago, "concurrency": 1}
        document["stores"][0]["workers"] = [worker]
        return document

    monkeypatch.setattr(page, "measure", measure)

    text = text_of(show(endpoint))

    assert f"shop.send on w {said} " in text
    assert "1 worker · 1 of 1 busy" in text


def test_rates_have_one_unit(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(gators: Any) -> dict[str, Any]:
        document = real(gators)
        (queue,) = document["stores"][0]["queues"]
        slow = {**queue, "name": "slow", "rates": {"succeeded": {"1m": 0.2}, "failed": {"1m": 0.1}}}
        queue["rates"] = {"succeeded": {"1m": fast}, "failed": {"1m": 0.0}}
        document["stores"][0]["queues"] = [queue, slow]
        return document

    monkeypatch.setattr(page, "measure", measure)
    fast = 2.5
    of_seconds = text_of(show(endpoint))
    fast = 0.5
    of_minutes = text_of(show(endpoint))

    assert "Succeeding 2.7 /s Failing 0.1 /s" in of_seconds
    assert "Succeeding per s Failing per s" in of_seconds
    assert "Succeeding 42 /min Failing 6.0 /min" in of_minutes


def test_limit_keys_of_queues_are_shown_with_their_limits(endpoint: Endpoint, gator: Gator) -> None:
    gator.limit("mail", at_once=1)
    assert "Limit keys" not in show(endpoint)
    names = [f"tenant-{n:02}" for n in range(12)]
    for name in names:
        gator.client.push_many(
            [Message("mail", f"{name}-{n}", "{}", limit_key=name) for n in range(2)]
        )
        gator.limit("mail", at_once=1, per_minute=30, limit_key=name)
    gator.unlimit("mail")
    gator.limit("mail", at_once=2, limit_key="*")
    gator.limit("mail", per_second=1, limit_key="<b>")
    gator.client.reserve("mail", limit=100, lease_for=3600)

    html = show(endpoint)

    shown = text_of(html)[text_of(html).index("Limit keys 1 queue") :]
    assert f"mail 12 12 {' '.join(names[:10])} and 2 more each key: at most 2 at once" in shown
    assert "<b>: at most 1 per second tenant-00: at most 1 at once, 30 per minute" in shown
    assert "and 4 more" in shown
    assert '<a href="#keys">Keys</a>' in html
    assert "<b>: at" not in html


def test_many_keys_are_said_to_be_many(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(gators: Any) -> dict[str, Any]:
        document = real(gators)
        document["stores"][0]["queues"][0]["limit_keys"] = {
            "waiting": 1_000,
            "limited": 1_000,
            "limited_keys": ["a", "b"],
            "limits": {},
            "limits_known": 0,
        }
        return document

    monkeypatch.setattr(page, "measure", measure)

    assert "all 1,000+ 1,000+ a b and 998+ more none" in text_of(show(endpoint))


def test_page_of_many_queues_shows_a_part_and_says_so(endpoint: Endpoint, gator: Gator) -> None:
    names = [f"queue-{number:05}" for number in range(1_000)]
    gator.client.push_many([Message(name, name, "{}") for name in names])

    text = text_of(show(endpoint))

    assert "cover 200 of 1,001 queues" in text
    assert text.count("queue-00") < 1_000


def test_latest_dead_tasks_come_first_and_up_to_the_limit(endpoint: Endpoint, gator: Gator) -> None:
    for number in range(30):
        bury(gator, f"a{number}", reason=f"error {number}.")

    page_of_all, page_of_two = text_of(show(endpoint)), text_of(show(endpoint, "limit=2"))

    assert page_of_all.index("error 29.") < page_of_all.index("error 28.")
    assert page_of_all.count("error ") == 10
    assert "10 of 30" in page_of_all
    assert page_of_two.count("error ") == 2


def test_tasks_of_one_queue_can_be_selected(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a", reason="on all")
    bury(gator, "b", queue="mail & co", reason="on mail")

    html = show(endpoint, "queue=mail+%26+co")

    assert "on mail" in html
    assert "on all" not in html
    assert 'href="?queue=mail+%26+co#dead"' in html


@pytest.mark.parametrize("details", [True, False])
def test_payload_is_shown_on_demand_and_only_with_details(gator: Gator, details: bool) -> None:
    endpoint = Endpoint(gator, actions=True, details=details)
    bury(gator, "a")
    (key,) = re.findall(r'<li id="(dead\w+)">', show(endpoint))

    closed, opened = show(endpoint), show(endpoint, f"task={key}")

    assert "4242" not in closed
    assert "in line 7" not in closed
    assert ("charge(&#34;4242&#34;, to=7)" in opened) is details
    assert ("in line 7" in opened) is details


def test_dead_task_keeps_its_address_however_many_die_later(
    endpoint: Endpoint, gator: Gator
) -> None:
    reason = "a line\n" * 9
    bury(gator, "the-first-id", queue="mail", reason=reason)
    query = details_query(endpoint, "a line")
    bury(gator, *(str(number) for number in range(30)), queue="mail", reason="too late")

    html = show(endpoint, f"{query}&limit=3")

    assert "the-first-id" in html
    assert re.search(r"Id the-first-id Died \d{4}-\d\d-\d\d [\d:]{8} UTC Attempt 1 ", text_of(html))
    assert html.count('class="open"') == 1
    assert html.count("too late") == 3


def test_scheduled_task_has_an_address(endpoint: Endpoint, gator: Gator) -> None:
    schedule(gator, "an-id")

    assert "Id an-id Due 20" in text_of(show(endpoint, details_query(endpoint, "sample_tasks.add")))


def test_address_of_a_task_that_does_not_exist_any_more_says_so(
    endpoint: Endpoint, gator: Gator
) -> None:
    bury(gator, "a")
    query = details_query(endpoint, "no luck")
    gator.retry_dead("a")

    assert "The task of this address is not listed any more" in show(endpoint, query)
    assert "not listed any more" not in show(endpoint)


def test_attempt_is_shown_without_details_if_it_is_not_the_first(
    endpoint: Endpoint, gator: Gator
) -> None:
    tried = dumps({"module": "shop", "callable": "charge", "args": [], "kwargs": {}, "attempt": 3})
    gator.client.push_many([Message("all", "retried", tried, 60.0)])
    schedule(gator, "new")

    assert text_of(show(endpoint)).count("attempt 3 ") == 1
    assert "attempt 1" not in text_of(show(endpoint))


def test_busy_workers_are_counted_at_the_top(endpoint: Endpoint, gator: Gator) -> None:
    running = [Running("a", "shop.charge", time())]
    gator.client.beat(WorkerInfo("first", ["all"], running=running, concurrency=4), 60)

    assert "1 worker · 1 of 4 busy" in text_of(show(endpoint))

    gator.client.beat(WorkerInfo("second", ["all"]), 60)

    assert "2 workers · 1 of 5 busy" in text_of(show(endpoint))


def test_running_tasks_are_shown_longest_first(endpoint: Endpoint, gator: Gator) -> None:
    running = [Running(str(n), f"shop.task{n}", time() - n, "mail") for n in range(30)]
    gator.client.beat(WorkerInfo("busy", ["all"], running=running, concurrency=30), 60)

    few = text_of(show(endpoint))

    assert "shop.task29 mail on busy for 29 s Cancel shop.task29" in few
    assert re.findall(r"shop\.task(\d+) mail", few) == [str(n) for n in range(29, 19, -1)]
    assert "10 of 30" in few
    assert "30 of 30 busy" in few
    assert "shop.task0 " in text_of(show(endpoint, "limit=200"))
