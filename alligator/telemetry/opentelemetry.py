"""The OpenTelemetry spans of a task, by the semantic conventions for messaging.

A task is serialized when it is started and pushed when its transaction commits, maybe with others. So
the parent of its run is the span of `create`, which is a producer span, and `send` only links to it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode

from .._runtime.failures import describe
from ..tasks import Task
from ..tasks.decisions import snooze_in

tracer: trace.Tracer = trace.get_tracer("alligator")
"""Uses the provider of the program, even if that is set later."""


def create(task: Task, queue_name: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """Record the span of a task that is started; return the headers by which its run refers to it.

    Without a current span, the span belongs to the *inherited* trace. Without a provider, there are
    no headers.
    """
    context = get_current()
    if not _span_context(context).is_valid:
        context = propagate.extract(inherited, context)
    span = tracer.start_span(
        f"create {queue_name}", context, SpanKind.PRODUCER, _attributes("create", task, queue_name)
    )
    span.end()
    headers: dict[str, str] = {}
    if span.get_span_context().is_valid:
        propagate.inject(headers, trace.set_span_in_context(span, context))
    return headers


@contextmanager
def send(tasks: Sequence[tuple[Task, str]]) -> Iterator[None]:
    """Record the span in which *tasks*, each with the name of its queue, are pushed.

    Without a current span, it belongs to the trace of the tasks, if all of them have the same.
    """
    links = []
    for task, _ in tasks:
        created = _span_context(propagate.extract(task.headers, Context()))
        if created.is_valid:
            links.append(Link(created, {"messaging.message.id": task.task_id}))
    attributes: dict[str, str | int] = {
        "messaging.system": "alligator",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    if len(tasks) == 1:
        attributes["messaging.message.id"] = tasks[0][0].task_id
    else:
        attributes["messaging.batch.message_count"] = len(tasks)
    name = "send"
    queue_names = {queue_name for _, queue_name in tasks}
    if len(queue_names) == 1:
        (queue_name,) = queue_names
        attributes["messaging.destination.name"] = queue_name
        name = f"send {queue_name}"
    with (
        tracer.start_as_current_span(
            name,
            _context_of([link.context for link in links]),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        ) as span,
        _recording_errors(span),
    ):
        yield


@contextmanager
def process(task: Task) -> Iterator[None]:
    """Record the span of one attempt at *task*, as a child of the span that created it, with a link."""
    context = propagate.extract(task.headers, get_current())
    created = _span_context(propagate.extract(task.headers, Context()))
    queue_name = task.queue_name or ""
    attributes = _attributes("process", task, queue_name)
    attributes["messaging.alligator.attempt"] = task.attempt
    with (
        tracer.start_as_current_span(
            f"process {queue_name}",
            context,
            SpanKind.CONSUMER,
            attributes,
            [Link(created)] if created.is_valid else [],
            record_exception=False,
            set_status_on_exception=False,
        ) as span,
        _recording_errors(span, task),
    ):
        yield


def flush() -> None:
    """Export the spans that the provider of the program has buffered."""
    force_flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if force_flush is not None:  # only the provider of the SDK has it
        force_flush()


def _attributes(operation: str, task: Task, queue_name: str) -> dict[str, str | int]:
    return {
        "messaging.system": "alligator",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue_name,
        "messaging.message.id": task.task_id,
        "code.function.name": task.name,
    }


def _context_of(created: Sequence[SpanContext]) -> Context:
    """Return the context of the `send` span of tasks with these *created* spans."""
    context = get_current()
    traces = {each.trace_id for each in created}
    if len(traces) != 1 or _span_context(context).is_valid:
        return context
    # The span of the request ended before its transaction. Use its trace, not a new one.
    return trace.set_span_in_context(NonRecordingSpan(created[0]), context)


def _span_context(context: Context) -> SpanContext:
    return trace.get_current_span(context).get_span_context()


@contextmanager
def _recording_errors(span: Span, task: Task | None = None) -> Iterator[None]:
    # OpenTelemetry itself records only an Exception, but a task may call sys.exit().
    try:
        yield
    except BaseException as error:
        is_canceled = task is not None and task.canceled
        if is_canceled or snooze_in(error) is not None:  # the task has not failed
            raise
        span.record_exception(error)
        span.set_status(StatusCode.ERROR, describe(error))
        span.set_attribute("error.type", type(error).__qualname__)
        raise
    finally:
        if task is not None and task.canceled:
            span.set_attribute("messaging.alligator.canceled", True)
