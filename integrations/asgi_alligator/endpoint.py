"""Answer /alligator/… over ASGI."""

from collections.abc import Callable, Sequence
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from logging import getLogger
from typing import Any

from alligator import Gator
from alligator.endpoint import Endpoint
from alligator.offload import offload

from .types import Receive, Scope, Send

log = getLogger("alligator")


class AlligatorEndpoint:
    """An ASGI application that shows how the queue of *gator* (one or several) is.

    Mount it where it is to be found, at ``/alligator`` for instance; ``root_path`` says where that
    is. *token* opens what is not for everybody (None: the one in ``ALLIGATOR_TOKEN``), and so does
    *authorize*, a function of the scope, async or not, that returns whether the caller may see it.
    """

    def __init__(
        self,
        gator: Gator | Sequence[Gator],
        *,
        token: str | None = None,
        authorize: Callable[[Any], Any] | None = None,
    ) -> None:
        self.endpoint: Endpoint = Endpoint(gator, token=token)
        self.authorize = authorize

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return
        allowed = await self.is_allowed(scope)
        respond = partial(self.endpoint.respond, scope["method"], _path(scope), allowed=allowed)
        status, headers, body = await offload(respond)
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    async def is_allowed(self, scope: Scope) -> bool:
        """Whether the caller may see more than a stranger."""
        given = dict(scope["headers"]).get(b"authorization", b"")
        if self.endpoint.allows(given.decode("latin-1")):
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


def _path(scope: Scope) -> str:
    """Return the path after the mount."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    # Behind a proxy that takes its prefix away the path lacks what Starlette calls app_root_path.
    for mount in (root, root.removeprefix(scope.get("app_root_path", "").rstrip("/"))):
        if mount and f"{path}/".startswith(f"{mount}/"):
            return path[len(mount) :]
    return path
