"""The endpoint of ASGI, with a Starlette request in place of its scope."""

from starlette.requests import Request
from starlette.types import Scope

import asgi_alligator


class AlligatorEndpoint(asgi_alligator.AlligatorEndpoint):
    """An application to mount, which shows how the queue of *gator* (one or several) is.

    Ex::

        routes = [Mount("/alligator", AlligatorEndpoint(gator))]

    *authorize*, async or not, is called with the `Request`. All else is told by
    `asgi_alligator.AlligatorEndpoint`.
    """

    def to_request(self, scope: Scope) -> Request:
        """Make the request that *authorize* is called with."""
        return Request(scope)
