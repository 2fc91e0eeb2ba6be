"""Who may see Flask's endpoint: log-in extensions, aborts, redirects, and views at its path."""

from typing import Any

import flask
import pytest
from flask_login import (  # type: ignore[import-untyped]
    LoginManager,
    UserMixin,
    current_user,
    login_required,
    login_user,
)

from alligator import Gator
from alligator.exceptions import ConfigurationError
from flask_alligator import Alligator
from tests.harness.web_sites import endpoint_at


class User(UserMixin):  # type: ignore[misc]  # it has no types
    def __init__(self, name: str) -> None:
        self.id = name
        self.is_admin = name == "ann"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALLIGATOR_TOKEN", raising=False)


def make_app(authorize: Any, **config: Any) -> flask.Flask:
    """Make an application with a log-in page, where anybody may log in under any name."""
    app = flask.Flask("shop")
    app.secret_key = "change me"
    manager = LoginManager(app)
    manager.login_view = config.pop("login_view", "login")
    manager.user_loader(User)

    @app.get("/login")
    def login() -> str:
        return "who are you?"

    @app.get("/login/<name>")
    def login_as(name: str) -> str:
        login_user(User(name))
        return "welcome"

    app.config.from_mapping(
        {
            "ALLIGATOR_CONN": "locmem://",
            "ALLIGATOR_AUTHORIZE": authorize,
            "ALLIGATOR_ACTIONS": True,
            "ALLIGATOR_DETAILS": True,
            **config,
        }
    )
    Alligator(app)
    return app


CLOSED = ["/alligator/", "/alligator/stats", "/alligator/metrics", "/alligator/openapi.json"]


@login_required  # type: ignore[untyped-decorator]
def operators(request: flask.Request) -> bool:
    return bool(current_user.is_admin)


@login_required  # type: ignore[untyped-decorator]
async def async_operators(request: flask.Request) -> bool:
    return bool(current_user.is_admin)


@pytest.mark.parametrize("authorize", [operators, async_operators])
def test_guard_of_the_site_refuses_unauthenticated_visitors(
    authorize: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(authorize)

    for path in CLOSED:
        assert app.test_client().get(path).status_code == 403
    assert app.test_client().post("/alligator/actions").status_code == 403
    assert app.test_client().get("/alligator/health").json == {"status": "warn"}

    assert caplog.text.count("counts as no") == 1
    assert "operators" in caplog.text


@pytest.mark.parametrize("authorize", [operators, async_operators])
@pytest.mark.parametrize(("name", "status"), [("ann", 200), ("bob", 403)])
def test_guard_of_the_site_admits_operators(authorize: Any, name: str, status: int) -> None:
    client = make_app(authorize).test_client()
    client.get(f"/login/{name}")

    assert client.get("/alligator/stats").status_code == status


def test_current_user_alone_opens_nothing(caplog: pytest.LogCaptureFixture) -> None:
    client = make_app(lambda request: current_user).test_client()

    assert client.get("/alligator/stats").status_code == 403
    client.get("/login/ann")
    assert client.get("/alligator/stats").status_code == 403
    assert "counts as no" in caplog.text


def redirecting(request: flask.Request) -> bool:
    if not current_user.is_authenticated:
        flask.flash("Log in first.")
        flask.session["next"] = request.path
        flask.abort(flask.redirect(flask.url_for("login", next=flask.request.path)))
    return bool(current_user.is_admin)


def test_authorize_may_send_a_visitor_to_the_log_in(caplog: pytest.LogCaptureFixture) -> None:
    client = make_app(redirecting).test_client()

    answer = client.get("/alligator/stats")

    assert answer.status_code == 302
    assert answer.location == "/login?next=/alligator/stats"
    assert client.get("/alligator/").location == "/login?next=/alligator/"
    assert client.get("/alligator/health").json == {"status": "warn"}  # a probe has no log-in
    assert client.get("/alligator/health/live").status_code == 200
    assert client.get("/alligator/nothing").status_code == 404
    with client.session_transaction() as session:
        assert session["next"] == "/alligator/"
        assert session["_flashes"]
    assert caplog.text == ""

    client.get("/login/ann")
    assert client.get("/alligator/stats").status_code == 200


def test_abort_of_authorize_reaches_the_error_handlers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app(lambda request: flask.abort(401))

    @app.errorhandler(401)
    def unauthorized(error: Exception) -> tuple[str, int]:
        return "our own page", 401

    answer = app.test_client().get("/alligator/stats")

    assert (answer.status_code, answer.text) == (401, "our own page")
    assert caplog.text == ""


def test_guard_without_a_login_page_answers_401() -> None:
    app = make_app(operators, login_view=None)

    assert app.test_client().get("/alligator/stats").status_code == 401


def test_abort_does_not_close_what_the_token_opens() -> None:
    app = make_app(redirecting, ALLIGATOR_TOKEN="t" * 32)
    headers = {"Authorization": f"Bearer {'t' * 32}"}

    assert app.test_client().get("/alligator/stats", headers=headers).status_code == 200


def test_exception_of_authorize_is_answered_by_the_starlette_application() -> None:
    from starlette.exceptions import HTTPException

    def authorize(request: Any) -> bool:
        raise HTTPException(303, headers={"Location": "/login"})

    for name in ("starlette", "fastapi"):
        get = endpoint_at(name, "/alligator", Gator("locmem://"), authorize=authorize)
        answer = get("/alligator/stats")
        assert (answer.status, answer.headers["location"]) == (303, "/login")
        assert get("/alligator/health").status == 200


# Tokens that are no text.


@pytest.mark.parametrize("token", [b"t" * 32, 3141592653589793, ["t" * 32], True], ids=ascii)
@pytest.mark.parametrize("name", ["wsgi", "asgi"])
def test_token_must_be_a_str(name: str, token: Any) -> None:
    with pytest.raises(ConfigurationError, match="The token must be a str, not a ") as raised:
        endpoint_at(name, "/alligator", Gator("locmem://"), token=token)

    assert "314159" not in str(raised.value)


# A view at the path of the endpoint.


def test_view_that_the_endpoint_hides_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(None)

    @app.get("/alligator/reports/<name>")
    def report(name: str) -> str:
        return name

    @app.get("/<path:path>")
    def everything(path: str) -> str:
        return path

    @app.get("/alligators")
    def alligators() -> str:
        return "they live in Florida"

    for _ in range(2):
        assert app.test_client().get("/alligator/reports/may").status_code == 404
    assert app.test_client().get("/alligators").status_code == 200

    [line] = [each.getMessage() for each in caplog.records]
    assert "'report'" in line
    assert "ALLIGATOR_URL_PREFIX" in line
