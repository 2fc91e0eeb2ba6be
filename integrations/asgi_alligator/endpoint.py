"""Answer /alligator/… over ASGI."""

from functools import partial
from inspect import isawaitable, iscoroutinefunction
from logging import Logger, getLogger
from typing import Any

from alligator.endpoint import Endpoint
from alligator.http import MAX_BODY, Request
from alligator.offload import offload

from .types import Receive, Scope, Send

log: Logger = getLogger("alligator")


class AlligatorEndpoint(Endpoint):
    """An ASGI application that shows how the queue of *gator* (one or several) is.

    Mount it where it is to be found, at ``/alligator`` for instance; ``root_path`` says where that
    is. *authorize* is a function of the scope, async or not. All else is told by
    `alligator.endpoint.Endpoint`.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return
        request = Request(
            scope["method"],
            _path(scope),
            await self.is_allowed(scope),
            scope.get("query_string", b"").decode("latin-1"),
            {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            mount=scope.get("root_path", ""),
        )
        if request.allowed and request.method == "POST":
            request = request._replace(body=await _body(receive))
        status, headers, body = await offload(partial(self.respond, request))
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    async def is_allowed(self, scope: Scope) -> bool:
        """Whether the caller may see more than a stranger."""
        given = dict(scope["headers"]).get(b"authorization", b"")
        if self.allows(given.decode("latin-1")):
            return True
        if self.authorize is None:
            return False
        try:
            ask = partial(self.authorize, self.to_request(scope))
            answer = ask() if iscoroutinefunction(self.authorize) else await offload(ask)
            return bool(await answer if isawaitable(answer) else answer)
        except Exception:
            log.exception("authorize failed, so the caller is a stranger")
            return False

    def to_request(self, scope: Scope) -> Any:
        """Turn *scope* into what *authorize* is called with."""
        return scope


async def _body(receive: Receive) -> bytes | None:
    """Read the body, if it is no longer than it may be."""
    body = b""
    while len(body) <= MAX_BODY:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):  # its end, or the client is gone
            break
    return body if len(body) <= MAX_BODY else None


def _path(scope: Scope) -> str:
    """Return the path after the mount."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    # Behind a proxy that takes its prefix away the path lacks what Starlette calls app_root_path.
    for mount in (root, root.removeprefix(scope.get("app_root_path", "").rstrip("/"))):
        if mount and f"{path}/".startswith(f"{mount}/"):
            return path[len(mount) :]
    return path
