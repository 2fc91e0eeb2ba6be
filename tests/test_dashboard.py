"""The page at /alligator/: what it shows, to whom, and what its buttons do."""

import re
import sys
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from json import dumps
from time import time
from typing import Any
from urllib.parse import urlencode

import pytest

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import Message, Running, Scheduled, WorkerInfo
from alligator.csrf import is_same_origin
from alligator.dashboard import page, view
from alligator.dashboard.actions import Actions
from alligator.endpoint import Endpoint
from alligator.exceptions import BackendUnavailable
from alligator.http import FORM, MAX_BODY, Request, Response
from alligator.stats import measure as real
from tests import sample_tasks

TOKEN = "a-token-that-is-long-enough"
BEARER = {"authorization": f"Bearer {TOKEN}"}
MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
OURS = {"sec-fetch-site": "same-origin"}


class Away(locmem_backend.Client):
    """A store that cannot be reached."""

    def ping(self) -> None:
        raise BackendUnavailable("redis://app:***@db.internal cannot be reached")


class Broken(locmem_backend.Client):
    """A store that answers, and cannot do what it is asked."""

    def retry_dead(self, queue_name: str, task_id: str) -> bool:
        raise BackendUnavailable("db.internal is full")

    def scheduled(self, queue_name: str, limit: int = 100) -> list[Scheduled]:
        raise ZeroDivisionError("p4ssw0rd")


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALLIGATOR_TOKEN", raising=False)


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


@pytest.fixture
def endpoint(gator: Gator) -> Endpoint:
    return Endpoint(gator, token=TOKEN, actions=True)


def show(endpoint: Endpoint, query: str = "", **headers: str) -> str:
    response = endpoint.respond(Request("GET", "/", True, query, headers))
    assert response.status == 200
    return response.body.decode()


