"""What /alligator/… answers, and to whom."""

from json import loads
from typing import Any

import pytest

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import QueueStats, WorkerInfo
from alligator.endpoint import Endpoint
from alligator.exceptions import BackendUnavailable, ConfigurationError
from alligator.http import Request, Response
from tests import sample_tasks

TOKEN = "a-token-that-is-long-enough"


class Away(locmem_backend.Client):
    """A store that cannot be reached."""

    def ping(self) -> None:
        raise BackendUnavailable("redis://app:***@db.internal cannot be reached")

    def stats(self, queue_name: str) -> QueueStats:
        raise BackendUnavailable("redis://app:***@db.internal cannot be reached")


class Odd(locmem_backend.Client):
    """A store with a fault of its own."""

    def stats(self, queue_name: str) -> QueueStats:
        raise ZeroDivisionError("p4ssw0rd")


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALLIGATOR_TOKEN", raising=False)


@pytest.fixture
def gator() -> Gator:
    gator = Gator("locmem://")
    gator.client.beat(WorkerInfo(name="host:1:ab", queues=["all"]), 60)
    return gator


@pytest.fixture
def endpoint(gator: Gator) -> Endpoint:
    return Endpoint(gator, token=TOKEN)


def get(endpoint: Endpoint, path: str, *, allowed: bool = False, method: str = "GET") -> Response:
    return endpoint.respond(Request(method, path, allowed))


def header(response: Response, name: str) -> str:
    (value,) = [value for key, value in response.headers if key == name]
    return value


def document(response: Response) -> Any:
    return loads(response.body)


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/health/", "/health/ready/"])
def test_strangers_are_told_the_verdict_and_nothing_more(endpoint: Endpoint, path: str) -> None:
    response = get(endpoint, path)

    assert response.status == 200
    assert header(response, "Content-Type") == "application/health+json"
    assert document(response) == {"status": "warn"}  # memory forgets


def test_those_who_are_allowed_see_the_checks(endpoint: Endpoint) -> None:
    response = get(endpoint, "/health", allowed=True)

    assert "backend:responseTime" in document(response)["checks"]


def test_a_warning_is_no_reason_to_take_no_requests() -> None:
    response = get(Endpoint(Gator("locmem://")), "/health")

    assert (response.status, document(response)) == (200, {"status": "warn"})


@pytest.mark.parametrize("allowed", [True, False])
def test_a_store_that_is_away_is_a_503(allowed: bool) -> None:
    endpoint = Endpoint(Gator("locmem://", backend_class=Away))

    response = get(endpoint, "/health", allowed=allowed)

    assert response.status == 503
    assert document(response)["status"] == "fail"
    assert (b"db.internal" in response.body) is allowed


def test_a_process_lives_whatever_the_store_does() -> None:
    endpoint = Endpoint(Gator("locmem://", backend_class=Away))

    response = get(endpoint, "/health/live")

    assert (response.status, document(response)) == (200, {"status": "pass"})


def test_stats_are_shown_to_those_who_are_allowed(endpoint: Endpoint, gator: Gator) -> None:
    gator.task(sample_tasks.fail, "a private matter")

    response = get(endpoint, "/stats", allowed=True)

    assert response.status == 200
    assert header(response, "Content-Type") == "application/json"
    assert document(response)["stores"][0]["queues"][0]["ready"] == 1
    assert b"private" not in response.body


def test_stats_are_closed_to_strangers_and_say_how_they_are_opened(endpoint: Endpoint) -> None:
    response = get(endpoint, "/stats")

    assert response.status == 403
    assert header(response, "Content-Type") == "application/problem+json"
    assert "ALLIGATOR_TOKEN" in document(response)["detail"]
    assert "authorize=" in document(response)["detail"]


@pytest.mark.parametrize("backend", [Away, Odd])
def test_a_store_that_cannot_be_measured_is_a_503_without_a_reason(backend: type) -> None:
    endpoint = Endpoint(Gator("locmem://", backend_class=backend))

    response = get(endpoint, "/stats", allowed=True)

    assert response.status == 503
    assert header(response, "Content-Type") == "application/problem+json"
    assert b"db.internal" not in response.body
    assert b"p4ssw0rd" not in response.body


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "//health",
        "/health//",
        "/health/../stats",
        "/health/live/now",
        "/stats\r\nX-Evil: 1",
        "/<script>",
        "health",
        "/HEALTH",
        "/stats?x",
        "/\udc80",
    ],
)
def test_any_other_path_gets_the_same_404(endpoint: Endpoint, path: str) -> None:
    response = get(endpoint, path, allowed=True)

    assert response == get(endpoint, "/nothing")
    assert response.status == 404


@pytest.mark.parametrize("path", ["/health", "/health/live", "/stats"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", "<b>"])
def test_nothing_can_be_changed_here(endpoint: Endpoint, path: str, method: str) -> None:
    response = get(endpoint, path, allowed=True, method=method)

    assert response.status == 405
    assert header(response, "Allow") == "GET, HEAD"
    assert b"<b>" not in response.body


@pytest.mark.parametrize("path", ["/health", "/health/live", "/stats", "/nothing"])
@pytest.mark.parametrize("allowed", [True, False])
def test_every_answer_forbids_to_keep_or_to_guess_it(
    endpoint: Endpoint, path: str, allowed: bool
) -> None:
    response = get(endpoint, path, allowed=allowed)

    assert header(response, "Cache-Control") == "no-store"
    assert header(response, "X-Content-Type-Options") == "nosniff"
    assert header(response, "Content-Length") == str(len(response.body))


@pytest.mark.parametrize("path", ["/health", "/health/live", "/stats", "/nothing"])
def test_head_is_get_without_its_body(endpoint: Endpoint, path: str) -> None:
    response = get(endpoint, path, method="HEAD")

    assert response == get(endpoint, path)._replace(body=b"")


@pytest.mark.parametrize(
    "authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f" BEARER   {TOKEN} "]
)
def test_the_token_opens(endpoint: Endpoint, authorization: str) -> None:
    assert endpoint.allows(authorization)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \u00fc\udc80",
    ],
)
def test_anything_else_does_not(endpoint: Endpoint, authorization: str | None) -> None:
    assert not endpoint.allows(authorization)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Bearer None"])
def test_without_a_token_nobody_is_let_in(gator: Gator, authorization: str | None) -> None:
    assert not Endpoint(gator).allows(authorization)


def test_the_token_may_be_in_the_environment(gator: Gator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLIGATOR_TOKEN", f"{TOKEN}\n")

    endpoint = Endpoint(gator)

    assert endpoint.allows(f"Bearer {TOKEN}")


def test_an_empty_variable_is_no_token(gator: Gator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLIGATOR_TOKEN", " ")

    endpoint = Endpoint(gator)

    assert not endpoint.allows("Bearer ")


@pytest.mark.parametrize("token", ["", "  ", "schl\u00fcssel-fuer-alles"])
def test_a_token_that_cannot_work_is_refused(gator: Gator, token: str) -> None:
    with pytest.raises(ConfigurationError):
        Endpoint(gator, token=token)


def test_a_short_token_is_remarked_on(gator: Gator, caplog: pytest.LogCaptureFixture) -> None:
    Endpoint(gator, token="short")

    assert "16 characters" in caplog.text
    assert "short" not in caplog.text.replace("is short", "")


def test_several_gators_have_one_endpoint(gator: Gator) -> None:
    endpoint = Endpoint([gator, Gator("locmem://", backend_class=Away)])

    response = get(endpoint, "/health", allowed=True)

    assert response.status == 503
    assert len(document(response)["checks"]["backend:responseTime"]) == 2
