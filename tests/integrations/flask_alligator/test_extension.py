"""The extension for Flask: what is Flask's own; the rest is in `test_requests`."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from flask.views import MethodView

import flask_alligator
from alligator import Gator
from alligator.exceptions import ConfigurationError, InvalidOption, UnknownOption
from alligator.options import TaskOptions
from alligator.testing import drain
from flask_alligator import Alligator
from tests.harness.sample_tasks import add, record

calls: list[Any] = []


def note_app(value: str) -> None:
    """Note which application, and which context of it, this runs in."""
    flask.g.notes = [*flask.g.get("notes", []), value]
    calls.append((flask.current_app.name, flask.g.notes))


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    calls.clear()
    for name in list(os.environ):
        if name.startswith("ALLIGATOR_"):
            monkeypatch.delenv(name)


def make_app(name: str = "shop", alligator: Alligator | None = None, **config: Any) -> flask.Flask:
    """Make an application whose view at ``/<status>`` starts a task and answers that status."""
    app = flask.Flask(name)
    app.config.from_mapping({"ALLIGATOR_CONN": "locmem://", **config})
    extension = alligator or Alligator()
    extension.init_app(app)

    @app.route("/<int:status>", methods=["GET", "POST"])
    def view(status: int) -> tuple[str, int]:
        extension.task(note_app, "task")
        return "", status

    return app


def gator_of(app: flask.Flask) -> Gator:
    gator: Gator = app.extensions["alligator"]
    return gator


# Setting up.


def test_application_can_be_given_first_or_later() -> None:
    first = flask.Flask("first")
    first.config["ALLIGATOR_CONN"] = "locmem://"
    later = flask.Flask("later")
    later.config["ALLIGATOR_CONN"] = "locmem://"

    Alligator(first)
    Alligator().init_app(later)

    assert isinstance(first.extensions["alligator"], Gator)
    assert isinstance(later.extensions["alligator"], Gator)


def test_extension_does_not_keep_the_application_alive() -> None:
    alligator = Alligator()
    app = make_app(alligator=alligator)

    assert app not in vars(alligator).values()


def test_second_init_app_is_refused_with_the_way_out() -> None:
    alligator = Alligator()
    app = make_app(alligator=alligator)

    with pytest.raises(ConfigurationError, match="Call init_app once"):
        alligator.init_app(app)


def test_error_about_a_missing_dsn_names_both_ways_to_give_it() -> None:
    with pytest.raises(ConfigurationError, match=r"app\.config.*environment.*Alligator\(gator="):
        Alligator(flask.Flask("shop"))


def test_missing_setting_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALLIGATOR_CONN", "locmem://")
    monkeypatch.setenv("ALLIGATOR_PREFIX", "shop")
    monkeypatch.setenv("ALLIGATOR_ALLOW", "shop.*,mail.*")
    app = flask.Flask("shop")

    Alligator(app)

    assert gator_of(app).queue_name == "shop_all"


@pytest.mark.parametrize("name", ["ALLIGATOR_SECRET", "ALLIGATOR_ALLOW"])
def test_empty_variable_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLIGATOR_CONN", "locmem://")
    monkeypatch.setenv(name, "")

    with pytest.raises(ConfigurationError, match=f"{name} is empty"):
        Alligator(flask.Flask("shop"))


def test_configuration_overrides_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALLIGATOR_PREFIX", "env")

    app = make_app(ALLIGATOR_PREFIX="config", ALLIGATOR_SECRET=["a" * 40, "b" * 40])

    assert gator_of(app).queue_name == "config_all"


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"ALLIGATOR_URL_PREFIX": "alligator"}, ConfigurationError),
        ({"ALLIGATOR_URL_PREFIX": "/"}, ConfigurationError),
        ({"ALLIGATOR_COMMIT_AT": "later"}, ConfigurationError),
        ({"ALLIGATOR_OPTIONS": {"retires": 1}}, UnknownOption),
        *(
            ({name: value}, ConfigurationError)
            for name in ("ALLIGATOR_SECRET", "ALLIGATOR_ALLOW")
            for value in ("", " , ", [], ["new", ""], b"secret")
        ),
    ],
    ids=lambda value: str(value),
)
def test_invalid_configuration_is_refused_at_once(
    config: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        make_app(**config)


def test_two_applications_have_queues_of_their_own() -> None:
    alligator = Alligator()
    shop, blog = make_app("shop", alligator), make_app("blog", alligator)

    shop.test_client().get("/200")

    assert (gator_of(shop).len(), gator_of(blog).len()) == (1, 0)


def test_given_gator_is_used() -> None:
    gator = Gator("locmem://")

    app = make_app(alligator=Alligator(gator=gator), ALLIGATOR_CONN=None)

    assert gator_of(app) is gator


def test_outside_of_an_application_the_way_in_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"app_context\(\)"):
        Alligator().task(add, 1, 2)


def test_application_without_the_extension_gets_a_clear_error() -> None:
    with flask.Flask("bare").app_context(), pytest.raises(RuntimeError, match="init_app"):
        _ = Alligator().gator


def test_options_and_transactions_are_those_of_the_gator() -> None:
    alligator = Alligator()
    app = make_app(alligator=alligator)

    with app.app_context(), alligator.transaction(retries=2) as transaction:
        with alligator.options(timeout=3.0) as opts:
            task = opts.task(add, 1, 2)
        assert transaction.tasks == (task,)

    assert (task.retries, task.timeout) == (2, 3.0)
    assert gator_of(app).len() == 1


# The transaction of the request.


def test_current_transaction_can_be_doomed_and_updated() -> None:
    app = make_app()

    @app.before_request
    def prepare() -> None:
        flask_alligator.current.update(retries=4)
        flask_alligator.current.doom()

    app.test_client().get("/200")

    assert gator_of(app).len() == 0


def test_outside_of_a_request_there_is_no_current_transaction() -> None:
    app = make_app()

    with pytest.raises(RuntimeError, match="request context"):
        flask_alligator.current.doom()
    with app.test_request_context(), pytest.raises(RuntimeError, match="test_client"):
        flask_alligator.current.doom()


@pytest.mark.parametrize(("status", "depth"), [(200, 1), (302, 1), (404, 0), (500, 0)])
def test_abort_and_redirect_are_answers_like_any_other(status: int, depth: int) -> None:
    app = make_app()

    @app.get("/leave/<int:status>")
    def leave(status: int) -> Any:
        gator_of(app).task(add, 1, 2)
        if status == 302:
            flask.abort(flask.redirect("/200"))
        if status == 200:
            return "fine"
        return flask.abort(status)

    response = app.test_client().get(f"/leave/{status}")

    assert response.status_code == status
    assert gator_of(app).len() == depth


def test_tasks_of_hooks_belong_to_the_request() -> None:
    app = make_app()
    gator = gator_of(app)

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        gator.task(add, 1, 2)
        return response

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        gator.task(add, 1, 2)
        assert gator.len() == 0

    app.test_client().get("/404")
    assert gator.len() == 0
    app.test_client().get("/200")
    assert gator.len() == 3


def test_async_views_take_part() -> None:
    app = make_app()

    @app.get("/async/<int:status>")
    async def later(status: int) -> tuple[str, int]:
        gator_of(app).task(add, 1, 2)
        assert gator_of(app).len() == 0
        return "", status

    app.test_client().get("/async/404")
    app.test_client().get("/async/200")

    assert gator_of(app).len() == 1


def test_class_based_views_take_part() -> None:
    app = make_app()

    class Orders(MethodView):
        def post(self) -> tuple[str, int]:
            gator_of(app).task(add, 1, 2)
            return "", 201

    app.add_url_rule("/orders", view_func=Orders.as_view("orders"))

    assert app.test_client().post("/orders").status_code == 201
    assert gator_of(app).len() == 1


def test_files_are_sent_as_files(tmp_path: Path) -> None:
    app = make_app()
    (tmp_path / "a.txt").write_text("a file")

    @app.get("/file")
    def file() -> flask.Response:
        gator_of(app).task(add, 1, 2)
        return flask.send_file(tmp_path / "a.txt")

    with app.test_client().get("/file") as response:
        assert response.data == b"a file"
    assert gator_of(app).len() == 1


def test_stream_with_the_context_is_delivered() -> None:
    app = make_app()

    @app.get("/stream")
    def stream() -> Any:
        gator_of(app).task(add, 1, 2)

        def chunks() -> Iterator[str]:
            yield flask.request.path
            yield " end"

        return flask.Response(flask.stream_with_context(chunks()))

    with app.test_client().get("/stream") as response:
        assert response.data == b"/stream end"
    assert gator_of(app).len() == 1


# Switched off for tests.


@pytest.mark.parametrize("late", [False, True], ids=["before", "after init_app"])
def test_testing_mode_runs_tasks_before_the_client_has_its_response(late: bool) -> None:
    app = make_app(TESTING=not late)
    app.testing = True

    app.test_client().get("/404")
    assert calls == []
    app.test_client().get("/200")

    assert calls == [("shop", ["task"])]
    assert gator_of(app).len() == 0


@pytest.mark.parametrize(
    ("config", "environ", "testing", "is_async"),
    [
        (None, None, False, True),
        (None, None, True, False),
        (True, None, True, True),
        ("no", None, False, False),
        (None, "off", False, False),
        (None, "on", True, True),
        (True, "off", False, True),
        (None, "", True, False),
    ],
)
def test_setting_decides_whether_tasks_are_queued(
    monkeypatch: pytest.MonkeyPatch,
    config: Any,
    environ: str | None,
    testing: bool,
    is_async: bool,
) -> None:
    app = make_app(ALLIGATOR_ASYNC=config, TESTING=testing)
    if environ is not None:
        monkeypatch.setenv("ALLIGATOR_ASYNC", environ)

    assert gator_of(app).is_async is is_async


def test_invalid_switch_is_refused() -> None:
    app = make_app(ALLIGATOR_ASYNC="perhaps")

    with app.app_context(), pytest.raises(InvalidOption, match="perhaps"):
        gator_of(app).task(add, 1, 2)


def test_exception_of_a_task_is_raised_in_the_test() -> None:
    app = make_app(TESTING=True)

    @app.get("/divide")
    def divide() -> str:
        gator_of(app).task(divmod, 1, 0)
        return ""

    with pytest.raises(ZeroDivisionError):
        app.test_client().get("/divide")


def test_client_that_keeps_the_context_changes_nothing() -> None:
    app = make_app(TESTING=True)

    with app.test_client() as client:
        client.get("/200")
        assert flask.request.path == "/200"
        client.get("/200")

    assert calls == [("shop", ["task"])] * 2


def test_given_gator_keeps_its_own_switch_and_context() -> None:
    gator = Gator("locmem://", is_async=False)
    asked = Gator("locmem://", is_async=lambda: False)

    for given in (gator, asked):
        make_app(alligator=Alligator(gator=given), ALLIGATOR_ASYNC=True)

    assert (gator.is_async, asked.is_async) == (False, False)


def test_given_gator_of_several_applications_serves_the_current_one() -> None:
    gator = Gator("locmem://")
    alligator = Alligator(gator=gator)
    shop, blog = make_app("shop", alligator, TESTING=True), make_app("blog", alligator)

    with shop.app_context():
        assert not gator.is_async
        gator.task(note_app, "of the shop")
    with blog.app_context():
        assert gator.is_async

    assert calls == [("shop", ["of the shop"])]


# The context of a task.


def test_each_task_has_an_application_context_of_its_own() -> None:
    app = make_app()
    for _ in range(2):
        app.test_client().get("/200")

    drain(gator_of(app))

    assert calls == [("shop", ["task"]), ("shop", ["task"])]


def test_outer_context_is_restored_after_a_task_in_sync_mode() -> None:
    app = make_app(TESTING=True)

    with app.app_context():
        flask.g.notes = ["outer"]
        gator_of(app).task(note_app, "task")
        assert flask.g.notes == ["outer"]

    assert calls == [("shop", ["task"])]


def test_teardown_functions_run_after_each_task() -> None:
    app = make_app(TESTING=True)
    torn: list[int] = []
    app.teardown_appcontext(lambda error: torn.append(len(calls)))

    with gator_of(app).transaction():
        gator_of(app).task(note_app, "one")
        gator_of(app).task(note_app, "two")

    assert torn == [1, 2]


# The endpoint.


def test_endpoint_is_at_its_prefix() -> None:
    client = make_app().test_client()

    health = client.get("/alligator/health")

    assert health.mimetype == "application/health+json"
    assert health.json == {"status": health.json and health.json["status"]}
    assert client.get("/alligator/stats").status_code == 403
    assert client.get("/alligator/else").status_code == 404
    assert client.get("/alligators").status_code == 404


def test_endpoint_opens_with_the_token_of_the_configuration() -> None:
    client = make_app(ALLIGATOR_TOKEN="t" * 32).test_client()

    response = client.get("/alligator/stats", headers={"Authorization": f"Bearer {'t' * 32}"})

    assert response.status_code == 200


@pytest.mark.parametrize("prefix", ["/ops/queue", "/ops/queue/"])
def test_endpoint_can_be_moved(prefix: str) -> None:
    client = make_app(ALLIGATOR_URL_PREFIX=prefix).test_client()

    assert client.get("/ops/queue/health/live").status_code == 200
    assert client.get("/alligator/health/live").status_code == 404


def test_endpoint_can_be_switched_off() -> None:
    client = make_app(ALLIGATOR_URL_PREFIX=None).test_client()

    assert client.get("/alligator/health/live").status_code == 404


def test_requests_to_the_endpoint_bypass_flask() -> None:
    app = make_app()

    @app.before_request
    def login() -> Any:
        return flask.redirect("/login")

    assert app.test_client().get("/alligator/health/live").status_code == 200


# The commands.


def test_commands_of_the_application_use_its_gator(tmp_path: Path) -> None:
    app = make_app()
    runner = app.test_cli_runner()
    app.test_client().get("/200")

    assert json.loads(runner.invoke(args=["alligator", "stats", "--json"]).stdout)
    worker = runner.invoke(args=["alligator", "worker", "--burst", "--log-level", "error"])
    health = runner.invoke(args=["alligator", "health"])
    dead = runner.invoke(args=["alligator", "dead", "list"])
    for command in ("pause", "resume", "drain"):
        assert runner.invoke(args=["alligator", command, "all"]).exit_code == 0
    assert runner.invoke(args=["alligator", "limit", "all", "--at-once", "3"]).exit_code == 0

    assert (worker.exit_code, health.exit_code, dead.exit_code) == (0, 0, 0), worker.output
    assert calls == [("shop", ["task"])]
    assert gator_of(app).len() == 0


def test_worker_with_several_threads_has_the_context() -> None:
    app = make_app()
    for _ in range(5):
        app.test_client().get("/200")

    args = ["alligator", "worker", "--burst", "-c", "3", "--log-level", "error"]
    result = app.test_cli_runner().invoke(args=args)

    assert result.exit_code == 0, result.output
    assert calls == [("shop", ["task"])] * 5


def record_app(path: str) -> None:
    """Append the name of the application to a file."""
    record(path, f"{flask.current_app.name} {os.getpid()}")


def test_isolated_tasks_have_the_context_too(tmp_path: Path) -> None:
    app = make_app(ALLIGATOR_CONN=f"sqlite://{tmp_path}/queue.db")
    gator_of(app).task(record_app, str(tmp_path / "out"))

    args = ["alligator", "worker", "--burst", "--isolate", "--log-level", "error"]
    result = app.test_cli_runner().invoke(args=args)

    [line] = (tmp_path / "out").read_text().splitlines()
    assert result.exit_code == 0, result.output
    assert line.startswith("shop ")
    assert line != f"shop {os.getpid()}"


def test_commands_have_help() -> None:
    result = make_app().test_cli_runner().invoke(args=["alligator", "--help"])

    for name in ("worker", "stats", "health", "dead"):
        assert name in result.output


# What the configuration may say in functions.


def test_function_of_options_receives_a_flask_request() -> None:
    app = flask.Flask("app")
    seen: list[flask.Request] = []

    def options(request: flask.Request) -> TaskOptions:
        seen.append(request)
        return {"headers": {"request_id": request.headers["X-Request-Id"]}}

    app.config.update(ALLIGATOR_CONN="locmem://", ALLIGATOR_OPTIONS=options)
    alligator = Alligator(app)

    @app.post("/")
    def post() -> dict[str, str]:
        return {"body": flask.request.get_data(as_text=True), **alligator.task(add, 1, 2).headers}

    answer = app.test_client().post("/", data="mine", headers={"X-Request-Id": "a1"})

    assert answer.json == {"body": "mine", "request_id": "a1"}
    with pytest.raises(RuntimeError):
        seen[0].get_data()  # it is the view's


def test_configuration_can_set_a_veto() -> None:
    app = flask.Flask("app")
    app.config.update(ALLIGATOR_CONN="locmem://", ALLIGATOR_COMMIT_VETO=lambda s, h: s == 202)
    alligator = Alligator(app)

    @app.get("/<int:status>")
    def get(status: int) -> tuple[str, int]:
        alligator.task(add, 1, 2)
        return "", status

    app.test_client().get("/404")
    app.test_client().get("/202")

    with app.app_context():
        assert alligator.gator.len() == 1


def test_configuration_can_open_the_endpoint() -> None:
    app = flask.Flask("app")
    app.config.update(
        ALLIGATOR_CONN="locmem://",
        ALLIGATOR_AUTHORIZE=lambda request: request.headers.get("X-Role") == "ops",
    )
    Alligator(app)

    opened = app.test_client().get("/alligator/stats", headers={"X-Role": "ops"})
    closed = app.test_client().get("/alligator/stats")

    assert (opened.status_code, closed.status_code) == (200, 403)


def test_application_adds_checks_and_limits_to_its_health() -> None:
    app = flask.Flask("shop")
    app.config.update(
        ALLIGATOR_CONN="locmem://", ALLIGATOR_ASYNC=True, ALLIGATOR_BACKLOG_DEPTH={"all": 0}
    )
    alligator = Alligator(app)
    with app.app_context():
        alligator.task(add, 1, 2)
        alligator.health.check("db", lambda: False)

        verdict = alligator.health.verdict()

    assert verdict.checks["db:responseTime"][0]["status"] == "fail"
    assert verdict.checks["queue/all:depth"][0]["status"] == "warn"
    assert app.test_client().get("/alligator/health").status_code == 503
    shown = app.test_cli_runner().invoke(args=["alligator", "health"])
    assert shown.exit_code == 1
    assert "fail  db:responseTime" in shown.output
