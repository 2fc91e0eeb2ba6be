"""The middleware of ASGI, with a Starlette request in place of its scope."""

from starlette.requests import Request
from starlette.types import Scope

import asgi_alligator


class AlligatorMiddleware(asgi_alligator.AlligatorMiddleware):
    """Queue the tasks of a request exactly when its response succeeds.

    Ex::

        app = Starlette(routes, middleware=[Middleware(AlligatorMiddleware, gator=gator)])
        app = FastAPI(); app.add_middleware(AlligatorMiddleware, gator=gator)

    ``request.state.alligator`` is the transaction of the request. A function given as *options* is
    called with the `Request`, before its body is there. All else is told by
    `alligator.middleware.Middleware`.
    """

    def to_request(self, raw: Scope) -> Request:
        """Make the request that *options* is called with."""
        return Request(raw)
