"""The log-in page of the dashboard, and the cookie that it gives."""

from base64 import b64encode
from urllib.parse import urlencode

import pytest

from alligator import Gator
from alligator.backends.base import Message
from alligator.web.dashboard import login
from alligator.web.dashboard.login import COOKIE, SESSION_SECONDS, Sessions
from alligator.web.endpoint import Endpoint
from alligator.web.http import FORM, Request, Response

TOKEN = "a-token-that-is-long-enough"
BROWSER = {"accept": "text/html", "sec-fetch-site": "same-origin", "origin": "https://shop.example"}


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALLIGATOR_TOKEN", raising=False)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint(Gator("locmem://"), token=TOKEN, actions=True)


def log_in(
    endpoint: Endpoint, token: str = TOKEN, path: str = "/login", **headers: str
) -> Response:
    given = {"content-type": FORM, **BROWSER, **headers}
    body = urlencode({"token": token}).encode()
    return endpoint.respond(Request("POST", path, headers=given, body=body))


def cookies_of(response: Response) -> list[str]:
    return [value for name, value in response.headers if name == "Set-Cookie"]


def location(response: Response) -> str:
    (value,) = [value for name, value in response.headers if name == "Location"]
    return value


def test_browser_without_authorization_is_asked_for_the_token(endpoint: Endpoint) -> None:
    page = endpoint.respond(Request("GET", "/", headers=BROWSER))

    assert page.status == 403
    assert b'<form method="post" action="./login">' in page.body
    assert b"ALLIGATOR_TOKEN" in page.body
    assert "form-action 'self'" in dict(page.headers)["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("path", "action"), [("/stats", "./login"), ("/stats/", "../login"), ("/login", "./login")]
)
def test_closed_pages_all_ask_for_the_token(endpoint: Endpoint, path: str, action: str) -> None:
    page = endpoint.respond(Request("GET", path, headers=BROWSER))

    assert page.status == 403
    assert f'action="{action}"'.encode() in page.body


def test_program_gets_a_problem_document_instead(endpoint: Endpoint) -> None:
    answer = endpoint.respond(Request("GET", "/"))

    assert answer.status == 403
    assert dict(answer.headers)["Content-Type"] == "application/problem+json"


def test_endpoint_without_a_token_asks_for_none() -> None:
    endpoint = Endpoint(Gator("locmem://"), authorize=lambda request: True)

    page = endpoint.respond(Request("GET", "/", headers=BROWSER))

    assert page.status == 403
    assert b"<form" not in page.body
    assert log_in(endpoint, "").status == 403
    assert not endpoint.reads_body(Request("POST", "/login"))


def test_token_is_exchanged_for_a_cookie_that_opens_all_pages(endpoint: Endpoint) -> None:
    answer = log_in(endpoint)

    (cookie,) = cookies_of(answer)
    assert (answer.status, location(answer)) == (303, "./")
    assert cookie.startswith(f"{COOKIE}=")
    assert cookie.endswith(f"; Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Strict; Secure")
    assert TOKEN not in cookie
    assert endpoint.allows(None, cookie.partition(";")[0])
    assert endpoint.allows(None, f"a=b; {cookie.partition(';')[0]}; c=d")


def test_cookie_over_http_is_not_secure(endpoint: Endpoint) -> None:
    (cookie,) = cookies_of(log_in(endpoint, origin="http://localhost:8000"))

    assert "Secure" not in cookie


def test_cookie_is_valid_in_all_processes_with_the_same_token() -> None:
    cookie = f"{COOKIE}={Sessions(TOKEN).begin()}"

    assert Sessions(TOKEN).accept(cookie)
    assert not Sessions("another-token-of-that-length").accept(cookie)


def test_cookie_expires_after_some_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(TOKEN)
    monkeypatch.setattr(login, "time", lambda: 1_800_000_000.0)
    cookie = f"{COOKIE}={sessions.begin()}"

    monkeypatch.setattr(login, "time", lambda: 1_800_000_000.0 + SESSION_SECONDS - 1)
    before = sessions.accept(cookie)
    monkeypatch.setattr(login, "time", lambda: 1_800_000_000.0 + SESSION_SECONDS)

    assert (before, sessions.accept(cookie)) == (True, False)