def text_of(html: str) -> str:
    return " ".join(
        unescape(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", html, flags=re.S)).split()
    )


def header(response: Response, name: str) -> str:
    (value,) = [value for key, value in response.headers if key == name]
    return value


def bury(gator: Gator, *task_ids: str, queue: str = "all", **texts: str) -> None:
    data = dumps({"module": "shop", "callable": "charge", "args": ["4242"], "kwargs": {"to": 7}})
    gator.client.push_many([Message(queue, task_id, data) for task_id in task_ids])
    for lease in gator.client.reserve(queue, limit=len(task_ids)):
        gator.client.dead_letter(lease, **{"reason": "no luck", "traceback": "in line 7", **texts})


def schedule(gator: Gator, task_id: str = "later") -> None:
    gator.options(task_id=task_id, delay_by=3600).task(sample_tasks.add, 1, 2)


def post(endpoint: Endpoint, headers: dict[str, str], query: str = "", **form: str) -> Response:
    body = "&".join(f"{name}={value}" for name, value in form.items()).encode()
    headers = {"content-type": FORM, **headers}
    return endpoint.respond(Request("POST", "/actions", True, query, headers, body))


def choose(endpoint: Endpoint, do: str, *places: str) -> Response:
    """Send what a program would that deals with several tasks at once."""
    body = urlencode([("do", do), *(("chosen", place) for place in places)]).encode()
    headers = {"content-type": FORM, **BEARER}
    return endpoint.respond(Request("POST", "/actions", True, "", headers, body))


class Forms(HTMLParser):
    """The forms of a page that are about one task or all, as a browser would send them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self.boxes: list[str] = []
        """What the page's boxes say, of the tasks that can be chosen."""
        self._is_for_one = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "form":
            assert (named["method"], named["action"]) == ("post", "actions")
            self._is_for_one = "id" not in named
            if self._is_for_one:
                self.found.append({})
        if tag == "input" and "form" in named:
            self.boxes.append(str(named["value"]))
        elif tag == "input" and self._is_for_one:
            self.found[-1][str(named["name"])] = str(named["value"])


# What it shows.


def test_it_shows_queues_workers_what_runs_what_died_and_what_is_to_come(
    endpoint: Endpoint, gator: Gator
) -> None:
    bury(gator, "a", reason="ValueError: the card has expired")
    schedule(gator)
    gator.client.beat(WorkerInfo(name="web-1:7:ab", queues=["all"]), 60)

    text = text_of(show(endpoint))

    assert "Ready 0" in text
    assert "Dead 1" in text
    assert "shop.charge all 0 ms ago ValueError: the card has expired" in re.sub(
        r"\d+ ms", "0 ms", text
    )
    assert re.search(r"tests\.sample_tasks\.add all in (60 min|1\.0 h)", text)
    assert "web-1:7:ab all" in text


def test_an_empty_queue_is_a_page_too(endpoint: Endpoint) -> None:
    text = text_of(show(endpoint))

    assert "No task is dead." in text
    assert "Nothing is scheduled." in text
    assert "no worker takes tasks from all: start latergator" in text


def test_rates_percentiles_and_history_are_drawn_when_the_store_has_them(
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
        commits = {"committed": 5, "discarded": {"veto": 6}, "failed": 7}
        document["stores"][0] |= {"workers": [worker], "commits": commits}
        return document

    monkeypatch.setattr(page, "measure", measure)

    html = show(endpoint)

    text = text_of(html)
    assert "2.5/s · 1.0/s · —" in text
    assert "250 ms · 3.0 s · —" in text
    assert "shop.send on w for 0 ms, as of 100 ms ago" in text
    assert "1 of 4 1.0 MiB" in text
    assert "Committed 5 Discarded: veto 6 Failed 7" in text
    assert 'aria-label="Depth over time: ready 4, at most 4; leased 1, at most 1"' in html
    assert (
        'aria-label="Pace over time: succeeded 1.0/s, at most 1.0/s; failed 0, at most 0"' in html
    )


def test_what_a_store_does_not_know_is_a_dash(
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
    assert "This store does not know its workers." in text


def test_the_latest_dead_come_first_and_no_more_than_asked_for(
    endpoint: Endpoint, gator: Gator
) -> None:
    for number in range(30):
        bury(gator, f"a{number}", reason=f"error {number}.")

    page_of_all, page_of_two = text_of(show(endpoint)), text_of(show(endpoint, "limit=2"))

    assert page_of_all.index("error 29.") < page_of_all.index("error 28.")
    assert page_of_all.count("error ") == 25
    assert "25 of 30" in page_of_all
    assert page_of_two.count("error ") == 2


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=1e9",
        "limit=" + "9" * 5000,
        "limit=%00",
        "limit=\u00b2",
        "live=%ff",
        "\udc80=\udc80",
        "queue=<b>&task=<b>&done=<b>",
        "&".join(f"f{number}=<b>" for number in range(100)),
    ],
)
def test_an_odd_address_is_no_trouble_and_is_not_repeated(endpoint: Endpoint, query: str) -> None:
    html = show(endpoint, query)

    assert "<b>" not in html
    assert "&lt;b&gt;" not in html


def test_many_are_listed_only_up_to_a_bound(
    endpoint: Endpoint, gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "MOST_LISTED", 3)
    bury(gator, *"abcde")

    assert text_of(show(endpoint, "limit=99999")).count("no luck") == 3


def test_one_queue_can_be_looked_at(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a", reason="on all")
    bury(gator, "b", queue="mail & co", reason="on mail")

    html = show(endpoint, "queue=mail+%26+co")

    assert "on mail" in html
    assert "on all" not in html
    assert 'href="?queue=mail+%26+co#dead"' in html


def test_everything_that_comes_from_elsewhere_is_text(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_no_dsn_is_shown(gator: Gator) -> None:
    endpoint = Endpoint(Gator("locmem://", backend_class=Away), token=TOKEN, actions=True)

    response = endpoint.respond(Request("GET", "/", True))

    assert response.status == 503
    assert "The store does not answer" in response.body.decode()


@pytest.mark.parametrize("details", [True, False])
def test_payloads_are_shown_on_demand_and_only_if_the_owner_wants_that(
    gator: Gator, details: bool
) -> None:
    endpoint = Endpoint(gator, actions=True, details=details)
    bury(gator, "a")
    (key,) = re.findall(r'<li id="(dead\w+)">', show(endpoint))

    closed, opened = show(endpoint), show(endpoint, f"task={key}")

    assert "4242" not in closed
    assert "in line 7" not in closed
    assert ("charge(&#34;4242&#34;, to=7)" in opened) is details
    assert ("in line 7" in opened) is details


def opened(endpoint: Endpoint, reason: str) -> str:
    """Find the address at which a task shows all of itself, and the page there."""
    html = show(endpoint)
    found = re.search(r'href="\?([^"#]*)#[^"]*">Details', html[html.index(reason) :])
    assert found
    return unescape(found[1])


def test_a_task_has_an_address_of_its_own_however_many_die_later(
    endpoint: Endpoint, gator: Gator
) -> None:
    reason = "a line\n" * 9
    bury(gator, "the-first-id", queue="mail", reason=reason)
    query = opened(endpoint, "a line")
    bury(gator, *(str(number) for number in range(30)), queue="mail", reason="too late")

    html = show(endpoint, f"{query}&limit=3")

    assert "the-first-id" in html
    assert re.search(r"Id the-first-id Died \d{4}-\d\d-\d\d [\d:]{8} UTC Attempt 1 ", text_of(html))
    assert html.count('class="open"') == 1
    assert html.count("too late") == 3


def test_a_scheduled_task_has_an_address_too(endpoint: Endpoint, gator: Gator) -> None:
    schedule(gator, "an-id")

    assert "Id an-id Due 20" in text_of(show(endpoint, opened(endpoint, "sample_tasks.add")))


def test_an_address_whose_task_is_gone_says_so(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a")
    query = opened(endpoint, "no luck")
    gator.retry_dead("a")

    assert "The task of this address is not here any more" in show(endpoint, query)
    assert "not here any more" not in show(endpoint)


def test_what_travels_with_a_task_is_shown_with_its_details(gator: Gator) -> None:
    payload = {"module": "shop", "callable": "charge", "args": [], "kwargs": {}, "attempt": 4}
    data = dumps({**payload, "headers": {"request_id": "5f1c"}})
    gator.client.push_many([Message("all", "a", data)])
    gator.client.dead_letter(*gator.client.reserve("all"), reason="no luck")
    shy, open_ = Endpoint(gator), Endpoint(gator, details=True)
    query = opened(shy, "no luck")

    assert "request_id: 5f1c" in show(open_, query)
    assert "5f1c" not in show(shy, query)
    assert "Attempt 4" in text_of(show(shy, query))


def test_which_tasks_were_tried_before_is_seen_without_their_details(
    endpoint: Endpoint, gator: Gator
) -> None:
    tried = dumps({"module": "shop", "callable": "charge", "args": [], "kwargs": {}, "attempt": 3})
    gator.client.push_many([Message("all", "retried", tried, 60.0)])
    schedule(gator, "new")

    assert text_of(show(endpoint)).count("attempt 3 ") == 1
    assert "attempt 1" not in text_of(show(endpoint))


def test_how_busy_the_workers_are_is_seen_at_the_top(endpoint: Endpoint, gator: Gator) -> None:
    running = [Running("a", "shop.charge", time())]
    gator.client.beat(WorkerInfo("first", ["all"], running=running, concurrency=4), 60)

    assert "1 worker · 1 of 4 busy" in text_of(show(endpoint))

    gator.client.beat(WorkerInfo("second", ["all"]), 60)

    assert "2 workers · 1 of 5 busy" in text_of(show(endpoint))


def test_of_many_that_run_the_longest_are_shown(endpoint: Endpoint, gator: Gator) -> None:
    running = [Running(str(n), f"shop.task{n}", time() - n) for n in range(30)]
    gator.client.beat(WorkerInfo("busy", ["all"], running=running, concurrency=30), 60)

    few = text_of(show(endpoint))

    assert re.findall(r"shop\.task(\d+)", few) == [str(n) for n in range(29, 4, -1)]
    assert "25 of 30" in few
    assert "30 of 30 busy" in few
    assert "shop.task0 " in text_of(show(endpoint, "limit=200"))


def test_a_store_that_fails_half_way_is_a_page_without_a_reason(gator: Gator) -> None:
    gator = Gator("locmem://", backend_class=Broken)
    schedule(gator)

    response = Endpoint(gator).respond(Request("GET", "/", True))

    assert response.status == 503
    assert b"p4ssw0rd" not in response.body


def test_without_jinja_it_says_what_to_install(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    page._templates.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)

    response = endpoint.respond(Request("GET", "/", True))

    assert response.status == 501
    assert b"alligator[dashboard]" in response.body
    page._templates.cache_clear()


# Who may see it.


def test_a_stranger_is_told_how_the_owner_opens_it_and_nothing_else(
    endpoint: Endpoint, gator: Gator
) -> None:
    bury(gator, "a", queue="secret")

    to_program = endpoint.respond(Request("GET", "/"))
    to_person = endpoint.respond(Request("GET", "/", headers={"accept": "text/html"}))

    assert to_program.status == to_person.status == 403
    assert header(to_program, "Content-Type") == "application/problem+json"
    assert header(to_person, "Content-Type") == "text/html; charset=utf-8"
    for response in (to_program, to_person):
        assert b"ALLIGATOR_TOKEN" in response.body
        assert b"secret" not in response.body
        assert header(response, "Vary") == "Accept"


def test_what_the_page_may_do_in_a_browser_is_little(endpoint: Endpoint) -> None:
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


def test_the_part_that_changes_can_be_had_alone(endpoint: Endpoint) -> None:
    html = show(endpoint, "live=1")

    assert html.lstrip().startswith("<main")
    assert "<script" not in html


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [("/", "POST", "GET, HEAD"), ("/actions", "GET", "POST"), ("/actions", "HEAD", "POST")],
)
def test_another_method_is_told_which_ones_there_are(
    endpoint: Endpoint, path: str, method: str, allow: str
) -> None:
    response = endpoint.respond(Request(method, path, True))

    assert response.status == 405
    assert header(response, "Allow") == allow


@pytest.mark.parametrize(
    ("mount", "location"),
    [("/alligator", "./alligator/"), ("/ops/queue/", "./queue/"), ("/a b", "./a%20b/")],
)
def test_without_its_slash_it_sends_the_browser_to_where_links_work(
    endpoint: Endpoint, mount: str, location: str
) -> None:
    response = endpoint.respond(Request("GET", "", mount=mount))

    assert (response.status, header(response, "Location")) == (308, location)


# Its buttons.


@pytest.fixture
def browse(endpoint: Endpoint) -> Callable[[], tuple[list[dict[str, str]], dict[str, str]]]:
    """Load the page as a browser does: its forms, and what a browser sends with them."""

    def browse() -> tuple[list[dict[str, str]], dict[str, str]]:
        response = endpoint.respond(Request("GET", "/", True))
        cookie = header(response, "Set-Cookie").partition(";")[0]
        return Forms(response.body.decode()).found, {"cookie": f"theme=dark; {cookie}", **OURS}

    return browse


def test_it_is_read_only_by_default(gator: Gator) -> None:
    endpoint = Endpoint(gator, token=TOKEN)
    bury(gator, "a")

    response = post(endpoint, BEARER, do="drop", queue="all", task="a")

    assert "<form" not in show(endpoint)
    assert response.status == 403
    assert b"actions=True" in response.body
    assert gator.stats().dead == 1


@pytest.mark.parametrize(
    ("do", "state", "done"),
    [("retry", "ready", "./?done=retry#dead"), ("drop", "dropped", "./?done=drop#dead")],
)
def test_a_dead_task_can_be_retried_and_dropped(
    browse: Any, endpoint: Endpoint, gator: Gator, do: str, state: str, done: str
) -> None:
    bury(gator, "a", "b")
    forms, headers = browse()
    (form,) = [form for form in forms if form["do"] == do and form["task"] == "a"]

    response = post(endpoint, headers, **form)

    assert (response.status, header(response, "Location")) == (303, done)
    assert (getattr(gator.stats(), state), gator.stats().dead) == (1, 1)


def test_a_scheduled_task_can_be_canceled(browse: Any, endpoint: Endpoint, gator: Gator) -> None:
    schedule(gator)
    (form,), headers = browse()

    response = post(endpoint, headers, **form)

    assert (response.status, header(response, "Location")) == (303, "./?done=cancel#scheduled")
    assert (gator.stats().canceled, gator.len()) == (1, 0)


@pytest.mark.parametrize(("do", "state"), [("retry-all", "ready"), ("drop-all", "dropped")])
def test_all_dead_of_a_queue_can_be_retried_and_dropped(
    browse: Any, endpoint: Endpoint, gator: Gator, do: str, state: str
) -> None:
    bury(gator, *"abc")
    forms, headers = browse()
    (form,) = [form for form in forms if form["do"] == do]

    response = post(endpoint, headers, **form)

    assert response.status == 303
    assert (getattr(gator.stats(), state), gator.stats().dead) == (3, 0)


@pytest.mark.parametrize(("do", "state"), [("retry", "ready"), ("drop", "dropped")])
def test_several_dead_tasks_can_be_chosen_from_any_queue(
    endpoint: Endpoint, gator: Gator, do: str, state: str
) -> None:
    bury(gator, *"abc")
    bury(gator, "d & e", queue="mail & co")
    boxes = Forms(show(endpoint)).boxes
    chosen = [box for box in boxes if not box.endswith("task=b")]

    response = choose(endpoint, do, "", *chosen)

    assert (response.status, header(response, "Location")) == (303, f"./?done={do}-chosen#dead")
    assert [letter.task_id for letter in gator.client.dead_letters("all")] == ["b"]
    assert getattr(gator.client.stats("mail & co"), state) == 1
    assert getattr(gator.stats(), state) == 2


def test_scheduled_tasks_can_be_chosen_and_canceled(endpoint: Endpoint, gator: Gator) -> None:
    for task_id in ("a", "b", "c"):
        schedule(gator, task_id)

    response = choose(endpoint, "cancel", *Forms(show(endpoint)).boxes[:2])

    assert header(response, "Location") == "./?done=cancel-chosen#scheduled"
    assert (gator.stats().canceled, gator.len()) == (2, 1)


def test_to_choose_none_is_answered_on_the_page(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a")

    response = choose(endpoint, "drop", "")

    assert header(response, "Location") == "./?done=none#dead"
    assert "no task was chosen" in show(endpoint, "done=none")
    assert gator.stats().dead == 1


def test_what_is_gone_of_the_chosen_is_told(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a", "b")
    chosen = ["queue=all&task=a", "queue=all&task=a", "queue=all&task=b"]
    gator.drop_dead("b")

    some, none = choose(endpoint, "retry", *chosen), choose(endpoint, "retry", *chosen)

    assert header(some, "Location") == "./?done=partly#dead"
    assert header(none, "Location") == "./?done=gone#dead"
    assert "Not all of it was done" in show(endpoint, "done=partly")
    assert gator.stats().ready == 1


@pytest.mark.parametrize(
    "places",
    [
        ["queue=all"],
        ["task=b"],
        ["b"],
        ["queue=all&task=b&store=1"],
        ["queue=all&task=b&store=-1"],
        [f"queue=all&task={number}" for number in range(201)],
    ],
)
def test_if_one_of_the_chosen_makes_no_sense_nothing_is_done(
    endpoint: Endpoint, gator: Gator, places: list[str]
) -> None:
    bury(gator, "a")

    assert choose(endpoint, "drop", "queue=all&task=a", *places).status == 422
    assert gator.stats().dead == 1


@pytest.mark.parametrize(
    "form", [{"do": "drop-all"}, {"do": "drop", "queue": "all"}, {"do": "drop", "task": "a"}]
)
def test_a_form_is_for_one_or_for_those_chosen_or_for_all(
    endpoint: Endpoint, gator: Gator, form: dict[str, str]
) -> None:
    bury(gator, "a")

    assert post(endpoint, BEARER, **form, chosen="queue%3Dall%26task%3Da").status == 422
    assert gator.stats().dead == 1


def test_chosen_tasks_need_the_form_of_the_page_too(
    browse: Any, endpoint: Endpoint, gator: Gator
) -> None:
    bury(gator, "a")
    forms, headers = browse()
    chosen = {"do": "drop", "chosen": "queue%3Dall%26task%3Da"}

    assert post(endpoint, headers, **chosen).status == 403
    assert post(Endpoint(gator, token=TOKEN), BEARER, **chosen).status == 403
    assert gator.stats().dead == 1
    assert post(endpoint, headers, **chosen, csrf=forms[0]["csrf"]).status == 303
    assert gator.stats().dead == 0


def test_without_actions_nothing_can_be_chosen(gator: Gator) -> None:
    bury(gator, "a")

    html = show(Endpoint(gator, token=TOKEN), "live=1")

    assert "<input" not in html
    assert "chosen" not in html


def test_after_a_click_the_page_shows_what_it_showed_before(
    endpoint: Endpoint, gator: Gator
) -> None:
    bury(gator, "a", "b", queue="mail & co")
    query = "queue=mail+%26+co&limit=200&task=deadbeef&of=all"
    html = show(endpoint, query)
    (action,) = set(re.findall(r'action="(.*?)"', html))

    response = post(endpoint, BEARER, query, do="drop", queue="mail+%26+co", task="a")

    assert unescape(action) == "actions?queue=mail+%26+co&limit=200"
    assert header(response, "Location") == "./?queue=mail+%26+co&limit=200&done=drop#dead"


def test_a_button_that_comes_too_late_says_so(
    browse: Any, endpoint: Endpoint, gator: Gator
) -> None:
    bury(gator, "a")
    forms, headers = browse()
    gator.drop_dead("a")

    response = post(endpoint, headers, **forms[-1])

    assert header(response, "Location") == "./?done=gone#dead"
    assert "somebody was faster" in show(endpoint, "done=gone")


def test_the_queue_of_another_store_can_be_reached(gator: Gator) -> None:
    other = Gator("locmem://", "mail")
    bury(other, "a", queue="mail")
    endpoint = Endpoint([gator, other], token=TOKEN, actions=True)

    post(endpoint, BEARER, do="retry", store="1", queue="mail", task="a")

    assert other.stats().ready == 1


def test_a_program_with_the_token_needs_no_form(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a")

    assert post(endpoint, BEARER, do="retry", queue="all", task="a").status == 303
    assert gator.stats().ready == 1


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"do": "retry"},
        {"do": "retry", "queue": "all"},
        {"do": "retry-all", "queue": "all", "task": "a"},
        {"do": "perform", "queue": "all", "task": "a"},
        {"do": "retry", "queue": "all", "task": "a", "store": "1"},
        {"do": "retry", "queue": "all", "task": "a", "store": "-1"},
        {"do": "retry", "queue": "all", "task": "a", "store": "9" * 5000},
        {"do": "retry", "queue": "all", "task": "a", "store": "%00"},
    ],
)
def test_a_form_that_makes_no_sense_does_nothing(
    endpoint: Endpoint, gator: Gator, form: dict[str, str]
) -> None:
    bury(gator, "a")

    assert post(endpoint, BEARER, **form).status == 422
    assert gator.stats().dead == 1


def test_a_store_that_cannot_do_it_is_a_503_without_a_reason() -> None:
    endpoint = Endpoint(Gator("locmem://", backend_class=Broken), token=TOKEN, actions=True)

    response = post(endpoint, BEARER, do="retry", queue="all", task="a")

    assert response.status == 503
    assert b"db.internal" not in response.body


def test_a_click_on_all_ends_in_time(gator: Gator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alligator.dashboard.actions.BULK_SECONDS", -1)
    bury(gator, *"abc")

    done = Actions([gator]).perform([("do", "drop-all"), ("queue", "all")])

    assert done == "partly"
    assert gator.stats().dead == 2


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (None, FORM, 413),
        (b"do=drop-all&queue=all", "application/json", 415),
        (b"do=drop-all&queue=all", "text/plain", 415),
        (b"\xff\xfe=%ff&" * 99, FORM, 422),
        (b"a=b&" * 16_000, FORM, 422),
    ],
)
def test_a_body_that_is_no_form_of_ours_does_nothing(
    endpoint: Endpoint, gator: Gator, body: bytes | None, content_type: str, status: int
) -> None:
    bury(gator, "a")
    headers = {"content-type": content_type, **BEARER}

    response = endpoint.respond(Request("POST", "/actions", True, "", headers, body))

    assert response.status == status
    assert gator.stats().dead == 1


# Whose form it is.


@pytest.mark.parametrize(
    "changed",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": ""},
        {"cookie": ""},
        {"cookie": f"alligator_csrf={'x' * 43}"},
        {"cookie": "alligator_csrf=x"},
    ],
)
def test_a_form_that_another_site_has_sent_does_nothing(
    browse: Any, endpoint: Endpoint, gator: Gator, changed: dict[str, str]
) -> None:
    bury(gator, "a")
    forms, headers = browse()

    response = post(endpoint, {**headers, **changed}, **forms[0])

    assert response.status == 403
    assert gator.stats().dead == 1


@pytest.mark.parametrize("csrf", ["", "0" * 64, "\u00fc"])
def test_a_form_without_the_page_s_own_sign_does_nothing(
    browse: Any, endpoint: Endpoint, gator: Gator, csrf: str
) -> None:
    bury(gator, "a")
    forms, headers = browse()

    assert post(endpoint, headers, **{**forms[0], "csrf": csrf}).status == 403
    assert gator.stats().dead == 1


def test_the_token_is_of_no_use_to_another_site(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a")
    headers = {**BEARER, "origin": "https://evil.example", "host": "shop.example"}

    assert post(endpoint, headers, do="drop", queue="all", task="a").status == 403
    assert gator.stats().dead == 1


def test_another_process_of_the_site_takes_the_form(browse: Any, gator: Gator) -> None:
    bury(gator, "a")
    forms, headers = browse()
    other = Endpoint(gator, token=TOKEN, actions=True)
    stranger = Endpoint(gator, token=TOKEN[::-1], actions=True)

    assert post(stranger, headers, **forms[0]).status == 403
    assert post(other, headers, **forms[0]).status == 303


def test_the_cookie_is_kept_and_out_of_reach_of_scripts(endpoint: Endpoint) -> None:
    first = endpoint.respond(Request("GET", "/", True))
    cookie = header(first, "Set-Cookie")

    second = endpoint.respond(
        Request("GET", "/", True, headers={"cookie": cookie.partition(";")[0]})
    )

    assert cookie.endswith("; HttpOnly; SameSite=Strict")
    assert "Set-Cookie" not in dict(second.headers)


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://x"}, True),  # behind a proxy
        ({"origin": "https://shop.example", "host": "shop.example"}, True),
        ({"origin": "https://shop.example:8443", "host": "shop.example:8443"}, True),
        ({"origin": "https://shop.example:8443", "host": "shop.example"}, False),
        ({"origin": "https://shop.example.evil", "host": "shop.example"}, False),
        ({"origin": "null", "host": ""}, False),
        ({"origin": "", "host": ""}, False),
        ({"origin": "https://[", "host": "["}, False),
        ({"host": "shop.example"}, None),
    ],
)
def test_a_browser_says_where_a_form_comes_from(headers: dict[str, str], same: bool | None) -> None:
    assert is_same_origin(headers) is same


def test_a_form_of_ours_is_shorter_than_what_is_read(gator: Gator) -> None:
    longest = "x" * 255

    assert len(f"do=cancel&csrf={'0' * 64}&store=9999&queue={longest}&task={longest}") < MAX_BODY
