"""OpenTelemetry's spans of a task, after its conventions for messaging: create, send, process.

A task is written down where it is started and sent when its transaction commits, maybe with others. So
the span that its run refers to is `create`'s, the one of a producer, and `send` only links to it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode

from .attempts import describe
from .tasks import Task

tracer: trace.Tracer = trace.get_tracer("alligator")
"""Stands for the one of the program's provider, also if that is set later."""


def create(task: Task, queue_name: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """Note that *task* is started here; return the headers that its run will refer to this by.

    Without a current span the trace is the *inherited* one. There are no headers when nobody has set
    up a provider.
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
    """Make the span in which *tasks* go to their queues, each given with its queue's name."""
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
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        ) as span,
        _telling_of_errors(span),
    ):
        yield


@contextmanager
def process(task: Task) -> Iterator[None]:
    """Make the span of one attempt at *task*: a child of the one that created it, and linked to it."""
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
        _telling_of_errors(span),
    ):
        yield


def flush() -> None:
    """Have the program's provider export what it holds back."""
    force_flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if force_flush is not None:  # the SDK's provider, not the API's
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


def _span_context(context: Context) -> SpanContext:
    return trace.get_current_span(context).get_span_context()


@contextmanager
def _telling_of_errors(span: Span) -> Iterator[None]:
    # Not OpenTelemetry's own way, which overlooks what is no Exception: a task may call sys.exit().
    try:
        yield
    except BaseException as error:
        span.record_exception(error)
        span.set_status(StatusCode.ERROR, describe(error))
        span.set_attribute("error.type", type(error).__qualname__)
        raise
