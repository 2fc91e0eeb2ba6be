"""Open a transaction around each WSGI request, and commit it when its response is known to be good."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from alligator.middleware import Middleware

from .responses import HeldResponse, PassedResponse, close_quietly

KEY = "alligator.transaction"
"""Where the environ has the transaction of the request: that of the first gator."""


class AlligatorMiddleware(Middleware[WSGIApplication]):
    """A WSGI application that queues the tasks of *app* exactly when its response succeeds.

    Ex::

        application = AlligatorMiddleware(application, Gator("redis://localhost:6379/0"))

    A function given as *options* is called with the environ. All else is told by `Middleware`.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer the request."""
        transactions = self.begin(environ, environ.get(KEY))
        if not transactions:
            return self.app(environ, start_response)
        environ[KEY] = transactions[0]
        kind = HeldResponse if self.commit_at == "start" else PassedResponse
        response = kind(self, transactions, environ["REQUEST_METHOD"], start_response)
        body: Iterable[bytes] = ()
        try:
            try:
                body = self.app(environ, response.start)
                return response.answer(body)
            finally:
                self.leave(transactions)
        except BaseException as error:
            self.discard(transactions, error)
            close_quietly(body)
            raise
