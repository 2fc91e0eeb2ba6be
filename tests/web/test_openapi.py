"""The OpenAPI document, compared with what the endpoint answers."""

import sys
from collections.abc import Iterator
from json import loads
from typing import Any, NoReturn
from urllib.parse import urlencode

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

import alligator
from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import QueueStats
from alligator.exceptions import BackendUnavailable
from alligator.web.dashboard import page
from alligator.web.dashboard.actions import ACTIONS, CONTROLS, MAX_CHOSEN, RUN
from alligator.web.dashboard.login import COOKIE
from alligator.web.endpoint import PUBLIC, Endpoint
from alligator.web.http import FORM, Request, Response
from tests.harness import sample_tasks

TOKEN = "a-token-that-is-long-enough"
OURS = {"sec-fetch-site": "same-origin", "content-type": FORM}
BROWSER = {**OURS, "accept": "text/html"}
PLACE = "queue=all&task=a"


class Away(locmem_backend.Client):
    """A store that cannot be reached."""

    def ping(self) -> None:
        raise BackendUnavailable("away")

    def stats(self, queue_name: str) -> QueueStats:
        raise BackendUnavailable("away")

    def cancel(self, queue_name: str, task_id: str) -> NoReturn:
        raise BackendUnavailable("away")


class Odd(locmem_backend.Client):
    """A store with a fault of its own."""

    def stats(self, queue_name: str) -> QueueStats:
        raise ZeroDivisionError

    def cancel(self, queue_name: str, task_id: str) -> NoReturn:
        raise ZeroDivisionError


def make(client: type[locmem_backend.Client] = locmem_backend.Client) -> Endpoint:
    gator = Gator("locmem://", backend_class=client)
    gator.options(task_id="a", delay_by=60).task(sample_tasks.add, 1, 2)
    return Endpoint(gator, token=TOKEN, actions=True)


def load() -> dict[str, Any]:
    response = make().respond(Request("GET", "/openapi.json", True))
    document: dict[str, Any] = loads(response.body)
    return document


DOCUMENT = load()


