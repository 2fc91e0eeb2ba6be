"""Spans of OpenTelemetry, made by its SDK and kept in memory."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from alligator import Gator, Transaction, Worker, current_task
from alligator.backends import locmem_backend
from alligator.backends.base import Message
from alligator.exceptions import BackendUnavailable
from alligator.telemetry.propagation import has_spans
from alligator.testing import sync
from tests.harness.programs import environment, eventually, lines
from tests.harness.sample_tasks import add, fail
from tests.harness.workers import workers_running

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Spans:
    """The tracing of an application, and the spans it recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("app")

    def all(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    spans = Spans()
    # A process has one provider and keeps it; other tests are to have none.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", spans.provider)
    monkeypatch.setattr(
        "alligator.telemetry.opentelemetry.tracer", spans.provider.get_tracer("alligator")
    )
    yield spans
    spans.provider.shutdown()


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def test_program_that_only_imports_the_api_makes_no_spans(gator: Gator) -> None:
    assert "opentelemetry.trace" in sys.modules

    assert not has_spans()
    assert gator.task(add, 1, 2).headers == {}


def work(gator: Gator) -> None:
    Worker(gator, burst=True).run_forever()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def context(span: ReadableSpan) -> trace.SpanContext:
    found: trace.SpanContext | None = span.context
    assert found is not None
    return found


def parent(span: ReadableSpan) -> int:
    return span.parent.span_id if span.parent else 0


def links(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


traces: list[int] = []


def note_the_trace() -> None:
    traces.append(trace.get_current_span().get_span_context().trace_id)


async def note_the_trace_later() -> None:
    note_the_trace()


def leave() -> None:
    raise SystemExit(3)


def test_task_is_created_sent_and_processed_in_one_trace(spans: Spans, gator: Gator) -> None:
    with spans.tracer.start_as_current_span("GET /") as request:
        gator.task(add, 1, 2)
    work(gator)

    create, send, process = spans.one("create all"), spans.one("send all"), spans.one("process all")
    assert parent(create) == parent(send) == request.get_span_context().span_id
    assert parent(process) == context(create).span_id
    assert links(send) == links(process) == [context(create).span_id]
    assert len({context(span).trace_id for span in (create, send, process)}) == 1


def test_spans_are_described_as_the_conventions_say(spans: Spans, gator: Gator) -> None:
    task = gator.task(add, 1, 2)
    work(gator)

    create, send, process = spans.one("create all"), spans.one("send all"), spans.one("process all")
    common = {
        "messaging.system": "alligator",
        "messaging.destination.name": "all",
        "messaging.message.id": task.task_id,
    }
    about = {**common, "code.function.name": "tests.harness.sample_tasks.add"}
    operation = {"messaging.operation.name": "create", "messaging.operation.type": "create"}
    assert attributes(create) == {**about, **operation}
    assert create.kind is SpanKind.PRODUCER
    operation = {"messaging.operation.name": "send", "messaging.operation.type": "send"}
    assert attributes(send) == {**common, **operation}
    assert send.kind is SpanKind.CLIENT
    operation = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert attributes(process) == {**about, **operation, "messaging.alligator.attempt": 1}
    assert process.kind is SpanKind.CONSUMER


def test_tasks_that_leave_together_are_sent_in_one_span(spans: Spans, gator: Gator) -> None:
    with gator.transaction():
        tasks = [gator.task(add, 1, 2), gator.task(add, 3, 4)]
        assert not spans.named("send all")

    send = spans.one("send all")
    assert attributes(send)["messaging.batch.message_count"] == 2
    assert "messaging.message.id" not in attributes(send)
    assert links(send) == [context(span).span_id for span in spans.named("create all")]
    assert [(link.attributes or {})["messaging.message.id"] for link in send.links] == [
        task.task_id for task in tasks
    ]


def test_tasks_for_several_queues_are_sent_to_none_in_particular(
    spans: Spans, gator: Gator
) -> None:
    with gator.transaction(), gator.options(queue_name="mail") as opts:
        gator.task(add, 1, 2)
        opts.task(add, 3, 4)

    assert "messaging.destination.name" not in attributes(spans.one("send"))
    assert spans.one("create mail")


def test_tasks_pushed_after_the_span_of_their_request_stay_in_its_trace(
    spans: Spans, gator: Gator
) -> None:
    with gator.transaction(), spans.tracer.start_as_current_span("GET /") as request:
        gator.task(add, 1, 2)
        gator.task(add, 3, 4)

    send, first = spans.one("send all"), spans.named("create all")[0]
    assert context(send).trace_id == request.get_span_context().trace_id
    assert parent(send) == context(first).span_id


def test_tasks_of_several_traces_are_sent_in_one_of_its_own(spans: Spans, gator: Gator) -> None:
    with gator.transaction():
        for path in ("GET /1", "GET /2"):
            with spans.tracer.start_as_current_span(path):
                gator.task(add, 1, 2)

    send = spans.one("send all")
    assert parent(send) == 0
    assert links(send) == [context(span).span_id for span in spans.named("create all")]


def test_tasks_that_are_discarded_are_not_sent(spans: Spans, gator: Gator) -> None:
    with gator.transaction() as transaction:
        gator.task(add, 1, 2)
        transaction.doom()

    assert [span.name for span in spans.all()] == ["create all"]


def test_each_attempt_is_a_span_and_a_failure_is_its_error(spans: Spans, gator: Gator) -> None:
    with gator.options(retries=1, backoff=0) as opts:
        opts.task(fail, "no luck")
    work(gator)

    first, second = spans.named("process all")
    for number, span in enumerate((first, second), 1):
        assert attributes(span)["messaging.alligator.attempt"] == number
        assert attributes(span)["error.type"] == "RuntimeError"
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "RuntimeError: no luck"
        assert [event.name for event in span.events] == ["exception"]
        assert links(span) == [context(spans.one("create all")).span_id]


def test_task_that_ends_its_program_has_failed(spans: Spans, gator: Gator) -> None:
    gator.task(leave)
    work(gator)

    assert attributes(spans.one("process all"))["error.type"] == "SystemExit"


def test_unreachable_queue_is_an_error_of_the_send_span(spans: Spans) -> None:
    class Away(locmem_backend.Client):
        def push_many(
            self, messages: Sequence[Message], *, commit_id: str | None = None, undo: bool = True
        ) -> None:
            raise BackendUnavailable("not there")

    with pytest.raises(BackendUnavailable):
        Gator("locmem://", backend_class=Away).task(add, 1, 2)

    send = spans.one("send all")
    assert send.status.status_code is StatusCode.ERROR
    assert attributes(send)["error.type"] == "BackendUnavailable"


@pytest.mark.parametrize("func", [note_the_trace, note_the_trace_later])
def test_task_runs_in_its_span(spans: Spans, gator: Gator, func: Any) -> None:
    traces.clear()

    gator.task(func)
    work(gator)

    assert traces == [context(spans.one("create all")).trace_id]


def test_trace_of_the_request_is_passed_on_without_a_span(spans: Spans, gator: Gator) -> None:
    request = {"HTTP_TRACEPARENT": PARENT, "HTTP_TRACESTATE": "a=1", "HTTP_X_REQUEST_ID": "r-1"}

    with Transaction(gator, {}, request):
        task = gator.task(add, 1, 2)

    create = spans.one("create all")
    assert context(create).trace_id == int(TRACE, 16)
    assert parent(create) == 0xB7AD6B7169203331
    span_id = trace.format_span_id(context(create).span_id)
    assert task.headers == {
        "request_id": "r-1",
        "traceparent": f"00-{TRACE}-{span_id}-01",
        "tracestate": "a=1",
    }


def test_span_of_the_program_takes_precedence_over_the_header(spans: Spans, gator: Gator) -> None:
    request = {"HTTP_TRACEPARENT": PARENT, "HTTP_TRACESTATE": "a=1"}

    with Transaction(gator, {}, request), spans.tracer.start_as_current_span("GET /") as span:
        task = gator.task(add, 1, 2)

    assert trace.format_trace_id(span.get_span_context().trace_id) in task.headers["traceparent"]
    assert "tracestate" not in task.headers


def test_trace_given_at_the_call_is_not_changed(spans: Spans, gator: Gator) -> None:
    with gator.options(headers={"traceparent": PARENT}) as opts:
        task = opts.task(add, 1, 2)
    work(gator)

    assert task.headers == {"traceparent": PARENT}
    assert not spans.named("create all")
    assert links(spans.one("process all")) == [0xB7AD6B7169203331]


def test_task_without_a_trace_begins_one(spans: Spans) -> None:
    quiet, gator = Gator("locmem://one", tracing=False), Gator("locmem://one")

    quiet.task(add, 1, 2)
    work(gator)

    process = spans.one("process all")
    assert (parent(process), links(process)) == (0, [])


def test_tasks_in_this_process_are_processed_and_not_sent(spans: Spans, gator: Gator) -> None:
    with sync(), spans.tracer.start_as_current_span("GET /"):
        gator.task(add, 1, 2)

    assert [span.name for span in spans.all()] == ["create all", "process all", "GET /"]
    assert parent(spans.one("process all")) == context(spans.one("create all")).span_id


def test_switch_applies_to_spans(spans: Spans) -> None:
    quiet = Gator("locmem://", tracing=False)

    quiet.task(add, 1, 2)
    work(quiet)

    assert spans.all() == ()


def test_api_without_the_sdk_passes_on_the_trace_of_the_request(gator: Gator) -> None:
    request = {"HTTP_TRACEPARENT": PARENT, "HTTP_TRACESTATE": "a=1", "HTTP_X_REQUEST_ID": "r-1"}

    with Transaction(gator, {}, request):
        task = gator.task(add, 1, 2)
    other = gator.task(add, 1, 2)
    work(gator)

    assert task.headers == {"request_id": "r-1", "traceparent": PARENT, "tracestate": "a=1"}
    assert other.headers == {}
    assert gator.stats().dead == 0


PROGRAM = """
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from alligator import Gator, Worker
from tests.harness.sample_tasks import add

out = open(sys.argv[1], "a", buffering=1)
exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.name + "\\n")
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(exporter))

gator = Gator("sqlite://queue.db")
gator.task(add, 1, 2)
Worker(gator, burst=True, isolate=True).run_forever()
"""


def test_spans_of_an_isolated_process_are_exported(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "spans"]

    done = subprocess.run(
        command, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert sorted(lines(tmp_path / "spans")) == ["create all", "process all", "send all"]


def wait_to_be_canceled() -> None:
    task = current_task()
    assert task is not None
    eventually(lambda: task.canceled)
    raise ValueError("no luck")


def test_canceled_task_has_not_failed_in_its_span(
    spans: Spans, gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alligator.execution.heartbeat.CHECK_SECONDS", 0.05)
    task = gator.task(wait_to_be_canceled)

    with workers_running(Worker(gator)):
        eventually(lambda: gator.stats().leased)
        gator.cancel(task.task_id)
        eventually(lambda: spans.named("process all"))

    span = spans.one("process all")
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes is not None
    assert span.attributes["messaging.alligator.canceled"] is True
    assert not span.events
