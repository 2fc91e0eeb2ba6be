"""The commit id of a request with an idempotency key; the protocols are tested in integrations/."""

from typing import Any
from uuid import UUID

import pytest

from alligator import Gator
from alligator.constants import LONG_COMMIT_ID
from alligator.exceptions import ConfigurationError
from alligator.web.idempotency import IdempotencyKeys, RequestLine
from alligator.web.middleware import Middleware


def line(method: str = "POST", path: str = "/", **headers: str) -> RequestLine:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestLine(method, path, lambda name: named.get(name, ""))


def id_of(given: RequestLine, client: Any = None) -> str | None:
    return IdempotencyKeys(True, client).commit_id(given, lambda: "the request")


async def in_a_coroutine(request: Any) -> str:
    return "ann"


@pytest.mark.parametrize(
    "settings",
    [
        {"idempotency_key": ""},
        {"idempotency_key": "X Key"},
        {"idempotency_key": 7},
        {"idempotency_client": str},
        {"idempotency_key": False, "idempotency_client": str},
        {"idempotency_key": True, "idempotency_client": "user"},
        {"idempotency_key": True, "idempotency_client": in_a_coroutine},
    ],
)
def test_invalid_setting_is_refused_at_set_up(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^idempotency_"):
        Middleware(object(), Gator("locmem://"), **settings)


@pytest.mark.parametrize("header", [None, False])
def test_keys_can_be_switched_off(header: Any) -> None:
    middleware = Middleware(object(), Gator("locmem://"), idempotency_key=header)

    [transaction] = middleware.begin({})  # reads no header

    assert not transaction.is_settled_by_repeating
    middleware.leave([transaction])


def test_commit_id_is_remembered_for_long() -> None:
    found = id_of(line(authorization="Basic x", idempotency_key="1"))

    assert found is not None
    assert found.startswith(LONG_COMMIT_ID)
    assert len(found) < 60


def test_commit_id_contains_no_credentials() -> None:
    found = id_of(line(authorization="s3cret", cookie="s3cret", idempotency_key="s3cret"))

    assert found is not None
    assert "s3cret" not in found


def test_parts_of_a_request_cannot_be_shifted_into_each_other() -> None:
    lines = [
        line(path="/a", authorization="b", idempotency_key="c"),
        line(path="/a", authorization="b", cookie="", idempotency_key='", "c'),
        line(path="/a", cookie="b", idempotency_key="c"),
        line(path='/a", "b', authorization="b", idempotency_key="c"),
        line(method="PUT", path="/a", authorization="b", idempotency_key="c"),
    ]
    for separator in ("", " ", ", ", ":", "\n", "\0"):
        lines += [
            line(path=f"/x{separator}y", authorization="z", idempotency_key="c"),
            line(path="/x", authorization=f"y{separator}z", idempotency_key="c"),
        ]

    assert len({id_of(each) for each in lines}) == len(lines)


@pytest.mark.parametrize("client", [7, "7", UUID(int=7)])
def test_client_of_another_type_is_another_client(client: object) -> None:
    given = line(idempotency_key="1")

    ids = {id_of(given, lambda _, each=each: each) for each in (7, "7", UUID(int=7))}

    assert len(ids) == 3
    assert id_of(given, lambda _: client) in ids


@pytest.mark.parametrize("client", [True, b"ann", object(), ["ann"], 1.5])
def test_value_that_identifies_no_client_is_an_error(client: object) -> None:
    with pytest.raises(ConfigurationError, match="it returned a"):
        id_of(line(idempotency_key="1"), lambda _: client)


def test_function_is_called_only_for_a_request_with_a_key() -> None:
    seen: list[Any] = []

    assert id_of(line(authorization="x"), seen.append) is None
    assert seen == []

    assert id_of(line(authorization="x", idempotency_key="1"), seen.append) is None
    assert seen == ["the request"]