def resolve(node: Any) -> Any:
    """Return *node* with each reference replaced by what it stands for."""
    if isinstance(node, list):
        return [resolve(each) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        found: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return resolve(found)
    return {name: resolve(each) for name, each in node.items()}


OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    (method.upper(), path): resolve(operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


def test_document_is_valid_openapi() -> None:
    validate(DOCUMENT)


def test_document_names_each_route_and_method() -> None:
    routes = {(method, path or "/") for path, found in make()._pages.items() for method in found}

    assert routes == OPERATIONS.keys()


def test_document_says_which_pages_are_open() -> None:
    closed = {path for (_, path), each in OPERATIONS.items() if "security" not in each}

    assert closed == {path or "/" for path in make()._pages if path not in PUBLIC} - {
        "/actions"
    } | {
        "/login"  # its GET sends a visitor who is allowed already to the dashboard
    }


def test_document_agrees_with_the_constants_of_the_code() -> None:
    several = form_schema()["oneOf"][1]["properties"]
    words = {word for form in form_schema()["oneOf"] for word in form["properties"]["do"]["enum"]}

    assert alligator.__version__.startswith(f"{DOCUMENT['info']['version']}.")
    assert DOCUMENT["components"]["securitySchemes"]["session"]["name"] == COOKIE
    assert several["chosen"]["maxItems"] == MAX_CHOSEN
    assert words == {*ACTIONS, *CONTROLS, RUN}


def answers() -> Iterator[tuple[Endpoint, Request]]:
    """Make requests that together lead to each answer that the document describes."""
    fine, away, odd = make(), make(Away), make(Odd)
    for path in DOCUMENT["paths"]:
        for allowed in (False, True):
            for headers in (
                {},
                {"accept": "text/html"},
                {"accept": "application/openmetrics-text"},
            ):
                for endpoint in (fine, away, odd):
                    yield endpoint, Request("GET", path, allowed, "", headers)
    for path in ("/login", "/logout", "/actions"):
        for endpoint in (away, odd, fine):
            for headers in (
                {"content-type": FORM},
                OURS,
                BROWSER,
                {**OURS, "content-type": "text/plain"},
            ):
                for body in (None, b"", f"do=cancel&{PLACE}&token={TOKEN}".encode()):
                    yield endpoint, Request("POST", path, True, "", headers, body)
    yield fine, Request("GET", "/", True, "live")


def check(request: Request, response: Response) -> None:
    """Compare *response* with what the document says of it."""
    described = OPERATIONS[request.method, request.path]["responses"]
    assert str(response.status) in described, (request, response.status)
    content = described[str(response.status)].get("content")
    if content is None:
        assert dict(response.headers)["Location"]
        assert response.body == b""
        return
    media_type = dict(response.headers)["Content-Type"].partition(";")[0]
    assert media_type in content, (request, media_type)
    body = response.body.decode()
    document = body if content[media_type]["schema"] == {"type": "string"} else loads(body)
    Draft202012Validator(content[media_type]["schema"]).validate(document)


def test_each_answer_is_described_and_each_description_occurs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = set()

    def try_all(requests: Iterator[tuple[Endpoint, Request]]) -> None:
        for endpoint, request in requests:
            if (request.method, request.path) in OPERATIONS:
                response = endpoint.respond(request)
                check(request, response)
                seen.add((request.method, request.path, str(response.status)))

    try_all(answers())
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "alligator.monitoring.metrics", raising=False)
    page._templates.cache_clear()
    try_all((make(), Request("GET", path, True)) for path in ("/", "/metrics"))
    page._templates.cache_clear()

    assert seen == {
        (method, path, status)
        for (method, path), operation in OPERATIONS.items()
        for status in operation["responses"]
    }


def form_schema() -> dict[str, Any]:
    schema: dict[str, Any] = OPERATIONS["POST", "/actions"]["requestBody"]["content"][FORM][
        "schema"
    ]
    return schema


@pytest.mark.parametrize(
    ("form", "is_valid"),
    [
        ({"do": "cancel", "queue": "all", "task": "a"}, True),
        ({"do": "retry", "queue": "all", "task": "a", "store": 0}, True),
        ({"do": "drop", "chosen": [PLACE, f"store=0&{PLACE}", ""]}, True),
        ({"do": "cancel", "queue": "", "task": "", "chosen": [PLACE] * MAX_CHOSEN}, True),
        ({"do": "drop-all", "queue": "all"}, True),
        ({"do": "retry-all", "queue": "all", "store": 0}, True),
        ({"do": "pause", "queue": "all"}, True),
        ({"do": "resume", "queue": "all", "task": "a"}, False),
        ({}, False),
        ({"do": "dance", "queue": "all", "task": "a"}, False),
        ({"do": "cancel", "queue": "all"}, False),
        ({"do": "cancel", "task": "a"}, False),
        ({"do": "cancel", "queue": "all", "task": "a", "store": -1}, False),
        ({"do": "cancel", "queue": "all", "task": "a", "store": 10_000}, False),
        ({"do": "drop-all", "queue": "all", "task": "a"}, False),
        ({"do": "drop-all"}, False),
        ({"do": "drop", "queue": "all", "chosen": [PLACE]}, False),
        ({"do": "drop", "chosen": ["task=a"]}, False),
    ],
    ids=str,
)
def test_form_is_accepted_if_and_only_if_it_fits_the_schema(
    form: dict[str, Any], is_valid: bool
) -> None:
    body = urlencode(form, doseq=True).encode()

    response = make().respond(Request("POST", "/actions", True, "", OURS, body))

    assert Draft202012Validator(form_schema()).is_valid(form) is is_valid
    assert response.status == (303 if is_valid else 422)
