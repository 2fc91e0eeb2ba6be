"""The ASGI endpoint, whose *authorize* gets a Starlette request in place of the scope."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

import asgi_alligator


class AlligatorEndpoint(asgi_alligator.AlligatorEndpoint):
    """An application to mount, with health, stats, metrics and dashboard of *gator* (one or several).

    Ex::

        routes = [Mount("/alligator", AlligatorEndpoint(gator))]

    *authorize* is a plain or a coroutine function that is called with the `Request`. The application
    handles an `HTTPException` that it raises, as it does for a view. For the other arguments see
    `asgi_alligator.AlligatorEndpoint`.
    """

    refusals = (HTTPException,)

    def to_request(self, scope: Scope) -> Request:
        """Return the argument of *authorize* for *scope*."""
        return Request(scope)
