"""Requests to Flask: the application of a task, and errors of the functions of a project."""

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import flask
import pytest

from alligator import Gator
from alligator.exceptions import ConfigurationError
from flask_alligator import Alligator, current
from tests.harness.sample_tasks import add

calls: list[tuple[str, object]] = []


def note_app(what: object) -> None:
    calls.append((flask.current_app.name, what))


def start_another(what: object) -> None:
    note_app(what)
    gator: Gator = flask.current_app.extensions["alligator"]
    gator.task(note_app, f"{what}, again")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    calls.clear()
    for name in list(os.environ):
        if name.startswith(("ALLIGATOR_", "FLASK_")):
            monkeypatch.delenv(name)


def make_app(name: str, alligator: Alligator | None = None, **config: Any) -> flask.Flask:
    app = flask.Flask(name)
    app.config.from_mapping({"ALLIGATOR_CONN": "locmem://", **config})
    (alligator or Alligator()).init_app(app)
    return app


def gator_of(app: flask.Flask) -> Gator:
    gator: Gator = app.extensions["alligator"]
    return gator


# Several applications with one gator.


@pytest.fixture(params=["start", "end"])
def apps(request: pytest.FixtureRequest) -> dict[str, flask.Flask]:
    alligator = Alligator(gator=Gator("locmem://"))
    made = {}
    for name in ("one", "two"):
        app = make_app(name, alligator, TESTING=True, ALLIGATOR_COMMIT_AT=request.param)

        @app.post("/<int:status>")
        def post(status: int) -> tuple[str, int]:
            alligator.task(start_another, "task")
            with alligator.options(always=True) as options:
                options.task(note_app, "always")
            return "", status

        made[name] = app
    return made


@pytest.mark.parametrize("name", ["one", "two"])
def test_tasks_run_in_the_application_of_their_request(
    apps: dict[str, flask.Flask], name: str
) -> None:
    apps[name].test_client().post("/201")
    assert calls == [(name, "task"), (name, "always"), (name, "task, again")]
    calls.clear()

    apps[name].test_client().post("/404")
    assert calls == [(name, "always")]


@pytest.mark.parametrize(("name", "other"), [("one", "two"), ("two", "one")])
def test_tasks_run_in_their_own_application_while_another_is_current(
    apps: dict[str, flask.Flask], name: str, other: str
) -> None:
    with apps[other].app_context():
        apps[name].test_client().post("/201")

    assert {called for called, _ in calls} == {name}


def test_requests_one_after_the_other_do_not_mix(apps: dict[str, flask.Flask]) -> None:
    for name in ("one", "two", "one"):
        apps[name].test_client().post("/404")

    assert [called for called, _ in calls] == ["one", "two", "one"]


# commit_at="end", and a client that does not read the body.


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_client_need_not_read_the_body_for_a_commit_at_the_end(method: str) -> None:
    app = make_app("shop", TESTING=True, ALLIGATOR_COMMIT_AT="end")

    @app.route("/", methods=["GET", "POST"])
    def page() -> tuple[str, int]:
        gator_of(app).task(note_app, "task")
        return "a body", 200

    response = app.test_client().open("/", method=method)

    assert calls == [("shop", "task")]
    assert response.status_code == 200
    assert response.data == (b"" if method == "HEAD" else b"a body")
    assert calls == [("shop", "task")]


def test_last_chunk_leaves_after_the_generator_for_a_commit_at_the_end() -> None:
    app = make_app("shop", ALLIGATOR_COMMIT_AT="end")

    def chunks() -> Iterator[bytes]:
        yield b"one "
        yield b"two"
        gator_of(app).task(add, 1, 2)

    @app.get("/")
    def page() -> flask.Response:
        return flask.Response(chunks(), headers={"Content-Length": "7"})

    with app.test_client().get("/", buffered=False) as response:
        body = iter(response.response)
        assert next(body) == b"one "
        assert gator_of(app).len() == 0
        assert next(body) == b"two"
        assert gator_of(app).len() == 1
        assert list(body) == []


def test_body_longer_than_announced_is_delivered_with_a_commit_at_the_end() -> None:
    app = make_app("shop", ALLIGATOR_COMMIT_AT="end")

    @app.get("/")
    def page() -> flask.Response:
        gator_of(app).task(add, 1, 2)
        return flask.Response(iter([b"one ", b"two ", b"three"]), headers={"Content-Length": "4"})

    with app.test_client().get("/") as response:
        assert response.data == b"one two three"
    assert gator_of(app).len() == 1


# A function of options that fails.


class Tenants(dict[str, str]):
    """Tenants by their hosts."""

    def __missing__(self, host: str) -> str:
        raise LookupError(f"no tenant has the host {host}")


def by_tenant(request: flask.Request) -> Mapping[str, Any]:
    return {"headers": {"tenant": Tenants()[request.host]}}


def unknown_option(request: flask.Request) -> Mapping[str, Any]:
    return {"retires": 3}


