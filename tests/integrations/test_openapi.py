"""The endpoint against its OpenAPI document, with requests of schemathesis and of visitors."""

import io
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from alligator import Gator
from starlette_alligator import AlligatorEndpoint
from tests.harness import sample_tasks
from wsgi_alligator import AlligatorEndpoint as WsgiEndpoint

schemathesis: Any = pytest.importorskip("schemathesis")

TOKEN = "t" * 32
BEARER = {"Authorization": f"Bearer {TOKEN}"}

BASE = "http://testserver/alligator"

gator = Gator("locmem://")
app = Starlette(
    routes=[Mount("/alligator", AlligatorEndpoint(gator, token=TOKEN, actions=True, details=True))]
)
schema = schemathesis.openapi.from_asgi("/alligator/openapi.json", app, headers=BEARER)
# The document cannot know how many stores there are; here there is one.
schemas = schema.raw_schema["components"]["schemas"]
schemas["store"]["maximum"] = 0
schemas["place"]["pattern"] = schemas["place"]["pattern"].replace("[0-9]{1,4}", "0")


@schema.parametrize()  # type: ignore[untyped-decorator]
@settings(max_examples=25)
def test_endpoint_behaves_as_its_openapi_document_says(case: Any) -> None:
    # Visitors without a token get a 403: a 401 needs a challenge, and none fits. The dashboard ignores
    # invalid parts of its address.
    excluded = [schemathesis.checks.missing_required_header]
    if case.method == "GET":
        excluded.append(schemathesis.checks.negative_data_rejection)
    case.call_and_validate(base_url=BASE, headers=BEARER, excluded_checks=excluded)


WORDS = [
    "/",
    "",
    "/login",
    "/logout",
    "/actions",
    "/stats",
    "/health",
    "/openapi.json",
    "/health/live",
    "/metrics",
]
TEXT = st.text(st.characters(max_codepoint=255), max_size=40)
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get", ""]
HEADERS = [
    "HOST",
    "ORIGIN",
    "COOKIE",
    "AUTHORIZATION",
    "ACCEPT",
    "SEC_FETCH_SITE",
    "X_FORWARDED_HOST",
]


@settings(max_examples=400)
@given(
    method=st.sampled_from(METHODS) | TEXT,
    path=st.sampled_from(WORDS) | TEXT.map("/".__add__) | TEXT,
    query=TEXT,
    headers=st.dictionaries(st.sampled_from(HEADERS), TEXT | st.just(f"Bearer {TOKEN[:-1]}")),
    content_type=st.sampled_from(["", "application/x-www-form-urlencoded"]) | TEXT,
    body=st.binary(max_size=50) | st.just(b"do=drop-all&queue=private"),
)
def test_unauthenticated_visitor_learns_and_changes_nothing(
    method: str, path: str, query: str, headers: dict[str, str], content_type: str, body: bytes
) -> None:
    gator = Gator("locmem://", "private")
    gator.options(task_id="a").task(sample_tasks.fail, "a private matter")
    (lease,) = gator.client.reserve("private")
    gator.client.dead_letter(lease, reason="a private matter")
    environ: Any = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **{f"HTTP_{name}": value for name, value in headers.items()},
    }
    setup_testing_defaults(environ)
    statuses: list[str] = []
    start: Any = lambda status, headers: statuses.append(status)  # noqa: E731

    answer = b"".join(WsgiEndpoint(gator, token=TOKEN, actions=True)(environ, start))

    assert int(statuses[0][:3]) in (200, 303, 403, 404, 405, 415)
    assert int(statuses[0][:3]) != 303 or path.strip("/") == "logout"
    assert b"private" not in answer
    assert b"locmem" not in answer
    assert gator.stats().dead == 1
