"""Requests to the dashboard, and what its page shows, for the tests of the endpoint."""

import re
from html import unescape
from html.parser import HTMLParser
from json import dumps
from urllib.parse import urlencode

from alligator import Gator
from alligator.backends.base import Message
from alligator.web.endpoint import Endpoint
from alligator.web.http import FORM, Request, Response
from tests.harness import sample_tasks

TOKEN = "a-token-that-is-long-enough"
BEARER = {"authorization": f"Bearer {TOKEN}"}
OURS = {"sec-fetch-site": "same-origin"}


def show(endpoint: Endpoint, query: str = "", **headers: str) -> str:
    """Return the HTML of the page."""
    response = endpoint.respond(Request("GET", "/", True, query, headers))
    assert response.status == 200
    return response.body.decode()


def text_of(html: str) -> str:
    """Return the visible text."""
    return " ".join(
        unescape(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", html, flags=re.S)).split()
    )


def header(response: Response, name: str) -> str:
    """Return the only header of that name."""
    (value,) = [value for key, value in response.headers if key == name]
    return value


def bury(gator: Gator, *task_ids: str, queue: str = "all", **texts: str) -> None:
    """Push tasks that are dead."""
    data = dumps({"module": "shop", "callable": "charge", "args": ["4242"], "kwargs": {"to": 7}})
    gator.client.push_many([Message(queue, task_id, data) for task_id in task_ids])
    for lease in gator.client.reserve(queue, limit=len(task_ids)):
        gator.client.dead_letter(lease, **{"reason": "no luck", "traceback": "in line 7", **texts})


def schedule(gator: Gator, task_id: str = "later") -> None:
    """Push a task that is due in an hour."""
    gator.options(task_id=task_id, delay_by=3600).task(sample_tasks.add, 1, 2)


def post(endpoint: Endpoint, headers: dict[str, str], query: str = "", **form: str) -> Response:
    """Post a form to the actions."""
    body = "&".join(f"{name}={value}" for name, value in form.items()).encode()
    headers = {"content-type": FORM, **headers}
    return endpoint.respond(Request("POST", "/actions", True, query, headers, body))


def choose(endpoint: Endpoint, do: str, *chosen: str) -> Response:
    """Post the form for several tasks, as a program does."""
    body = urlencode([("do", do), *(("chosen", each) for each in chosen)]).encode()
    headers = {"content-type": FORM, **BEARER}
    return endpoint.respond(Request("POST", "/actions", True, "", headers, body))


def details_query(endpoint: Endpoint, reason: str) -> str:
    """Return the query of the address at which the task with *reason* shows its details."""
    html = show(endpoint)
    found = re.search(r'href="\?([^"#]*)#[^"]*">Details', html[html.index(reason) :])
    assert found
    return unescape(found[1])


class Forms(HTMLParser):
    """The forms of a page for one task or all tasks, as a browser would send them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self.boxes: list[str] = []
        """The values of the checkboxes of tasks."""
        self._is_for_one = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Read a form, or an input of it."""
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
