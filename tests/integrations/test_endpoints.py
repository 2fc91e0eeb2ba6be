"""/alligator/… through each protocol: one table for all of them."""

import io
import json
from typing import Any
from wsgiref.types import WSGIEnvironment
from wsgiref.util import setup_testing_defaults

import pytest

from alligator import Gator
from alligator.web.http import MAX_BODY
from tests.harness.web_sites import Get, endpoint_at
from wsgi_alligator import AlligatorEndpoint

TOKEN = "t" * 32
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(params=["wsgi", "asgi", "django", "starlette", "fastapi"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("ALLIGATOR_TOKEN", raising=False)
    name: str = request.param
    return name


def get_of(name: str, gator: Gator, **settings: Any) -> Get:
    return endpoint_at(name, "/alligator", gator, **settings)


def test_health_is_for_everybody(name: str, gator: Gator) -> None:
    answer = get_of(name, gator)("/alligator/health")

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/health+json"
    assert answer.headers["cache-control"] == "no-store"
    assert list(json.loads(answer.body)) == ["status"]


def test_unreachable_store_is_a_503(name: str) -> None:
    get = get_of(name, Gator("redis://user:s3cret@127.0.0.1:1/0"))

    health, live = get("/alligator/health"), get("/alligator/health/live")

    assert (health.status, live.status) == (503, 200)
    assert b"s3cret" not in health.body


def test_stats_are_closed_to_strangers(name: str, gator: Gator) -> None:
    answer = get_of(name, gator)("/alligator/stats")

    assert answer.status == 403
    assert b"ALLIGATOR_TOKEN" in answer.body


def test_token_opens_the_endpoints(name: str, gator: Gator) -> None:
    get = get_of(name, gator, token=TOKEN)

    assert get("/alligator/stats", headers=BEARER).status == 200
    assert get("/alligator/stats", headers={"Authorization": "Bearer other"}).status == 403
    assert list(json.loads(get("/alligator/health", headers=BEARER).body)) != ["status"]


def test_token_of_the_environment_opens_the_endpoints(
    name: str, gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLIGATOR_TOKEN", TOKEN)

    assert get_of(name, gator)("/alligator/stats", headers=BEARER).status == 200


@pytest.mark.parametrize(("said", "status"), [(True, 200), (False, 403), (None, 403)])
def test_application_can_decide_about_access(
    name: str, gator: Gator, said: Any, status: int
) -> None:
    asked: list[Any] = []

    def authorize(request: Any) -> Any:
        asked.append(request)
        return said

    answer = get_of(name, gator, authorize=authorize)("/alligator/stats")

    assert answer.status == status
    assert len(asked) == 1


def test_async_function_can_decide_about_access(name: str, gator: Gator) -> None:
    if name == "wsgi":
        pytest.skip("WSGI has no coroutines")

    async def authorize(request: Any) -> bool:
        return True

    assert get_of(name, gator, authorize=authorize)("/alligator/stats").status == 200


def test_authorize_function_that_fails_counts_as_no(
    name: str, gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    def authorize(request: Any) -> bool:
        raise LookupError("the sessions are away")

    answer = get_of(name, gator, authorize=authorize)("/alligator/stats")

    assert answer.status == 403
    assert b"sessions" not in answer.body
    assert "the sessions are away" in caplog.text


def test_head_request_has_no_body(name: str, gator: Gator) -> None:
    answer = get_of(name, gator)("/alligator/health", method="HEAD")

    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


def test_other_methods_and_paths_are_refused(name: str, gator: Gator) -> None:
    get = get_of(name, gator)

    assert get("/alligator/health", method="POST").status == 405
    assert get("/alligator/nothing").status == 404


def test_endpoint_can_be_mounted_deeper(name: str, gator: Gator) -> None:
    get = endpoint_at(name, "/ops/queue", gator)

    assert get("/ops/queue/health").status == 200


def test_endpoint_shows_several_gators(name: str, gator: Gator) -> None:
    get = endpoint_at(name, "/alligator", [gator, Gator("locmem://", "mail")], token=TOKEN)

    answer = get("/alligator/stats", headers=BEARER)

    assert answer.status == 200
    assert b"mail" in answer.body


# What a WSGI server says of the length of a body is what the client has said.


class Input(io.BytesIO):
    """A body that notes how much of it is asked for."""

    asked: list[int | None]

    def read(self, size: int | None = -1) -> bytes:
        self.asked.append(size)
        return super().read(size)


def post_actions(gator: Gator, length: str) -> tuple[int, list[int | None]]:
    """Post to the dashboard with that Content-Length; return the status, and what was read."""
    body = Input(b"do=retry&queue=all&task=5f1c")
    body.asked = []
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/actions",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": length,
        "HTTP_AUTHORIZATION": BEARER["Authorization"],
        "wsgi.input": body,
    }
    setup_testing_defaults(environ)
    statuses: list[str] = []
    endpoint = AlligatorEndpoint(gator, token=TOKEN, actions=True)
    endpoint(environ, lambda status, *given: statuses.append(status))  # type: ignore[arg-type]
    return int(statuses[0][:3]), body.asked


@pytest.mark.parametrize("length", ["28", "028", "0" * 5_000 + "28"])
def test_leading_zeros_of_a_length_do_not_count(gator: Gator, length: str) -> None:
    assert post_actions(gator, length) == (303, [28])


@pytest.mark.parametrize(
    "length",
    [
        str(MAX_BODY + 1),
        "0000000009999999999",
        "9" * 10_000,
        "-1",
        "+28",
        "2_8",
        "28 ",
        "0x1c",
        "28.0",
        "\u0662\u0668",
        "\u00b2",
    ],
    ids=lambda length: ascii(length)[:20],
)
def test_invalid_or_excessive_length_is_not_read(gator: Gator, length: str) -> None:
    assert post_actions(gator, length) == (413, [])
