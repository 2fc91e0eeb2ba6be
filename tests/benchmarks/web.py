"""The same two applications for every queue: ``BENCH_CASE`` says whose tasks a request enqueues.

Ex::

    BENCH_CASE=huey uvicorn tests.benchmarks.web:starlette_app
    BENCH_CASE=raw gunicorn tests.benchmarks.web:flask_app
"""

import os
from importlib import import_module
from typing import Any

CASE = os.environ.get("BENCH_CASE", "bare")
queue: Any = None if CASE == "bare" else import_module(f"tests.benchmarks.peers.{CASE}")


def make_starlette() -> Any:
    """Make an application whose ``/5`` enqueues five tasks, ours with our middleware around it."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def enqueue(request: Request) -> Response:
        if queue is not None:
            await queue.enqueue_async(request.path_params["k"])
        return Response(b"ok")

    around: list[Middleware] = []
    if CASE == "alligator":
        from starlette_alligator import AlligatorMiddleware

        around = [Middleware(AlligatorMiddleware, gator=queue.gator)]
    elif CASE == "raw":
        around = [Middleware(Flush)]
    return Starlette(routes=[Route("/{k:int}", enqueue)], middleware=around)


class Flush:
    """The least that sends a request's tasks in one round trip: a wrapped send and a ContextVar."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer the request."""
        held: list[str] = []

        async def flush(message: Any) -> None:
            if held and message["type"] == "http.response.start":
                await queue.async_client.lpush(queue.QUEUE, *held)
            await send(message)

        token = queue.collected.set(held)
        try:
            await self.app(scope, receive, flush)
        finally:
            queue.collected.reset(token)


def make_flask() -> Any:
    """Make the same with Flask."""
    from flask import Flask

    app = Flask(__name__)

    @app.get("/<int:k>")
    def enqueue(k: int) -> str:
        if queue is not None:
            queue.enqueue(k)
        return "ok"

    if CASE == "alligator":
        from flask_alligator import Alligator

        Alligator(app, queue.gator)
    return app


def __getattr__(name: str) -> Any:
    made = {"starlette_app": make_starlette, "flask_app": make_flask}.get(name)
    if made is None:
        raise AttributeError(name)
    return globals().setdefault(name, made())
