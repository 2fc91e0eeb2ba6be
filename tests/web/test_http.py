"""Requests and responses of the endpoint."""

import pytest

from alligator import Gator
from alligator.web.endpoint import Endpoint
from alligator.web.http import FORM, MAX_BODY, Request
from tests.harness.dashboard import BEARER, bury, header


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
def test_body_that_is_no_form_does_nothing(
    endpoint: Endpoint, gator: Gator, body: bytes | None, content_type: str, status: int
) -> None:
    bury(gator, "a")
    headers = {"content-type": content_type, **BEARER}

    response = endpoint.respond(Request("POST", "/actions", True, "", headers, body))

    assert response.status == status
    assert gator.stats().dead == 1


def test_form_of_the_page_is_shorter_than_the_limit(gator: Gator) -> None:
    longest = "x" * 255

    assert len(f"do=cancel&store=9999&queue={longest}&task={longest}") < MAX_BODY


@pytest.mark.parametrize("path", ["/health", "/health/live", "/stats", "/nothing"])
@pytest.mark.parametrize("allowed", [True, False])
def test_response_forbids_caching_and_guessing_its_type(
    endpoint: Endpoint, path: str, allowed: bool
) -> None:
    response = endpoint.respond(Request("GET", path, allowed))

    assert header(response, "Cache-Control") == "no-store"
    assert header(response, "X-Content-Type-Options") == "nosniff"
    assert header(response, "Content-Length") == str(len(response.body))
