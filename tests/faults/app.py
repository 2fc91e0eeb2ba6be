"""The web applications of the fault tests: one for WSGI, one for ASGI.

``POST /?id=a&n=3`` starts three tasks, ``a-0`` to ``a-2``, and answers 201. ``task=`` names another
function of `tests.faults.tasks`, ``fail=`` the way in which the view fails afterwards, and ``hang=``
the place where it does not get any further: before the commit, or after it.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path

from flask import Flask
from flask import request as flask_request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from alligator import Gator
from flask_alligator import Alligator
from starlette_alligator import AlligatorMiddleware
from tests.faults import clock, tasks

gator = Gator.from_env()
KEYS = bool(os.environ.get("KEYS"))
"""Whether requests may have idempotency keys."""

clock.install()

if os.environ.get("CONNECT_FIRST"):
    gator.len()  # before gunicorn forks its workers


def take(args: Mapping[str, str]) -> int:
    """Start the tasks of a request, and return the status of its response."""
    call = getattr(tasks, args.get("task", "record"))
    seconds = args.get("timeout")
    for number in range(int(args.get("n", "1"))):
        with gator.options(
            task_id=f"{args['id']}-{number}", timeout=float(seconds) if seconds else None
        ) as options:
            options.task(call)
    if args.get("hang") == "before":
        hang()
    transaction = gator.current
    if args.get("hang") == "after" and transaction is not None:
        transaction.on_commit(hang)
    if args.get("fail") == "raise":
        raise RuntimeError("the view was to fail")
    return int(args.get("fail", "201"))


def hang() -> None:
    """Create a file that shows that the request hangs, and hang."""
    Path(f"{os.environ['LEDGER']}.hanging").touch()
    time.sleep(60)


wsgi = Flask(__name__)
wsgi.config["ALLIGATOR_IDEMPOTENCY_KEY"] = KEYS
Alligator(wsgi, gator=gator)


@wsgi.post("/")
def order() -> tuple[str, int]:
    """Handle a request of WSGI."""
    return "", take(flask_request.args)


async def order_async(request: Request) -> PlainTextResponse:
    """Handle a request of ASGI."""
    return PlainTextResponse("", await asyncio.to_thread(take, request.query_params))


asgi = Starlette(
    routes=[Route("/", order_async, methods=["POST"])],
    middleware=[Middleware(AlligatorMiddleware, gator=gator, idempotency_key=KEYS)],
)
