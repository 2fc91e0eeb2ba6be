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

from alligator import Gator, Transaction, Worker
from alligator.backends import locmem_backend
from alligator.backends.base import Message
from alligator.exceptions import BackendUnavailable
from alligator.testing import sync
from alligator.tracing import has_spans
from tests.programs import environment, lines
from tests.sample_tasks import add, fail

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Spans:
    """What an application has set up, and what came of it."""

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
    monkeypatch.setattr("alligator.spans.tracer", spans.provider.get_tracer("alligator"))
    yield spans
    spans.provider.shutdown()


@pytest.fixture
def gator() -> Gator:
    return Gator("locmem://")


def test_who_only_imports_the_api_does_not_pay_for_spans(gator: Gator) -> None:
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


def test_a_task_is_created_sent_and_processed_in_one_trace(spans: Spans, gator: Gator) -> None:
    with spans.tracer.start_as_current_span("GET /") as request:
        gator.task(add, 1, 2)
    work(gator)

    create, send, process = spans.one("create all"), spans.one("send all"), spans.one("process all")
    assert parent(create) == parent(send) == request.get_span_context().span_id
    assert parent(process) == context(create).span_id
    assert links(send) == links(process) == [context(create).span_id]
    assert len({context(span).trace_id for span in (create, send, process)}) == 1


def test_they_are_described_as_the_conventions_say(spans: Spans, gator: Gator) -> None:
    task = gator.task(add, 1, 2)
    work(gator)

    create, send, process = spans.one("create all"), spans.one("send all"), spans.one("process all")
    common = {
        "messaging.system": "alligator",
        "messaging.destination.name": "all",
        "messaging.message.id": task.task_id,
    }
    about = {**common, "code.function.name": "tests.sample_tasks.add"}
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


def test_a_task_that_ends_its_program_has_failed(spans: Spans, gator: Gator) -> None:
    gator.task(leave)
    work(gator)

    assert attributes(spans.one("process all"))["error.type"] == "SystemExit"


def test_a_queue_that_is_away_is_an_error_of_the_sending(spans: Spans) -> None:
    class Away(locmem_backend.Client):
        def push_many(self, messages: Sequence[Message], *, commit_id: str | None = None) -> None:
            raise BackendUnavailable("not there")

    with pytest.raises(BackendUnavailable):
        Gator("locmem://", backend_class=Away).task(add, 1, 2)

    send = spans.one("send all")
    assert send.status.status_code is StatusCode.ERROR
    assert attributes(send)["error.type"] == "BackendUnavailable"


@pytest.mark.parametrize("func", [note_the_trace, note_the_trace_later])
def test_a_task_runs_in_its_span(spans: Spans, gator: Gator, func: Any) -> None:
    traces.clear()

    gator.task(func)
    work(gator)

    assert traces == [context(spans.one("create all")).trace_id]


def test_without_a_span_the_trace_of_the_request_goes_on(spans: Spans, gator: Gator) -> None:
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


def test_a_span_of_the_program_is_worth_more_than_the_header(spans: Spans, gator: Gator) -> None:
    request = {"HTTP_TRACEPARENT": PARENT, "HTTP_TRACESTATE": "a=1"}

    with Transaction(gator, {}, request), spans.tracer.start_as_current_span("GET /") as span:
        task = gator.task(add, 1, 2)

    assert trace.format_trace_id(span.get_span_context().trace_id) in task.headers["traceparent"]
    assert "tracestate" not in task.headers


def test_a_trace_of_the_call_is_not_touched(spans: Spans, gator: Gator) -> None:
    with gator.options(headers={"traceparent": PARENT}) as opts:
        task = opts.task(add, 1, 2)
    work(gator)

    assert task.headers == {"traceparent": PARENT}
    assert not spans.named("create all")
    assert links(spans.one("process all")) == [0xB7AD6B7169203331]


def test_a_task_without_a_trace_begins_one(spans: Spans) -> None:
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


def test_the_switch_is_for_spans_too(spans: Spans) -> None:
    quiet = Gator("locmem://", tracing=False)

    quiet.task(add, 1, 2)
    work(quiet)

    assert spans.all() == ()


def test_the_api_alone_passes_on_what_the_request_said(gator: Gator) -> None:
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
from tests.sample_tasks import add

out = open(sys.argv[1], "a", buffering=1)
exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.name + "\\n")
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(exporter))

gator = Gator("sqlite://queue.db")
gator.task(add, 1, 2)
Worker(gator, burst=True, isolate=True).run_forever()
"""


def test_what_an_isolated_process_has_recorded_is_not_lost(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "spans"]

    done = subprocess.run(
        command, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert sorted(lines(tmp_path / "spans")) == ["create all", "process all", "send all"]
