"""What /alligator/… answers, and to whom."""

from json import loads
from typing import Any

import pytest

from alligator import Gator
from alligator.backends import locmem_backend
from alligator.backends.base import QueueStats, WorkerInfo
from alligator.exceptions import BackendUnavailable, ConfigurationError
from alligator.web.endpoint import Endpoint
from alligator.web.http import Request, Response
from tests.harness import sample_tasks
from tests.harness.dashboard import bury

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
def test_health_shows_unauthorized_callers_only_the_status(endpoint: Endpoint, path: str) -> None:
    response = get(endpoint, path)

    assert response.status == 200
    assert header(response, "Content-Type") == "application/health+json"
    assert document(response) == {"status": "warn"}  # memory forgets


def test_health_shows_authorized_callers_the_checks(endpoint: Endpoint) -> None:
    response = get(endpoint, "/health", allowed=True)

    assert "backend:responseTime" in document(response)["checks"]


def test_health_with_a_warning_is_a_200() -> None:
    response = get(Endpoint(Gator("locmem://")), "/health")

    assert (response.status, document(response)) == (200, {"status": "warn"})


@pytest.mark.parametrize("allowed", [True, False])
def test_health_of_an_unreachable_store_is_a_503(allowed: bool) -> None:
    endpoint = Endpoint(Gator("locmem://", backend_class=Away))

    response = get(endpoint, "/health", allowed=allowed)

    assert response.status == 503
    assert document(response)["status"] == "fail"
    assert (b"db.internal" in response.body) is allowed


def test_liveness_does_not_depend_on_the_store() -> None:
    endpoint = Endpoint(Gator("locmem://", backend_class=Away))

    response = get(endpoint, "/health/live")

    assert (response.status, document(response)) == (200, {"status": "pass"})


def test_stats_are_shown_to_authorized_callers(endpoint: Endpoint, gator: Gator) -> None:
    gator.task(sample_tasks.fail, "a private matter")

    response = get(endpoint, "/stats", allowed=True)

    assert response.status == 200
    assert header(response, "Content-Type") == "application/json"
    assert document(response)["stores"][0]["queues"][0]["ready"] == 1
    assert b"private" not in response.body


def test_stats_are_closed_otherwise_and_say_how_to_open_them(endpoint: Endpoint) -> None:
    response = get(endpoint, "/stats")

    assert response.status == 403
    assert header(response, "Content-Type") == "application/problem+json"
    assert "ALLIGATOR_TOKEN" in document(response)["detail"]
    assert "authorize=" in document(response)["detail"]


@pytest.mark.parametrize("backend", [Away, Odd])
def test_stats_of_a_broken_store_are_an_error_without_a_reason(
    backend: type, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint(Gator("locmem://", backend_class=backend))

    response = get(endpoint, "/stats", allowed=True)

    assert response.status == (503 if backend is Away else 500)
    [line] = [record for record in caplog.records if "/stats" in record.getMessage()]
    if backend is Away:
        assert "/stats cannot read the store: BackendUnavailable: " in line.getMessage()
    else:  # a fault is not reported as an absent store, and is logged with its traceback
        assert "/stats failed: ZeroDivisionError: " in line.getMessage()
        assert line.exc_info is not None
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
def test_path_that_is_unknown_is_a_404(endpoint: Endpoint, path: str) -> None:
    response = get(endpoint, path, allowed=True)

    assert response == get(endpoint, "/nothing")
    assert response.status == 404


@pytest.mark.parametrize("path", ["/health", "/health/live", "/stats"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", "<b>"])
def test_pages_without_actions_allow_get_and_head_only(
    endpoint: Endpoint, path: str, method: str
) -> None:
    response = get(endpoint, path, allowed=True, method=method)

    assert response.status == 405
    assert header(response, "Allow") == "GET, HEAD"
    assert b"<b>" not in response.body


@pytest.mark.parametrize("path", ["/health", "/health/live", "/stats", "/nothing"])
def test_head_is_get_without_its_body(endpoint: Endpoint, path: str) -> None:
    response = get(endpoint, path, method="HEAD")

    assert response == get(endpoint, path)._replace(body=b"")


@pytest.mark.parametrize(
    "authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f" BEARER   {TOKEN} "]
)
def test_token_authorizes(endpoint: Endpoint, authorization: str) -> None:
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
def test_header_without_the_token_does_not_authorize(
    endpoint: Endpoint, authorization: str | None
) -> None:
    assert not endpoint.allows(authorization)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Bearer None"])
def test_endpoint_without_a_token_authorizes_no_one(
    gator: Gator, authorization: str | None
) -> None:
    assert not Endpoint(gator).allows(authorization)


def test_token_may_be_in_the_environment(gator: Gator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLIGATOR_TOKEN", f"{TOKEN}\n")

    endpoint = Endpoint(gator)

    assert endpoint.allows(f"Bearer {TOKEN}")


def test_token_variable_that_is_empty_is_no_token(
    gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLIGATOR_TOKEN", " ")

    endpoint = Endpoint(gator)

    assert not endpoint.allows("Bearer ")


@pytest.mark.parametrize("token", ["", "  ", "schl\u00fcssel-fuer-alles"])
def test_token_that_cannot_work_is_refused(gator: Gator, token: str) -> None:
    with pytest.raises(ConfigurationError):
        Endpoint(gator, token=token)


def test_token_that_is_short_is_a_warning(gator: Gator, caplog: pytest.LogCaptureFixture) -> None:
    Endpoint(gator, token="short")

    assert "16 characters" in caplog.text
    assert "short" not in caplog.text


def test_several_gators_have_one_endpoint(gator: Gator) -> None:
    endpoint = Endpoint([gator, Gator("locmem://", backend_class=Away)])

    response = get(endpoint, "/health", allowed=True)

    assert response.status == 503
    assert len(document(response)["checks"]["backend:responseTime"]) == 2


def test_closed_page_says_how_to_open_it_and_nothing_else(endpoint: Endpoint, gator: Gator) -> None:
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


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [("/", "POST", "GET, HEAD"), ("/actions", "GET", "POST"), ("/actions", "HEAD", "POST")],
)
def test_response_to_another_method_lists_the_allowed_ones(
    endpoint: Endpoint, path: str, method: str, allow: str
) -> None:
    response = endpoint.respond(Request(method, path, True))

    assert response.status == 405
    assert header(response, "Allow") == allow


@pytest.mark.parametrize(
    ("mount", "location"),
    [("/alligator", "./alligator/"), ("/ops/queue/", "./queue/"), ("/a b", "./a%20b/")],
)
def test_address_without_its_slash_is_redirected(
    endpoint: Endpoint, mount: str, location: str
) -> None:
    response = endpoint.respond(Request("GET", "", mount=mount))

    assert (response.status, header(response, "Location")) == (308, location)
