"""Open a transaction around each ASGI request, and commit it when its response is known to be good."""

from functools import partial

from alligator.middleware import Middleware, away

from .responses import HeldResponse, PassedResponse
from .types import ASGIApp, Receive, Scope, Send

KEY = "alligator"
"""Where the state of a request has its transaction; a middleware inside of this one finds it there."""


class AlligatorMiddleware(Middleware[ASGIApp]):
    """An ASGI application that queues the tasks of *app* exactly when its response succeeds.

    Ex::

        app = AlligatorMiddleware(app, Gator("redis://localhost:6379/0"))

    The transaction of the request is ``scope["state"]["alligator"]``. A function given as *options*
    is called with the scope. All else is told by `Middleware`.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; what is not HTTP passes through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.get("state")
        transactions = self.begin(scope, state.get(KEY) if state else None)
        if not transactions:
            await self.app(scope, receive, send)
            return
        # The scope is the server's, its state the request's: what the application puts there is
        # seen by whoever stands around this.
        if state is None:
            state = {}
            scope = {**scope, "state": state}
        state[KEY] = transactions[0]
        kind = HeldResponse if self.commit_at == "start" else PassedResponse
        response = kind(self, transactions, scope, send)
        try:
            await self.app(scope, receive, response.send)
            if not response.is_over:
                await response.end()
        except GeneratorExit as error:
            self.discard(transactions, error)  # closed: there is nothing to await with
            raise
        except BaseException as error:
            await away(transactions, partial(self.discard, transactions, error))
            if not response.caused(error):
                raise
        finally:
            self.leave(transactions)
