"""Measurements of microseconds: each function returns µs by case.

The cases take turns in small rounds, and the median of the rounds counts. What is timed is the CPU of
this process, so that others can only disturb it by way of the caches.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from io import BytesIO
from statistics import median
from typing import Any
from uuid import UUID

ROUNDS = 40

Found = dict[str, dict[str, float]]

held: ContextVar[list[str] | None] = ContextVar("held", default=None)


def send_mail(*args: object, **kwargs: object) -> None:
    """The function of a task."""


ARGUMENTS = (42, "welcome@example.com")
KEYWORDS = {"template": "welcome", "language": "en"}


def in_turn(cases: dict[str, Callable[[int], float]], calls: int) -> Found:
    """Time each case in rounds; return the median µs of a call, and of its overhead."""
    each = max(1, calls // ROUNDS)
    for case in cases.values():
        case(each)
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, case in cases.items():
            times[name].append(case(each) / each * 1e6)
    bare = times.get("bare", [0.0] * ROUNDS)
    return {
        name: {
            "us": median(found),
            "added": median(ours - less for ours, less in zip(found, bare, strict=True)),
        }
        for name, found in times.items()
    }


def task(calls: int) -> Found:
    """Time a task inside of a transaction, against writing its payload as JSON."""
    from alligator import Gator

    gator = Gator("redis://127.0.0.1:1/0")
    with gator.transaction() as tx:
        gator.task(send_mail, *ARGUMENTS, **KEYWORDS)
        payload = json.loads(tx.deferred.tasks[0].data)
        tx.doom()

    def ours(n: int) -> float:
        took = 0.0
        for _ in range(max(1, n // 10)):
            with gator.transaction() as tx:
                tx.doom()
                start = time.process_time()
                for _ in range(10):
                    gator.task(send_mail, *ARGUMENTS, **KEYWORDS)
                took += time.process_time() - start
        return took * n / (max(1, n // 10) * 10)

    def raw(n: int) -> float:
        start = time.process_time()
        for _ in range(n):
            json.dumps(payload)
        return time.process_time() - start

    return in_turn({"alligator": ours, "raw": raw}, calls)


def send_typed(order: UUID, at: datetime, tags: set[str]) -> None:
    """The function of a task whose arguments annotations restore."""


def repeated(call: Callable[[], object]) -> Callable[[int], float]:
    """Return a case that makes this call."""

    def case(n: int) -> float:
        start = time.process_time()
        for _ in range(n):
            call()
        return time.process_time() - start

    return case


def payload_write(calls: int) -> Found:
    """Time the writing of a payload, against the json module."""
    from alligator import Task

    task, typed = Task(), Task()
    task.to_call(send_mail, *ARGUMENTS, **KEYWORDS)
    typed.to_call(send_typed, UUID(int=7), datetime(2026, 1, 1, tzinfo=UTC), {"a", "b"})
    fields = json.loads(task.serialize())
    cases = {
        "alligator": repeated(task.serialize),
        "typed": repeated(typed.serialize),
        "raw": repeated(lambda: json.dumps(fields)),
    }
    return in_turn(cases, calls)


def payload_read(calls: int) -> Found:
    """Time the reading of a payload, against the json module."""
    from alligator import Task

    task, typed = Task(), Task()
    task.to_call(send_mail, *ARGUMENTS, **KEYWORDS)
    typed.to_call(send_typed, UUID(int=7), datetime(2026, 1, 1, tzinfo=UTC), {"a", "b"})
    data, typed_data = task.serialize(), typed.serialize()
    cases = {
        "alligator": repeated(lambda: Task.deserialize(data)),
        "typed": repeated(lambda: Task.deserialize(typed_data)),
        "raw": repeated(lambda: json.loads(data)),
    }
    return in_turn(cases, calls)


class Wrapped:
    """The minimum of a collecting ASGI middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer the request."""

        async def wrapped(message: Any) -> None:
            await send(message)

        token = held.set([])
        try:
            await self.app(scope, receive, wrapped)
        finally:
            held.reset(token)


def asgi(calls: int) -> Found:
    """Time the middleware around a Starlette application that enqueues nothing."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from alligator import Gator
    from starlette_alligator import AlligatorMiddleware

    async def view(request: Request) -> Response:
        return Response(b"ok")

    def make() -> Any:
        return Starlette(routes=[Route("/", view)])

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        pass

    def case(app: Any) -> Callable[[int], float]:
        async def run(n: int) -> float:
            start = time.process_time()
            for _ in range(n):
                scope = {
                    "type": "http",
                    "method": "GET",
                    "path": "/",
                    "headers": [],
                    "query_string": b"",
                    "asgi": {"version": "3.0", "spec_version": "2.4"},
                    "http_version": "1.1",
                }
                answered: Awaitable[None] = app(scope, receive, send)
                await answered
            return time.process_time() - start

        return lambda n: loop.run_until_complete(run(n))

    loop = asyncio.new_event_loop()
    try:
        ours = AlligatorMiddleware(make(), Gator("redis://127.0.0.1:1/0"))
        return in_turn(
            {"bare": case(make()), "raw": case(Wrapped(make())), "alligator": case(ours)}, calls
        )
    finally:
        loop.close()


class WrappedStart:
    """The minimum of a collecting WSGI middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Answer the request."""

        def wrapped(*arguments: Any) -> Any:
            return start_response(*arguments)

        token = held.set([])
        try:
            return self.app(environ, wrapped)
        finally:
            held.reset(token)


def wsgi(calls: int) -> Found:
    """Time the middleware around a Flask application that enqueues nothing."""
    from flask import Flask

    from alligator import Gator
    from wsgi_alligator import AlligatorMiddleware

    app = Flask(__name__)

    @app.get("/")
    def view() -> str:
        return "ok"

    def start_response(*arguments: Any) -> Callable[[bytes], object]:
        return lambda _: None

    def case(app: Any) -> Callable[[int], float]:
        def run(n: int) -> float:
            start = time.process_time()
            for _ in range(n):
                environ = {
                    "REQUEST_METHOD": "GET",
                    "PATH_INFO": "/",
                    "SCRIPT_NAME": "",
                    "QUERY_STRING": "",
                    "SERVER_NAME": "localhost",
                    "SERVER_PORT": "80",
                    "SERVER_PROTOCOL": "HTTP/1.1",
                    "wsgi.url_scheme": "http",
                    "wsgi.input": BytesIO(),
                    "wsgi.errors": sys.stderr,
                }
                body = app(environ, start_response)
                b"".join(body)
                body.close()
            return time.process_time() - start

        return run

    ours = AlligatorMiddleware(app, Gator("redis://127.0.0.1:1/0"))
    return in_turn(
        {"bare": case(app), "raw": case(WrappedStart(app)), "alligator": case(ours)}, calls
    )
