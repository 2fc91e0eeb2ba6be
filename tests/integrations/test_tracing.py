"""A request's trace and id reach its tasks: under every adapter, through real servers and workers."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from alligator import Gator, Task, Transaction
from tests.harness.programs import ROOT, Program, eventually, lines, running
from tests.harness.sample_tasks import add
from tests.harness.store_servers import Missing, valkey_server
from tests.harness.web_servers import serving
from tests.harness.web_sites import Reply, Site, View

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
STATE = "congo=t61rcWkgMzE"
SENT = {"X-Request-ID": "r-1", "traceparent": PARENT, "tracestate": STATE}
CARRIED = {"request_id": "r-1", "traceparent": PARENT, "tracestate": STATE}
FORGED = {
    "X-Request-ID": "forgery task_id=1",
    "X-Correlation-ID": "forgery" * 100,
    "traceparent": f"00-{TRACE}-b7ad6b7169203331-01,forgery",
    "tracestate": STATE,
}
"""Its word is not in the name of a test: that is in the path of a store, which a worker logs."""


# Under every adapter.


def keep_lease(gator: Gator, kept: list[Task]) -> View:
    """Make a view that starts one task and keeps it."""

    def view(transaction: Transaction) -> Reply:
        kept.append(gator.task(add, 1, 2))
        return Reply()

    return view


@pytest.mark.parametrize(
    ("sent", "carried"),
    [
        (SENT, CARRIED),
        ({"X-Correlation-ID": "c-1"}, {"request_id": "c-1"}),
        (FORGED, {}),
        ({}, {}),
    ],
    ids=["all", "correlation", "forged", "none"],
)
def test_task_has_the_trace_and_id_of_its_request(
    site: Site, gator: Gator, sent: Mapping[str, str], carried: Mapping[str, str]
) -> None:
    kept: list[Task] = []
    get = site(keep_lease(gator, kept), {"gator": gator})

    get(headers=sent)
    get()

    assert [task.headers for task in kept] == [carried, {}]
    queued = [gator.read(lease) for lease in gator.client.step(["all"], 2).leases]
    assert [task.headers for task in queued] == [carried, {}]


def test_options_of_the_request_win(site: Site, gator: Gator) -> None:
    kept: list[Task] = []
    options = {"headers": {"request_id": "mine", "tenant": "blue"}}

    site(keep_lease(gator, kept), {"gator": gator, "options": options})(headers=SENT)

    assert kept[0].headers == {**CARRIED, "request_id": "mine", "tenant": "blue"}


def test_inline_task_has_the_trace_and_id_of_its_request(site: Site, gator: Gator) -> None:
    kept: list[Task] = []

    site(keep_lease(gator, kept), {"gator": gator, "is_async": False})(headers=SENT)

    assert kept[0].headers == CARRIED


def test_trace_and_id_are_left_out_when_switched_off(site: Site) -> None:
    gator = Gator("locmem://", tracing=False)
    kept: list[Task] = []

    site(keep_lease(gator, kept), {"gator": gator})(headers=SENT)

    assert kept[0].headers == {}


# Through real servers and workers.

PROGRAM = """
import json
import logging.config
import os

from alligator import Gator, current_task
from tests.harness.sample_tasks import record

logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"task": {"()": "alligator.telemetry.logs.TaskFilter"}},
    "formatters": {"line": {"()": "alligator.telemetry.logs.LineFormatter"}},
    "handlers": {
        "err": {"class": "logging.StreamHandler", "filters": ["task"], "formatter": "line"}
    },
    "root": {"level": "INFO", "handlers": ["err"]},
})
if "SPANS" in os.environ:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    out = open(os.environ["SPANS"], "a", buffering=1)
    exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(None) + "\\n")
    trace.set_tracer_provider(TracerProvider())
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))

gator = Gator(os.environ["ALLIGATOR_CONN"])


def look(path):
    task = current_task()
    logging.getLogger("shop").info("at work")
    record(path, json.dumps([task.attempt, task.headers]))
    if task.attempt == 1:
        raise RuntimeError("once more")


def start():
    with gator.options(retries=1, backoff=0) as opts:
        opts.task(look, os.environ["OUT"])
"""

PROGRAMS = {
    "gunicorn": """
from wsgi_alligator import AlligatorMiddleware


def page(environ, start_response):
    start()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


app = AlligatorMiddleware(page, gator)
""",
    "uvicorn": """
from asgi_alligator import AlligatorMiddleware