@pytest.mark.parametrize("options", [by_tenant, unknown_option])
@pytest.mark.parametrize("commit_at", ["start", "end"])
def test_options_that_fail_come_to_the_error_handlers_and_the_log(
    options: Any, commit_at: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app("shop", ALLIGATOR_OPTIONS=options, ALLIGATOR_COMMIT_AT=commit_at)
    order: list[str] = []

    @app.before_request
    def before() -> None:
        order.append("before")

    @app.get("/")
    def page() -> str:
        order.append("view")
        return ""

    @app.errorhandler(500)
    def failed(error: Exception) -> tuple[str, int]:
        gator_of(app).task(add, 1, 2)
        return "our own page", 500

    answer = app.test_client().get("/")

    assert (answer.status_code, answer.text) == (500, "our own page")
    assert order == []
    assert gator_of(app).len() == 0
    [line] = [each for each in caplog.records if each.name == "shop"]
    assert line.levelno == logging.ERROR
    assert line.exc_info is not None


def test_error_handler_can_answer_for_options_that_fail() -> None:
    app = make_app("shop", ALLIGATOR_OPTIONS=by_tenant)

    @app.errorhandler(LookupError)
    def unknown(error: Exception) -> tuple[str, int]:
        return "no such tenant", 404

    answer = app.test_client().get("/")

    assert (answer.status_code, answer.text) == (404, "no such tenant")


def test_error_handler_can_answer_for_an_unknown_client() -> None:
    app = make_app(
        "shop",
        ALLIGATOR_IDEMPOTENCY_KEY=True,
        ALLIGATOR_IDEMPOTENCY_CLIENT=lambda request: flask.abort(401),
    )
    keyed = {"Idempotency-Key": "1"}

    assert app.test_client().get("/").status_code == 404  # no view: the function is not called
    assert app.test_client().get("/", headers=keyed).status_code == 401


def test_options_may_abort() -> None:
    app = make_app("shop", ALLIGATOR_OPTIONS=lambda request: flask.abort(421))

    assert app.test_client().get("/").status_code == 421


def test_options_that_fail_are_raised_in_a_test() -> None:
    app = make_app("shop", ALLIGATOR_OPTIONS=by_tenant, TESTING=True)

    with pytest.raises(LookupError, match="no tenant"):
        app.test_client().get("/")


# What from_prefixed_env makes of the environment.


def from_environment(monkeypatch: pytest.MonkeyPatch, **environ: str) -> flask.Flask:
    for name, value in environ.items():
        monkeypatch.setenv(f"FLASK_ALLIGATOR_{name}", value)
    app = flask.Flask("shop")
    app.config.from_prefixed_env()
    app.config.setdefault("ALLIGATOR_CONN", "locmem://")
    Alligator(app)
    return app


def test_token_of_digits_opens_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "3141592653589793238462643383279502884197"
    client = from_environment(monkeypatch, TOKEN=token).test_client()

    opened = client.get("/alligator/stats", headers={"Authorization": f"Bearer {token}"})
    closed = client.get("/alligator/stats", headers={"Authorization": "Bearer 31415926"})

    assert (opened.status_code, closed.status_code) == (200, 403)


@pytest.mark.parametrize(
    "secret",
    ["31415926535897932384626433832795", "[31415926535897932384626433832795]"],
    ids=["one", "list"],
)
def test_secret_of_digits_is_the_same_for_a_worker(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    app = from_environment(monkeypatch, SECRET=secret)
    worker = Gator("locmem://", secret=secret.strip("[]"))

    task = gator_of(app).task(add, 1, 2)
    [lease] = gator_of(app).client.reserve("all")

    assert worker.read(lease).task_id == task.task_id


@pytest.mark.parametrize("name", ["TOKEN", "SECRET", "ALLOW"])
@pytest.mark.parametrize("value", ["1e42", "true", '{"a": 1}'])
def test_value_that_json_has_changed_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"ALLIGATOR_{name}.*in double quotes") as raised:
        from_environment(monkeypatch, **{name: value})

    assert value not in str(raised.value)


@pytest.mark.parametrize("name", ["ALLIGATOR_SECRET", "ALLIGATOR_ALLOW"])
def test_empty_list_does_not_switch_the_guard_off(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}.*is empty"):
        make_app("shop", None, **{name: []})


def test_secret_in_double_quotes_is_that_text(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "1e42" * 8
    client = from_environment(monkeypatch, TOKEN=f'"{token}"').test_client()

    answer = client.get("/alligator/stats", headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == 200


@pytest.mark.parametrize("options", ["retries=3", "7"])
def test_options_that_are_no_mapping_are_refused(
    monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    with pytest.raises(ConfigurationError, match="options must be a mapping"):
        from_environment(monkeypatch, OPTIONS=options)


# What is too late, or in another thread.


def test_stream_without_the_context_gets_an_error_that_says_what_it_needs() -> None:
    alligator = Alligator()
    app = make_app("shop", alligator)

    @app.get("/")
    def page() -> flask.Response:
        def chunks() -> Iterator[bytes]:
            yield b"one"
            alligator.task(add, 1, 2)

        return flask.Response(chunks())

    with pytest.raises(RuntimeError, match="stream_with_context"):
        _ = app.test_client().get("/").data


def test_websocket_gets_an_error_that_it_has_no_transaction() -> None:
    app = make_app("shop")

    @app.route("/", websocket=True)
    def page() -> str:
        with pytest.raises(RuntimeError, match="WebSocket"):
            current.doom()
        gator_of(app).task(add, 1, 2)
        return str(gator_of(app).len())

    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}

    assert app.test_client().get("/", headers=upgrade).text == "1"


def test_handler_for_all_exceptions_decides_with_its_status() -> None:
    app = make_app("shop")

    @app.errorhandler(Exception)
    def handle(error: Exception) -> tuple[str, int]:
        return "{}", int(str(error))

    @app.get("/<int:status>")
    def page(status: int) -> str:
        gator_of(app).task(add, 1, 2)
        raise LookupError(status)

    depths = [
        (app.test_client().get(f"/{status}").status_code, gator_of(app).len())
        for status in (500, 200)
    ]

    assert depths == [(500, 0), (200, 1)]
