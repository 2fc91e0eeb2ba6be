"""The page at /alligator/: what it shows, to whom, and what its buttons do."""

import re
import sys
from json import dumps
from time import time
from typing import Any

import pytest

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import Announcement, Message, Scheduled, WorkerInfo
from alligator.exceptions import BackendUnavailable
from alligator.monitoring.health import Health
from alligator.monitoring.stats import measure as real
from alligator.web.dashboard import page
from alligator.web.endpoint import Endpoint
from alligator.web.http import Request
from tests.harness import sample_tasks
from tests.harness.dashboard import (
    TOKEN,
    bury,
    header,
    schedule,
    show,
    text_of,
)

MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Away(locmem_backend.Client):
    """A store that cannot be reached."""

    def ping(self) -> None:
        raise BackendUnavailable("redis://app:***@db.internal cannot be reached")


class Broken(locmem_backend.Client):
    """A store that answers, and fails at every action."""

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        raise BackendUnavailable("db.internal is full")

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        raise ZeroDivisionError("p4ssw0rd")


# Content.


def test_page_shows_queues_workers_and_tasks(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a", reason="ValueError: the card has expired")
    schedule(gator)
    gator.client.beat(WorkerInfo(name="web-1:7:ab", queues=["all"]), 60)

    text = text_of(show(endpoint))

    assert "Ready 0" in text
    assert "Dead 1" in text
    assert "shop.charge all 0 ms ago ValueError: the card has expired" in re.sub(
        r"\d+ ms", "0 ms", text
    )
    assert re.search(r"tests\.harness\.sample_tasks\.add all in (60 min|1\.0 h)", text)
    assert "web-1:7:ab all" in text


def test_page_of_an_empty_queue(endpoint: Endpoint) -> None:
    text = text_of(show(endpoint))

    assert "No task is dead." in text
    assert "No task is scheduled." in text
    assert "no worker takes tasks from all: start latergator" in text


def test_page_shows_a_part_of_very_many_warnings(endpoint: Endpoint, gator: Gator) -> None:
    names = [f"q{number}" for number in range(30)]
    gator.client.push_many([Message(name, name, "{}") for name in names])
    endpoint.health = Health(gator, backlog_depth=0, timeout=30)

    text = text_of(show(endpoint))

    assert text.count("more than 0") < 11
    assert "more: see the health document" in text


def test_page_escapes_all_values(gator: Gator, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(gators: Any) -> dict[str, Any]:
        document = real(gators)
        running = {"task_id": MARKUP, "function": MARKUP, "since": document["time"]}
        worker: dict[str, Any] = {
            "name": MARKUP,
            "host": MARKUP,
            "queues": [MARKUP],
            "running": [running],
        }
        worker |= {"started": document["time"], "seen_ago": 0.1, "concurrency": 1}
        document["stores"][0] |= {"workers": [worker], "backend": MARKUP}
        return document

    monkeypatch.setattr(page, "measure", measure)
    endpoint = Endpoint(gator, actions=True, details=True)
    data = dumps({"module": MARKUP, "callable": MARKUP, "args": [MARKUP], "kwargs": {MARKUP: 1}})
    for delay in (0, 3600):
        gator.client.push_many([Message(MARKUP, f"{MARKUP}{delay}", data, delay)])
    (lease,) = gator.client.reserve(MARKUP)
    gator.client.dead_letter(lease, reason=MARKUP, traceback=MARKUP)
    (key,) = set(re.findall(r'id="retry-(dead\w+)"', show(endpoint)))

    html = show(endpoint, f"task={key}")

    assert "<script>alert" not in html
    assert "<img" not in html
    assert html.count("&lt;script&gt;alert") >= 12
    assert "&lt;script&gt;alert(1)" in html[html.index("<dt>Traceback") :]


def test_page_shows_no_dsn(gator: Gator) -> None:
    endpoint = Endpoint(Gator("locmem://", backend_class=Away), token=TOKEN, actions=True)

    response = endpoint.respond(Request("GET", "/", True))

    assert response.status == 503
    assert "The store does not answer" in response.body.decode()


def test_store_with_a_bug_is_a_500_without_a_reason(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    gator = Gator("locmem://", backend_class=Broken)
    schedule(gator)

    response = Endpoint(gator).respond(Request("GET", "/", True))

    assert response.status == 500
    assert "ZeroDivisionError" in caplog.text
    assert b"p4ssw0rd" not in response.body


def test_error_without_jinja_says_what_to_install(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    page._templates.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)

    response = endpoint.respond(Request("GET", "/", True))

    assert response.status == 501
    assert b"alligator[dashboard]" in response.body
    page._templates.cache_clear()


# Security.


def test_page_may_do_little_in_a_browser(endpoint: Endpoint) -> None:
    response = endpoint.respond(Request("GET", "/", True))

    policy = header(response, "Content-Security-Policy")
    (nonce,) = set(re.findall(r"'nonce-([\w-]+)'", policy))
    html = response.body.decode()
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert header(response, "X-Content-Type-Options") == "nosniff"
    assert header(response, "Cache-Control") == "no-store"
    assert len(re.findall(rf'<(?:style|script) nonce="{nonce}">', html)) == 2
    assert not re.search(r'<[^>]+\s(?:on\w+|style)=|(?:src|href)="(?:https?:)?//', html)
    assert nonce not in endpoint.respond(Request("GET", "/", True)).body.decode()


def test_part_that_changes_can_be_requested_alone(endpoint: Endpoint) -> None:
    html = show(endpoint, "live=1")

    assert html.lstrip().startswith("<main")
    assert "<script" not in html


# Schedules.


def test_page_without_schedules_has_no_place_for_them(endpoint: Endpoint) -> None:
    assert "Schedules" not in text_of(show(endpoint))


def test_page_shows_next_and_last_runs_of_schedules(endpoint: Endpoint, gator: Gator) -> None:
    now = int(time()) // 3600 * 3600
    gator.every(3600, sample_tasks.add, 1, 2)
    gator.client.announce_schedules([gator.schedules["add"].announcement()], now - 3600)

    assert re.search(
        r"Schedules 1 .* add every 3600 s tests.harness.sample_tasks.add .* late never",
        text_of(show(endpoint)),
    )

    gator.client.push_tick("add", now, gator.schedules["add"].message(now))
    gator.client.drop_all("all")

    assert re.search(r"sample_tasks.add in .* ago", text_of(show(endpoint)))


def test_page_escapes_the_records_of_schedules(endpoint: Endpoint, gator: Gator) -> None:
    about = dumps({"definition": MARKUP, "zone": MARKUP, "function": MARKUP})
    gator.client.announce_schedules([Announcement(MARKUP, about, 60)], 0)

    html = show(endpoint)

    assert "<script>alert" not in html
    assert "<img" not in html
    assert "alert(1)" in text_of(html)
