"""Open a transaction for each WSGI request, and commit it when the response is a success."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from itertools import chain
from logging import Logger, getLogger
from types import TracebackType
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper

from alligator import Transaction
from alligator.web.http import Response, is_websocket
from alligator.web.idempotency import RequestLine
from alligator.web.middleware import Middleware

from .first_chunks import first_chunks
from .heads import check_head

log: Logger = getLogger("alligator")

Headers = list[tuple[str, str]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None
Write = Callable[[bytes], object]

NO_CHUNKS: Iterator[bytes] = iter(())

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
            response = CommitAtStart(self, transactions, environ, start_response)
        else:
            response = CommitAtEnd(self, transactions, environ, start_response)
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


class PendingResponse:
    """A response and the transactions of its request."""

    _started: tuple[str, Headers] | None = None
    _failure: BaseException | None = None
    """The exception that the application passed to start_response."""

    def __init__(
        self,
        middleware: AlligatorMiddleware,
        transactions: list[Transaction],
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> None:
        self.middleware = middleware
        self.transactions = transactions
        self.environ = environ
        self.start_response = start_response


class CommitAtStart(PendingResponse):
    """A response that is sent after its transactions have ended."""

    exc_info: ExcInfo = None
    replacement: Response | None = None
    has_ended: bool = False
    _is_committed = False
    _write: Write | None = None
    _body: Iterable[bytes] = ()
    """The application's body, if it is lazy: its first chunk is read before the response starts."""
    _chunks: Iterator[bytes] = NO_CHUNKS
    """What is left of it, with its first chunk."""

    def start(self, status: str, headers: Headers, exc_info: ExcInfo = None, /) -> Write:
        """The `start_response` callable of the application."""
        if self._started is None and exc_info is None:
            self._started = (status, headers)
        elif self.replacement is not None:
            if exc_info and exc_info[1]:
                raise exc_info[1].with_traceback(exc_info[2])  # PEP 3333: the headers are sent
        elif self.has_ended:
            self._write = self.start_response(status, headers, exc_info)
        elif self._started is not None and not exc_info:
            raise AssertionError("start_response was called a second time without exc_info.")
        else:
            self._started = (status, headers)
            self.exc_info = exc_info
            self._failure = exc_info[1] if exc_info else None
        return self.write_through

    def write_through(self, data: bytes) -> None:
        """The `write` callable of the application: end the transactions before the first data."""
        if self.has_ended:
            if self.replacement is None:
                self._send(data)
            return
        for chunk in self.end_transactions():
            self._send(chunk)
        if self.replacement is None:
            try:
                self._send(data)
            except BaseException:
                self._undo()
                raise

    def answer(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return the body for the server; a lazy *body* is read up to its first chunk before."""
        # A list or a file has no code of the application that is left to run.
        is_complete = isinstance(body, (list, tuple)) or self._is_file(body)
        if not self.has_ended and (self._started is None or not is_complete):
            body = self.read_first_chunk(body)
        replacement_body = [] if self.has_ended else self.end_transactions()
        if self.replacement is None:
            return body
        close_quietly(body)
        return replacement_body

    def end_transactions(self) -> list[bytes]:
        """End the transactions and start the response; return the body of a replacement, if any."""
        if self._started is None:
            raise AssertionError("write was called before start_response.")
        self.has_ended = True
        status, headers = self._started
        if self._failure is not None:
            self.middleware.discard(self.transactions, self._failure)
        else:
            for transaction in self.transactions:  # not `has_work`, as each call counts here
                if not transaction.end_if_empty():
                    code = check_head(status, headers)
                    self.replacement = self.middleware.end(self.transactions, code, headers)
                    self._is_committed = self.replacement is None
                    break
        if self.replacement is not None:
            code, headers, content = self.replacement
            self._write = self.start_response(f"{code} {HTTPStatus(code).phrase}", headers[:])
            return [] if self.environ["REQUEST_METHOD"] == "HEAD" else [content]
        try:
            if self.exc_info is None:
                self._write = self.start_response(status, headers)
            else:
                self._write = self.start_response(status, headers, self.exc_info)
                self.exc_info = self._failure = None  # avoid a reference cycle with this frame
        except BaseException:
            self._undo()
            raise
        return []

    def _undo(self) -> None:
        """Undo the commit of a response that the server rejected."""
        if self._is_committed:
            self.middleware.undo(self.transactions)

    def _send(self, data: bytes) -> None:
        if self._write is not None:
            self._write(data)

    def _is_file(self, body: Iterable[bytes]) -> bool:
        if hasattr(body, "read"):
            return True
        wrapper = self.environ.get("wsgi.file_wrapper", FileWrapper)
        return isinstance(wrapper, type) and isinstance(body, wrapper)

    def read_first_chunk(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Read a lazy body up to its first data, which is when servers send the headers."""
        first_chunks.begin(self)
        try:
            iterator = iter(body)
            for chunk in iterator:
                if self._started is None and chunk:
                    break
                if chunk or self.has_ended:
                    self._chunks = chain((chunk,), iterator) if chunk else iterator
                    break
            if self._started is None:
                raise AssertionError("The application did not call start_response.")
        finally:
            first_chunks.end(self)
        self._body = body
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        """Close a lazy body, whose first chunk has been read."""
        body, self._body, self._chunks = self._body, (), NO_CHUNKS  # it may refer to this object
        close(body)

    # For the warning of `first_chunks`.

    def describe(self) -> str:
        """Return the name of its view for a log line."""
        return self.middleware.describe(self.environ)

    def count(self) -> int:
        """Return the number of its deferred tasks."""
        return sum(len(transaction.tasks) for transaction in self.transactions)


class CommitAtEnd(PendingResponse):
    """A response that is sent without delay; its transactions end after it."""

    _body: Iterable[bytes] = ()
    _iterator: Iterator[bytes] | None = None
    _missing: int | None = None
    """How many bytes of Content-Length are missing; None without this header."""
    _read_ahead: bytes | None = None

    def start(self, status: str, headers: Headers, exc_info: ExcInfo = None, /) -> Write:
        """The `start_response` callable of the application."""
        check_head(status, headers)  # a server may reject them without raising
        optional = (exc_info,) if exc_info else ()
        write = self.start_response(status, headers, *optional)
        self._started = (status, headers)
        self._failure = exc_info[1] if exc_info else None
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self._missing = int(lengths[0]) if lengths and lengths[0].isdecimal() else None
        return write

    def answer(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return this object, which iterates over *body* and detects its end."""
        self._body = body
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._read_ahead is not None:
            chunk, self._read_ahead = self._read_ahead, None
            return chunk
        chunk = self._read()
        if self._missing is not None:
            self._missing -= len(chunk)
            # Some clients, such as Flask's test client, read no more than Content-Length.
            if self._missing <= 0:
                with suppress(StopIteration):
                    self._read_ahead = self._read()
        return chunk

    def _read(self) -> bytes:
        # Active for one chunk only: between two chunks this thread may serve other requests.
        try:
            with self.transactions[0].active():
                if self._iterator is None:
                    self._iterator = iter(self._body)
                return next(self._iterator)
        except StopIteration:
            self.end_transactions()
            raise
        except BaseException as error:
            self.middleware.discard(self.transactions, error)
            raise

    def close(self) -> None:
        """Close the body and end the transactions; if the client disconnected, the status decides."""
        try:
            with self.transactions[0].active():
                close(self._body)
        except BaseException as error:
            self.middleware.discard(self.transactions, error)
            raise
        self.end_transactions()

    def end_transactions(self) -> None:
        """End the transactions, unless they have ended."""
        if not self.middleware.has_work(self.transactions):
            return
        if self._started is None or self._failure is not None:
            self.middleware.discard(self.transactions, self._failure)
            self._failure = None  # avoid a reference cycle with this frame
            return
        status, headers = self._started
        self.middleware.end_late(self.transactions, int(status[:3]), headers)


def close(body: Iterable[bytes]) -> None:
    """Call the `close` method of *body*, if it has one."""
    method = getattr(body, "close", None)
    if method is not None:
        method()


def close_quietly(body: Iterable[bytes]) -> None:
    """Close a body that is not sent, and log an error of its `close` method."""
    try:
        close(body)
    except Exception:
        log.exception("closing the body of a response that is not sent failed")
