"""Carry the trace and the id of a request to the tasks that it starts, in their headers.

A task gets the ``traceparent`` and ``tracestate`` of W3C Trace Context and a ``request_id``. They come
from the task that starts it, else from the request, and where the program uses OpenTelemetry from its
current span. Nothing is looked at before a task is started. What a client has sent is checked here: it
goes on into a store and into logs.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .tasks import Task, current_task
from .transaction import Held, innermost

CARRIED = ("request_id", "traceparent", "tracestate")

REQUEST_ID = re.compile(r"[A-Za-z0-9_.:/+=@~-]{1,128}")

TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})"
    r"-(?P<ids>(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
MAX_TRACEPARENT = 256
"""How long one of a version to come may be, of which only the beginning is understood."""

TRACESTATE_MEMBER = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
MAX_TRACESTATE = 512
MAX_MEMBERS = 32

ASKED = ("x-request-id", "x-correlation-id", "traceparent", "tracestate")
ENVIRON = [(name, f"HTTP_{name.upper().replace('-', '_')}") for name in ASKED]
RAW = {name.encode(): name for name in ASKED}
"""The headers that are looked at, as WSGI and ASGI have them."""

NOTHING = nullcontext()


def carry(task: Task, queue_name: str) -> None:
    """Give *task* the trace and the request id of the work that starts it; its own headers win."""
    found = _inherited()
    if "traceparent" in task.headers:  # a trace of its own, to which no other's state belongs
        found = _without_trace(found)
    elif has_spans():
        from .spans import create

        made = create(task, queue_name, found)
        if made:
            found = {**_without_trace(found), **made}
    if found:
        task.headers = {**found, **task.headers}


def carried(headers: Mapping[str, str]) -> dict[str, str]:
    """Choose of *headers* what goes on from task to task."""
    return {name: headers[name] for name in CARRIED if name in headers}


def has_spans() -> bool:
    """Whether this program records spans with OpenTelemetry: nobody else pays for it.

    It is not enough that its API is imported, for libraries do that.
    """
    api = sys.modules.get("opentelemetry.trace")
    # Asking it for its provider takes ten times as long, and this is asked for each task.
    return api is not None and getattr(api, "_TRACER_PROVIDER", api) is not None


def sending(held: Sequence[Held]) -> AbstractContextManager[Any]:
    """Make the context in which these tasks are put on their queues."""
    if not has_spans():
        return NOTHING
    from .spans import send

    return send([(each.task, each.queue_name) for each in held if not each.in_process])


def running(task: Task) -> AbstractContextManager[Any]:
    """Make the context of one attempt at *task*."""
    if not has_spans():
        return NOTHING
    from .spans import process

    return process(task)


def flush_spans() -> None:
    """Let go of what is recorded, in a process that ends without its usual clean-up."""
    if has_spans():
        from .spans import flush

        flush()


def trace_id(task: Task) -> str:
    """Return the id of the trace that *task* belongs to: 32 hexadecimal digits, or nothing."""
    found = TRACEPARENT.match(task.headers.get("traceparent", ""))
    return found["ids"][:32] if found else ""


def _without_trace(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name == "request_id"}


def _inherited() -> dict[str, str]:
    task = current_task()
    if task is not None:
        return carried(task.headers)
    transaction = innermost()
    request = transaction.request if transaction is not None else None
    if transaction is None or request is None:
        return {}
    if not isinstance(request, _Read):
        request = transaction.request = _Read(read_request(request))
    return request


class _Read(dict[str, str]):
    """What was read of a request; it takes the request's place, for the tasks that follow."""


def read_request(request: Mapping[str, Any]) -> dict[str, str]:
    """Read what is fit to be carried out of WSGI's environ or ASGI's scope."""
    asked = _asgi(request["headers"]) if "headers" in request else _wsgi(request)
    found: dict[str, str] = {}
    if not asked:
        return found
    for name in ("x-request-id", "x-correlation-id"):
        if name in asked and REQUEST_ID.fullmatch(asked[name]):
            found["request_id"] = asked[name]
            break
    parent = check_traceparent(asked.get("traceparent", ""))
    if parent:
        found["traceparent"] = parent
        state = asked.get("tracestate", "")
        if is_tracestate(state):
            found["tracestate"] = state
    return found


def check_traceparent(value: str) -> str:
    """Return a ``traceparent`` that we understand, or nothing; one of a later version as version 00.

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
    """Whether *value* is a ``tracestate``, and not too long to be passed on.

    >>> is_tracestate("congo=t61rcWkgMzE, rojo=00f067aa0ba902b7"), is_tracestate("garbage")
    (True, False)
    """
    if not 0 < len(value) <= MAX_TRACESTATE:
        return False
    members = [member.strip(" \t") for member in value.split(",")]
    return len(members) <= MAX_MEMBERS and all(
        TRACESTATE_MEMBER.fullmatch(member) for member in members if member
    )


def _wsgi(environ: Mapping[str, Any]) -> dict[str, str]:
    return {name: environ[key] for name, key in ENVIRON if key in environ}


def _asgi(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw, value in headers:
        name = RAW.get(raw)
        if name is not None:
            # A header that comes twice is one with a comma, as a WSGI server has it.
            before = f"{found[name]}," if name in found else ""
            found[name] = before + value.decode("latin-1")
    return found
