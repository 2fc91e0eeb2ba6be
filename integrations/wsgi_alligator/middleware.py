"""Open a transaction for each WSGI request, and commit it when the response is a success."""

from collections.abc import Iterable
from functools import partial
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from alligator.web.http import is_websocket
from alligator.web.idempotency import RequestLine
from alligator.web.middleware import Middleware

from .responses import CommitAtEnd, CommitAtStart, close_quietly

KEY = "alligator.transaction"
"""The key of the environ that holds the transaction of the first gator."""


class AlligatorMiddleware(Middleware[WSGIApplication]):
    """A WSGI application that queues the tasks of *app* only if its response is a success.

    Ex::

        application = AlligatorMiddleware(application, Gator("redis://localhost:6379/0"))

    The functions *options* and *idempotency_client* are called with the environ. For the other
    arguments see `Middleware`.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer the request; a WebSocket has no transaction, because it may be open for days."""
        if "HTTP_UPGRADE" in environ and is_websocket(environ):
            return self.app(environ, start_response)
        transactions = self.begin(environ, environ.get(KEY))
        if not transactions:
            return self.app(environ, start_response)
        environ[KEY] = transactions[0]
        response: CommitAtStart | CommitAtEnd
        if self.commit_at == "start":
            response = CommitAtStart(self, transactions, environ, start_response, self.describe)
        else:
            response = CommitAtEnd(self, transactions, environ, start_response, self.describe)
        body: Iterable[bytes] = ()
        try:
            try:
                body = self.app(environ, response.start)
                return response.answer(body)
            finally:
                for transaction in transactions:  # not `leave`, as each call counts here
                    transaction.leave()
        except BaseException as error:
            self.discard(transactions, error)
            close_quietly(body)
            raise

    def request_line(self, raw: WSGIEnvironment) -> RequestLine:
        """Return what the key of a request is read from."""
        path = f"{raw.get('SCRIPT_NAME', '')}{raw.get('PATH_INFO', '')}"
        return RequestLine(raw["REQUEST_METHOD"], path, partial(_header, raw))

    def describe(self, environ: WSGIEnvironment) -> str:
        """Return the name of the request's view for a log line."""
        return f"{environ['REQUEST_METHOD']} {ascii(environ.get('PATH_INFO', ''))[1:-1]:.200}"


def _header(environ: WSGIEnvironment, name: str) -> str:
    value: str = environ.get(f"HTTP_{name.upper().replace('-', '_')}", "")
    return value