def test_cookie_cannot_be_changed() -> None:
    sessions = Sessions(TOKEN)
    value = sessions.begin()
    until, nonce, signature = value.split(".")
    forged = [
        f"{int(until) + 1}.{nonce}.{signature}",
        f"{until}.{nonce[::-1]}.{signature}",
        f"{until}.{nonce}.{signature[::-1]}",
        f"{until}.{nonce}.",
        value + "x",
        value.upper(),
        TOKEN,
        "",
    ]

    assert sessions.accept(f"{COOKIE}={value}")
    assert not any(sessions.accept(f"{COOKIE}={each}") for each in forged)
    assert not sessions.accept(f"not_{COOKIE}={value}")


@pytest.mark.parametrize("token", ["", "no such", TOKEN[:-1], TOKEN + "x", "é", "\x00"])
def test_token_that_is_wrong_opens_nothing_and_can_be_corrected(
    endpoint: Endpoint, token: str
) -> None:
    answer = log_in(endpoint, token)

    assert answer.status == 403
    assert not cookies_of(answer)
    assert b"The token is wrong." in answer.body
    assert b'action="./login"' in answer.body
    if token:
        assert token.encode() not in answer.body


def test_form_of_another_site_logs_no_browser_in_or_out(endpoint: Endpoint) -> None:
    foreign = {"sec-fetch-site": "cross-site"}

    answer = log_in(endpoint, **foreign)
    silent = endpoint.respond(
        Request("POST", "/login", headers={"content-type": FORM}, body=f"token={TOKEN}".encode())
    )
    out = endpoint.respond(Request("POST", "/logout", True, headers={**BROWSER, **foreign}))

    assert answer.status == silent.status == out.status == 403
    assert not cookies_of(answer) + cookies_of(silent) + cookies_of(out)


def test_form_that_is_long_is_not_read(endpoint: Endpoint) -> None:
    no_form = log_in(endpoint, **{"content-type": "application/json"})
    too_long = endpoint.respond(
        Request("POST", "/login", headers={"content-type": FORM, **BROWSER}, body=None)
    )

    assert (no_form.status, too_long.status) == (415, 413)


def test_session_leads_to_the_page_and_can_log_out(endpoint: Endpoint) -> None:
    value = cookies_of(log_in(endpoint))[0].partition(";")[0]
    headers = {**BROWSER, "cookie": value}

    page = endpoint.respond(Request("GET", "/", True, headers=headers))
    again = endpoint.respond(Request("GET", "/login", True, headers=headers))
    out = endpoint.respond(Request("POST", "/logout", True, headers=headers))

    assert b'action="logout"' in page.body
    assert (again.status, location(again)) == (303, "./")
    assert (out.status, location(out)) == (303, "./")
    (cookie,) = cookies_of(out)
    assert cookie.startswith(f"{COOKIE}=; Max-Age=0; ")


def test_log_out_button_needs_a_session(endpoint: Endpoint) -> None:
    page = endpoint.respond(Request("GET", "/", True, headers=BROWSER))

    assert b'action="logout"' not in page.body


def test_session_allows_actions() -> None:
    gator = Gator("locmem://")
    gator.client.push_many([Message("all", "a", "{}")])
    gator.client.dead_letter(gator.client.reserve("all")[0], reason="no luck")
    endpoint = Endpoint(gator, token=TOKEN, actions=True)
    session = cookies_of(log_in(endpoint))[0].partition(";")[0]
    headers = {"content-type": FORM, **BROWSER, "cookie": session}
    allowed = endpoint.allows(None, session)
    body = b"do=drop&queue=all&task=a"

    answer = endpoint.respond(Request("POST", "/actions", allowed, "", headers, body))

    assert answer.status == 303
    assert gator.stats().dead == 0


def test_token_may_be_the_password_of_basic(endpoint: Endpoint) -> None:
    def basic(text: str) -> str:
        return "Basic " + b64encode(text.encode()).decode()

    assert endpoint.allows(basic(f"ann:{TOKEN}"))
    assert endpoint.allows(basic(f":{TOKEN}"))
    for wrong in (
        basic(TOKEN),
        basic(f"{TOKEN}:"),
        basic("ann:no"),
        "Basic !",
        "Basic /w==",
        "Basic",
    ):
        assert not endpoint.allows(wrong)


def test_password_that_a_browser_remembers_allows_no_action(endpoint: Endpoint) -> None:
    basic = "Basic " + b64encode(f":{TOKEN}".encode()).decode()
    headers = {"content-type": FORM, "authorization": basic}

    answer = endpoint.respond(
        Request("POST", "/actions", True, "", headers, b"do=drop&queue=all&task=a")
    )

    assert answer.status == 403
