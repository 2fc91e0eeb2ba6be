"""The ASGI middleware, whose functions get a Starlette request in place of the scope."""

from starlette.requests import Request
from starlette.types import Scope

import asgi_alligator


class AlligatorMiddleware(asgi_alligator.AlligatorMiddleware):
    """Queue the tasks of a request only if its response is a success.

    Ex::

        app = Starlette(routes, middleware=[Middleware(AlligatorMiddleware, gator=gator)])
        app = FastAPI(); app.add_middleware(AlligatorMiddleware, gator=gator)

    ``request.state.alligator`` is the transaction of the request. The functions *options* and
    *idempotency_client* are called with the `Request` before the body has been received. For the
    other arguments see `alligator.web.middleware.Middleware`.
    """

    def to_request(self, raw: Scope) -> Request:
        """Return the argument of these functions for *raw*."""
        return Request(raw)
