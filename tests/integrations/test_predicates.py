"""Predicates of a project, through each protocol: only True and False count."""

import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from starlette.responses import RedirectResponse

import asgi_alligator
import wsgi_alligator
from alligator import Gator, Transaction
from alligator.exceptions import ConfigurationError
from alligator.monitoring.health import Health
from tests.harness.sample_tasks import add
from tests.harness.web_sites import SITES, Get, Reply, Site, View, endpoint_at

ENDPOINTS = ["wsgi", "flask", "asgi", "django", "starlette", "fastapi"]
PROTOCOLS = [wsgi_alligator, asgi_alligator]
PLAIN = {"wsgi", "flask"}
"""The sites whose protocol has no coroutines."""
PLAIN_MIDDLEWARES = {*PLAIN, "django"}
"""Django's view may be asynchronous without an event loop, but not its middleware."""

Call = Callable[..., Any]


@pytest.fixture(params=ENDPOINTS)
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("ALLIGATOR_TOKEN", raising=False)
    name: str = request.param
    return name


def pushing(gator: Gator, status: int) -> View:
    def view(transaction: Transaction) -> Reply:
        gator.task(add, 1, 2)
        return Reply(status)

    return view


async def no(*given: object) -> bool:
    return False


async def yes(*given: object) -> bool:
    return True


