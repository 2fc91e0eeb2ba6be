"""Which forms are accepted as our own (protection against CSRF)."""

from base64 import b64encode
from typing import Any

import pytest

from alligator import Gator
from alligator.web.dashboard.login import Sessions
from alligator.web.endpoint import Endpoint
from alligator.web.http import FORM, Request
from alligator.web.same_origin import is_same_origin
from tests.harness.dashboard import BEARER, OURS, TOKEN, bury, post

HOST = {"host": "shop.example"}


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
        {"sec-fetch-site": "same-site", "origin": "https://blog.shop.example"},
        {"sec-fetch-site": "cross-site", "origin": "http://shop.example"},
        {"sec-fetch-site": "cross-site", "origin": "null"},
        {"sec-fetch-site": ""},
        {"sec-fetch-site": "same-origin, cross-site"},
        {"sec-fetch-site": "cross-site", "origin": "https://shop.example"},
        {"origin": "https://evil.example"},
        {"origin": "https://blog.shop.example"},
        {"origin": "https://shop.example:8443"},
        {"origin": "https://shop.example.evil.example"},
        {"origin": "https://shop.example@evil.example"},
        {"origin": "null"},
        {"origin": "null", "host": ""},
        {"origin": "https://shop.example", "host": "app:8000"},
        {"referer": "https://shop.example/alligator/"},
        {},
    ],
    ids=lambda headers: " ".join(headers.values()) or "silent",
)
@pytest.mark.parametrize("page", ["/actions", "/login", "/logout"])
def test_form_of_another_origin_is_refused(
    endpoint: Endpoint, gator: Gator, page: str, headers: dict[str, str]
) -> None:
    bury(gator, "a")
    basic = "Basic " + b64encode(f":{TOKEN}".encode()).decode()
    session = f"alligator_session={Sessions(TOKEN).begin()}"
    given = {**HOST, **headers, "content-type": FORM, "cookie": session, "authorization": basic}
    body = f"do=drop&queue=all&task=a&token={TOKEN}".encode()

    response = endpoint.respond(Request("POST", page, True, "", given, body))

    assert response.status == 403
    assert "Set-Cookie" not in dict(response.headers)
    assert gator.stats().dead == 1


@pytest.mark.parametrize(
    "headers",
    [
        OURS,
        {"sec-fetch-site": "same-origin", "origin": "https://shop.example", "host": "app:8000"},
        {"origin": "http://shop.example", **HOST},
    ],
    ids=["today", "behind a proxy", "old browser"],
)
def test_form_of_the_page_is_accepted(
    browse: Any, endpoint: Endpoint, gator: Gator, headers: dict[str, str]
) -> None:
    bury(gator, "a")
    forms, _ = browse()

    assert post(endpoint, headers, **forms[0]).status == 303


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=b"])
def test_form_of_a_type_that_a_page_never_sends_is_refused(
    endpoint: Endpoint, gator: Gator, content_type: str
) -> None:
    bury(gator, "a")
    headers = {**OURS, "content-type": content_type}
    body = b"do=drop&queue=all&task=a"

    assert endpoint.respond(Request("POST", "/actions", True, "", headers, body)).status == 415
    assert gator.stats().dead == 1


def test_dns_rebinding_brings_no_credentials(endpoint: Endpoint, gator: Gator) -> None:
    # The page of evil.example, whose name now leads here, is of the same origin; cookies are not its.
    bury(gator, "a")
    headers = {"origin": "http://evil.example", "host": "evil.example", "content-type": FORM}
    allowed = endpoint.allows(None, None)

    response = endpoint.respond(
        Request("POST", "/actions", allowed, "", headers, b"do=drop&queue=all&task=a")
    )

    assert is_same_origin(headers)
    assert (allowed, response.status) == (False, 403)
    assert gator.stats().dead == 1


@pytest.mark.parametrize("path", ["/actions", "/logout"])
def test_get_changes_nothing(endpoint: Endpoint, gator: Gator, path: str) -> None:
    bury(gator, "a")

    response = endpoint.respond(
        Request("GET", path, True, "do=drop&queue=all&task=a", {**OURS, **HOST})
    )

    assert response.status == 405
    assert gator.stats().dead == 1


def test_token_does_not_help_another_site(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a")
    headers = {**BEARER, "origin": "https://evil.example", "host": "shop.example"}

    assert post(endpoint, headers, do="drop", queue="all", task="a").status == 403
    assert gator.stats().dead == 1


def test_form_is_accepted_by_another_process_of_the_site(browse: Any, gator: Gator) -> None:
    bury(gator, "a")
    forms, headers = browse()
    other = Endpoint(gator, token=TOKEN, actions=True)

    assert post(other, headers, **forms[0]).status == 303


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://x"}, True),  # behind a proxy
        ({"origin": "https://shop.example", "host": "shop.example"}, True),
        ({"origin": "https://shop.example:8443", "host": "shop.example:8443"}, True),
        ({"origin": "null", "host": ""}, False),
        ({"origin": "", "host": ""}, False),
        ({"origin": "https://[", "host": "["}, False),
        ({"host": "shop.example"}, None),
    ],
)
def test_browser_states_whether_a_form_is_of_the_same_origin(
    headers: dict[str, str], same: bool | None
) -> None:
    assert is_same_origin(headers) is same