async def page(scope, receive, send):
    if scope["type"] == "http":
        start()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


app = AlligatorMiddleware(page, gator)
""",
}


class Deployment:
    """A web server and a worker, both of the same program."""

    def __init__(self, url: str, out: Path, worker: Program) -> None:
        self.url = url
        self.out = out
        self.worker = worker

    def ask(self, headers: Mapping[str, str]) -> list[Any]:
        """Send a request, and return what the two attempts at its task have seen."""
        before = len(lines(self.out))
        assert httpx.get(self.url, headers=headers, timeout=20).status_code == 200
        eventually(lambda: len(lines(self.out)) == before + 2)
        return [json.loads(line) for line in lines(self.out)[before:]]

    def said(self, *texts: str) -> bool:
        """Whether one line of the worker's log has all of that."""
        return any(all(text in line for text in texts) for line in lines(self.worker.log))


@pytest.fixture(params=["gunicorn-redis", "uvicorn-sqlite", "uvicorn-sqlite-spans"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    name, store, *more = request.param.split("-")
    env = {"SPANS": str(tmp_path / "spans")} if more else {}
    with ExitStack() as stack:
        env["ALLIGATOR_CONN"] = f"sqlite://{tmp_path / 'queue.db'}"
        if store == "redis":
            try:
                env["ALLIGATOR_CONN"] = stack.enter_context(valkey_server())
            except Missing as missing:
                pytest.skip(str(missing))
        env["OUT"] = str(tmp_path / "out")
        site = stack.enter_context(serving(name, tmp_path, PROGRAM + PROGRAMS[name], **env))
        path = os.pathsep.join([str(ROOT), str(ROOT / "integrations")])
        worker = stack.enter_context(
            running(
                "--app",
                "site_under_test:gator",
                log=tmp_path / "worker.log",
                env={**env, "PYTHONPATH": path},
                cwd=tmp_path,
            )
        )
        yield Deployment(site.url, site.out, worker)


@pytest.mark.parametrize("deployment", ["gunicorn-redis", "uvicorn-sqlite"], indirect=True)
def test_worker_has_the_trace_and_the_id_also_after_a_retry(deployment: Deployment) -> None:
    seen = deployment.ask(SENT)

    assert seen == [[1, CARRIED], [2, CARRIED]]
    about = ("request_id=r-1", f"trace_id={TRACE}", "task=site_under_test.look", "queue=all")
    eventually(lambda: deployment.said("INFO at work", "attempt=1", *about))
    eventually(lambda: deployment.said("INFO at work", "attempt=2", *about))
    eventually(lambda: deployment.said("WARNING failed; will be retried", *about))
    eventually(lambda: deployment.said("INFO done", "attempt=2", *about))


@pytest.mark.parametrize("deployment", ["gunicorn-redis", "uvicorn-sqlite"], indirect=True)
def test_forged_headers_reach_neither_the_task_nor_a_log(deployment: Deployment) -> None:
    seen = deployment.ask(FORGED)

    assert seen == [[1, {}], [2, {}]]
    eventually(lambda: deployment.said("INFO done", "attempt=2"))
    assert not deployment.said("forgery")


@pytest.mark.parametrize("deployment", ["uvicorn-sqlite-spans"], indirect=True)
def test_spans_of_the_server_and_the_worker_are_one_trace(
    deployment: Deployment, tmp_path: Path
) -> None:
    seen = deployment.ask(SENT)
    eventually(lambda: len(lines(tmp_path / "spans")) == 4)

    spans = [json.loads(line) for line in lines(tmp_path / "spans")]
    spans.sort(key=lambda span: span["start_time"])
    create, send, first, second = spans
    assert [span["name"] for span in spans] == [
        "create all",
        "send all",
        "process all",
        "process all",
    ]
    assert create["parent_id"] == "0xb7ad6b7169203331"
    assert create["context"]["trace_id"] == f"0x{TRACE}"
    assert first["parent_id"] == second["parent_id"] == create["context"]["span_id"]
    assert send["links"][0]["context"]["span_id"] == create["context"]["span_id"]
    assert [first["status"]["status_code"], second["status"]["status_code"]] == ["ERROR", "UNSET"]
    assert seen[0][1] == seen[1][1]
    assert seen[0][1]["request_id"] == "r-1"
    assert seen[0][1]["tracestate"] == STATE
    eventually(lambda: deployment.said("INFO at work", f"trace_id={TRACE}"))