class AsyncCall:
    """A callable object whose call is a coroutine."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer

    async def __call__(self, *given: object) -> bool:
        return self.answer


def decorated(func: Call) -> Call:
    @functools.wraps(func)
    async def around(*given: object) -> Any:
        return await func(*given)

    return around


def thinly_decorated(func: Call) -> Call:
    """Decorate as those decorators do that know nothing of coroutines."""

    @functools.wraps(func)
    def around(*given: object) -> Any:
        return func(*given)

    return around


def generator(*given: object) -> Iterator[bool]:
    yield False


class Number(int):
    """Behaves like numpy.bool_, which is not a bool either."""


ANSWERS: dict[str, Call] = {
    "a redirect": lambda *given: RedirectResponse("/login"),
    "an object": lambda *given: object(),
    "a tuple": lambda *given: (False, "not you"),
    "a string": lambda *given: "False",
    "one": lambda *given: 1,
    "a number": lambda *given: Number(1),
    "a generator": generator,
    "a Mock": Mock(name="authorize"),
    "a MagicMock": MagicMock(name="authorize"),
    "nothing": lambda *given: None,
    "zero": lambda *given: 0,
}

COROUTINES: dict[str, tuple[Call, Call]] = {
    "function": (yes, no),
    "partial": (functools.partial(yes, "more"), functools.partial(no, "more")),
    "object": (AsyncCall(True), AsyncCall(False)),
    "partial of an object": (
        functools.partial(AsyncCall(True)),
        functools.partial(AsyncCall(False)),
    ),
    "decorated": (decorated(yes), decorated(no)),
    "method": (AsyncCall(True).__call__, AsyncCall(False).__call__),
    "AsyncMock": (AsyncMock(return_value=True), AsyncMock(return_value=False)),
}


@pytest.fixture(params=ANSWERS)
def answering(request: pytest.FixtureRequest) -> Call:
    return ANSWERS[request.param]


@pytest.fixture(params=COROUTINES)
def coroutines(request: pytest.FixtureRequest) -> tuple[Call, Call]:
    return COROUTINES[request.param]


# authorize.


def test_only_true_opens_the_endpoint(
    name: str, gator: Gator, answering: Call, caplog: pytest.LogCaptureFixture
) -> None:
    get = endpoint_at(name, "/alligator", gator, authorize=answering)

    for path in ("/alligator/stats", "/alligator/", "/alligator/metrics", "/alligator/stats"):
        assert get(path).status == 403
    assert get("/alligator/actions", method="POST").status == 403
    assert get("/alligator/health").body.count(b":") == 1  # nothing but the status

    lines = [each.getMessage() for each in caplog.records if "authorize" in each.getMessage()]
    assert len(lines) == 1
    assert "True or False" in lines[0]
    assert lines[0].isprintable()
    assert len(lines[0]) < 500


def test_returned_value_is_named_in_the_log(gator: Gator, caplog: pytest.LogCaptureFixture) -> None:
    def staff_only(request: Any) -> Any:
        return "yes\n\x1b[31m" + "!" * 10_000

    endpoint_at("wsgi", "/alligator", gator, authorize=staff_only)("/alligator/stats")

    assert "staff_only" in caplog.text
    assert "str" in caplog.text
    assert "yes" in caplog.text
    assert "\x1b" not in caplog.text


def test_value_that_cannot_be_shown_counts_as_no(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("do not look")

        def __bool__(self) -> bool:
            raise RuntimeError("do not ask")

    get = endpoint_at("wsgi", "/alligator", gator, authorize=lambda request: Shy())

    assert get("/alligator/stats").status == 403
    assert "Shy" in caplog.text


def test_coroutine_function_decides_where_there_is_a_loop(
    name: str, gator: Gator, coroutines: tuple[Call, Call]
) -> None:
    opens, closes = coroutines
    if name in PLAIN:
        for each in coroutines:
            with pytest.raises(ConfigurationError, match=r"authorize.*coroutine function"):
                endpoint_at(name, "/alligator", gator, authorize=each)
        return

    opened = endpoint_at(name, "/alligator", gator, authorize=opens)("/alligator/stats")
    closed = endpoint_at(name, "/alligator", gator, authorize=closes)("/alligator/stats")

    assert (opened.status, closed.status) == (200, 403)


def test_coroutine_of_a_plain_function_is_awaited_or_counts_as_no(
    name: str, gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    authorize = thinly_decorated(yes)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one that was never awaited warns
        answer = endpoint_at(name, "/alligator", gator, authorize=authorize)("/alligator/stats")

    assert answer.status == (403 if name in PLAIN else 200)
    assert ("coroutine" in caplog.text) is (name in PLAIN)


def test_value_that_is_not_callable_is_refused_at_set_up(name: str, gator: Gator) -> None:
    with pytest.raises(ConfigurationError, match=r"authorize.*function"):
        endpoint_at(name, "/alligator", gator, authorize=True)


# commit_veto.


@pytest.mark.parametrize(("status", "depth"), [(201, 1), (404, 0)])
def test_veto_without_an_answer_leaves_the_decision_to_the_status(
    site: Site,
    gator: Gator,
    status: int,
    depth: int,
    answering: Call,
    caplog: pytest.LogCaptureFixture,
) -> None:
    get = site(pushing(gator, status), {"gator": gator, "commit_veto": answering})

    assert [get().status, get().status] == [status, status]

    lines = [each.getMessage() for each in caplog.records if "commit_veto" in each.getMessage()]
    assert gator.len() == 2 * depth
    assert len(lines) == 1


@pytest.mark.parametrize("commit_at", ["start", "end"])
@pytest.mark.parametrize("more", [0, 1], ids=["one gator", "two gators"])
def test_coroutine_function_can_veto_where_there_is_a_loop(
    site: Site, gator: Gator, coroutines: tuple[Call, Call], commit_at: str, more: int
) -> None:
    vetoes, keeps = coroutines
    gators = [gator, *(Gator("locmem://") for _ in range(more))]
    settings: dict[str, Any] = {"gator": gators if more else gator, "commit_at": commit_at}
    if site in (SITES[each] for each in PLAIN_MIDDLEWARES):
        with pytest.raises(ConfigurationError, match=r"commit_veto.*coroutine function"):
            site(pushing(gator, 200), {**settings, "commit_veto": vetoes})
        return

    answers = [
        site(pushing(gator, status), {**settings, "commit_veto": veto})().status
        for status, veto in [(200, vetoes), (404, vetoes), (200, keeps), (404, keeps)]
    ]

    assert answers == [200, 404, 200, 404]
    assert gator.len() == 2


def test_coroutine_veto_that_fails_fails_the_request(gator: Gator) -> None:
    async def veto(status: int, headers: Sequence[tuple[str, str]]) -> bool:
        raise ValueError("the veto fails")

    answer = SITES["starlette"](pushing(gator, 200), {"gator": gator, "commit_veto": veto})()

    assert answer.status == 500
    assert gator.len() == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_veto_that_is_not_callable_is_refused_at_set_up(protocol: Any, gator: Gator) -> None:
    with pytest.raises(ConfigurationError, match=r"commit_veto.*function"):
        protocol.AlligatorMiddleware(None, gator, commit_veto=True)


# Options.


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_options_of_a_coroutine_function_are_refused_at_set_up(
    protocol: Any, gator: Gator, coroutines: tuple[Call, Call]
) -> None:
    with pytest.raises(ConfigurationError, match="options"):
        protocol.AlligatorMiddleware(None, gator, options=coroutines[0])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("options", ["retries=3", 3, ["retries"]])
def test_options_that_are_no_mapping_are_refused_at_set_up(
    protocol: Any, gator: Gator, options: Any
) -> None:
    with pytest.raises(ConfigurationError, match="options must be a mapping"):
        protocol.AlligatorMiddleware(None, gator, options=options)


# Checks of health.


def verdict_of(gator: Gator, check: Call) -> tuple[str, str]:
    health = Health(gator, timeout=5)
    health.check("db", check)
    [entry] = health.verdict().checks["db:responseTime"]
    return entry["status"], entry.get("output", "")


@pytest.mark.parametrize(
    ("answer", "status"),
    [(True, "pass"), (None, "pass"), (False, "fail"), (0, "fail"), ("", "fail"), (1, "fail")],
)
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_check_passes_with_true_or_none(
    gator: Gator, answer: Any, status: str, is_async: bool
) -> None:
    async def later() -> Any:
        return answer

    assert verdict_of(gator, later if is_async else lambda: answer)[0] == status


def test_check_that_returns_something_else_is_named(
    gator: Gator, caplog: pytest.LogCaptureFixture
) -> None:
    def ask_database() -> Any:
        return (False, "it is away")

    status, output = verdict_of(gator, ask_database)

    assert status == "fail"
    assert "True, False or None" in output
    [line] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "ask_database" in line.getMessage()
    assert "tuple" in line.getMessage()


def test_log_names_a_function_once(gator: Gator, caplog: pytest.LogCaptureFixture) -> None:
    get: Get = endpoint_at("asgi", "/alligator", gator, authorize=lambda scope: "yes")

    for _ in range(5):
        get("/alligator/stats")

    assert caplog.text.count("authorize") == 1
