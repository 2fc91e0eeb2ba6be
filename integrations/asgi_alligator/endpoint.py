"""The endpoint /alligator/… as an ASGI application."""

from functools import partial
from inspect import isawaitable
from logging import Logger, getLogger
from typing import Any

from alligator._runtime.threads import run_in_thread
from alligator.web.endpoint import Endpoint
from alligator.web.http import MAX_BODY, Request

from .types import Receive, Scope, Send

log: Logger = getLogger("alligator")


class AlligatorEndpoint(Endpoint):
    """An ASGI application with health, stats, metrics and dashboard of *gator* (one or several).

    Mount it at any path, such as ``/alligator``; it reads its mount point from ``root_path``.
    *authorize* is a plain or a coroutine function that is called with the scope. For the other
    arguments see `alligator.web.endpoint.Endpoint`.
    """

    awaits = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return
        allowed, refusal = False, None
        try:
            allowed = await self.is_allowed(scope)
        except self.refusals as error:
            refusal = error
        request = Request(
            scope["method"],
            _path(scope),
            allowed,
            scope.get("query_string", b"").decode("latin-1"),
            {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            mount=scope.get("root_path", ""),
        )
        if request.method == "POST" and self.reads_body(request):
            request = request._replace(body=await _body(receive))
        status, headers, body = await run_in_thread(partial(self.respond, request, refusal))
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    async def is_allowed(self, scope: Scope) -> bool:
        """Return whether the visitor is authorized."""
        given = dict(scope["headers"]).get(b"authorization", b"")
        # HTTP/2 may send each cookie in a header of its own.
        cookies = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
        if self.allows(given.decode("latin-1"), cookies.decode("latin-1")):
            return True
        if self._authorize is None:
            return False
        try:
            ask = partial(self._authorize.func, self.to_request(scope))
            answer = ask() if self._authorize.is_async else await run_in_thread(ask)
            return self._authorize.judge(await answer if isawaitable(answer) else answer) is True
        except self.refusals:
            raise
        except Exception:
            log.exception("authorize raised an exception; the visitor is not authorized")
            return False

    def to_request(self, scope: Scope) -> Any:
        """Return the argument of *authorize* for *scope*."""
        return scope


async def _body(receive: Receive) -> bytes | None:
    """Return the body, or None if it is longer than `MAX_BODY`."""
    body = b""
    while len(body) <= MAX_BODY:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):  # the body has ended, or the client disconnected
            break
    return body if len(body) <= MAX_BODY else None


def _path(scope: Scope) -> str:
    """Return the path below the mount point."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    # If a proxy removes its prefix, the path lacks what Starlette calls app_root_path.
    for mount in (root, root.removeprefix(scope.get("app_root_path", "").rstrip("/"))):
        if mount and f"{path}/".startswith(f"{mount}/"):
            return path[len(mount) :]
    return path
