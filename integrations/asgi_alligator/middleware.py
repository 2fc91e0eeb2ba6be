"""Open a transaction for each ASGI request, and commit it when the response is a success."""

from functools import partial

from alligator import Transaction
from alligator.transaction.scope import no_transaction
from alligator.web.idempotency import RequestLine
from alligator.web.middleware import Middleware

from .responses import CommitAtEnd, CommitAtStart
from .types import ASGIApp, Receive, Scope, Send

KEY = "alligator.transaction"
"""The key of the scope that holds the transaction; an inner middleware of the same gator reads it."""

STATE_KEY = "alligator"
"""The key of ``scope["state"]`` that holds it, for the application; an existing value is kept."""


class AlligatorMiddleware(Middleware[ASGIApp]):
    """An ASGI application that queues the tasks of *app* only if its response is a success.

    Ex::

        app = AlligatorMiddleware(app, Gator("redis://localhost:6379/0"))

    The transaction of the request is ``scope["state"]["alligator"]``, and
    ``scope["alligator.transaction"]``. The functions *options* and *idempotency_client* are called with
    the scope. For the other arguments see `Middleware`.
    """

    awaits = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; protocols other than HTTP have no transaction."""
        if scope["type"] != "http":
            with (
                no_transaction()
            ):  # the context may be that of an earlier request of the connection
                await self.app(scope, receive, send)
            return
        transactions = self.begin(scope, scope.get(KEY))
        if not transactions:
            await self.app(scope, receive, send)
            return
        scope[KEY] = transaction = transactions[0]
        # In the server's own scope, so that outer middlewares see what the application adds to it.
        state = scope.get("state")
        if state is None:
            scope["state"] = {STATE_KEY: transaction}
        elif (found := state.get(STATE_KEY)) is None or isinstance(found, Transaction):
            state[STATE_KEY] = transaction
        response: CommitAtStart | CommitAtEnd
        if self.commit_at == "start":
            response = CommitAtStart(self, transactions, scope, send)
        else:
            response = CommitAtEnd(self, transactions, scope, send)
        try:
            try:
                await self.app(scope, receive, response.send)
            except Exception as error:
                if not response.caused(error):
                    raise
            if not response.is_over:
                await response.end()
        except BaseException as error:
            if response.is_over:
                pass
            elif isinstance(error, GeneratorExit):  # a closed coroutine cannot await
                self.discard(transactions, error)
            else:
                await self.adiscard(transactions, error)
            raise
        finally:
            for transaction in transactions:  # not `leave`, as each call counts here
                transaction.leave()

    def request_line(self, raw: Scope) -> RequestLine:
        """Return what the key of a request is read from."""
        return RequestLine(raw["method"], raw["path"], partial(_header, raw))


def _header(scope: Scope, name: str) -> str:
    raw = name.encode()
    values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == raw]
    return ", ".join(values)
