"""Carry the trace and the id of a request to the tasks that it starts, in their headers.

A task gets the ``traceparent`` and ``tracestate`` of W3C Trace Context and a ``request_id``. They come
from the task that starts it, or else from the request. If the program uses OpenTelemetry, the trace
comes from its current span. The headers of a request are read when it starts its first task. They are
validated here, because a client sent them and they are written to the store and to logs.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..commits.deferred import OutgoingTask
from ..tasks import Task, running_in_context
from ..transaction.scope import innermost

CARRIED = ("request_id", "traceparent", "tracestate")

REQUEST_ID = re.compile(r"[A-Za-z0-9_.:/+=@~-]{1,128}")

TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})"
    r"-(?P<ids>(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
MAX_TRACEPARENT = 256
"""The maximum length of a ``traceparent``; those of later versions may be longer than ours."""

TRACESTATE_MEMBER = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
MAX_TRACESTATE = 512
MAX_MEMBERS = 32

READ_HEADERS = ("x-request-id", "x-correlation-id", "traceparent", "tracestate")
ENVIRON = [(name, f"HTTP_{name.upper().replace('-', '_')}") for name in READ_HEADERS]
RAW = {name.encode(): name for name in READ_HEADERS}
"""The headers that are read, by their names in WSGI and in ASGI."""

NOTHING = nullcontext()
NO_HEADERS: dict[str, str] = {}


def carry(task: Task, queue_name: str) -> None:
    """Add the trace and the request id of the work that starts *task* to its headers.

    Headers that the task already has are not changed.
    """
    found = NO_HEADERS
    starter = running_in_context.get()
    if starter is not None:
        found = carried(starter.headers)
    elif (transaction := innermost()) is not None and transaction.request is not None:
        found = transaction.request
        if not isinstance(found, _ReadRequest):  # this is the first task of the request
            found = transaction.request = _ReadRequest(read_request(found))
    if "traceparent" in task.headers:  # keep its own trace, without the state of another
        found = _without_trace(found)
    elif has_spans():
        from .opentelemetry import create

        made = create(task, queue_name, found)
        if made:
            found = {**_without_trace(found), **made}
    if found:
        task.headers = {**found, **task.headers}


def carried(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of *headers* that a task passes on to the tasks that it starts."""
    return {name: headers[name] for name in CARRIED if name in headers}


def has_spans() -> bool:
    """Return whether this program records spans with OpenTelemetry.

    An import of its API is not enough: libraries import it too.
    """
    api = sys.modules.get("opentelemetry.trace")
    # get_tracer_provider() takes ten times as long, and this is called for each task.
    return api is not None and getattr(api, "_TRACER_PROVIDER", api) is not None


def sending(tasks: Sequence[OutgoingTask]) -> AbstractContextManager[Any]:
    """Return the context manager in which *tasks* are pushed."""
    if not has_spans():
        return NOTHING
    from .opentelemetry import send

    return send([(each.task, each.queue_name) for each in tasks if each.run is None])


def running(task: Task) -> AbstractContextManager[Any]:
    """Return the context manager of one attempt at *task*."""
    if not has_spans():
        return NOTHING
    from .opentelemetry import process

    return process(task)


def flush_spans() -> None:
    """Export recorded spans, in a process that exits without the usual clean-up."""
    if has_spans():
        from .opentelemetry import flush

        flush()


def trace_id(task: Task) -> str:
    """Return the id of the trace that *task* belongs to: 32 hexadecimal digits, or empty."""
    found = TRACEPARENT.match(task.headers.get("traceparent", ""))
    return found["ids"][:32] if found else ""


def _without_trace(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name == "request_id"}


class _ReadRequest(dict[str, str]):
    """The headers that were read from a request. It replaces the request in its transaction."""


def read_request(request: Any) -> dict[str, str]:
    """Return the valid headers to carry from WSGI's environ, ASGI's scope or Django's request."""
    request = getattr(request, "META", request)
    if "headers" not in request:
        headers = {name: request[key] for name, key in ENVIRON if key in request}
    else:
        headers = {}
        for raw, value in request["headers"]:
            if (name := RAW.get(raw)) is not None:
                # Join repeated headers with a comma, as WSGI servers do.
                before = f"{headers[name]}," if name in headers else ""
                headers[name] = before + value.decode("latin-1")
    if not headers:
        return {}
    found = {}
    for name in ("x-request-id", "x-correlation-id"):
        if name in headers and REQUEST_ID.fullmatch(headers[name]):
            found["request_id"] = headers[name]
            break
    parent = check_traceparent(headers.get("traceparent", ""))
    if parent:
        found["traceparent"] = parent
        state = headers.get("tracestate", "")
        if is_tracestate(state):
            found["tracestate"] = state
    return found


def check_traceparent(value: str) -> str:
    """Return a valid ``traceparent``, or empty; one of a later version is converted to version 00.

    >>> check_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0f-what-comes")
    '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    """
    found = TRACEPARENT.fullmatch(value) if len(value) <= MAX_TRACEPARENT else None
    if found is None:
        return ""
    if found["version"] == "00":
        return "" if found["more"] else value
    return f"00-{found['ids']}-{int(found['flags'], 16) & 1:02x}"


def is_tracestate(value: str) -> bool:
    """Return whether *value* is a valid ``tracestate``, and short enough to pass on.

    >>> is_tracestate("congo=t61rcWkgMzE, rojo=00f067aa0ba902b7"), is_tracestate("garbage")
    (True, False)
    """
    if not 0 < len(value) <= MAX_TRACESTATE:
        return False
    members = [member.strip(" \t") for member in value.split(",")]
    return len(members) <= MAX_MEMBERS and all(
        TRACESTATE_MEMBER.fullmatch(member) for member in members if member
    )
