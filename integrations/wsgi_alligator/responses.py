"""What becomes of a WSGI response while its transactions are not settled."""

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from itertools import chain
from logging import Logger, getLogger
from types import TracebackType
from typing import Any
from wsgiref.types import StartResponse

from alligator import Transaction
from alligator.http import Response
from alligator.middleware import Middleware

log: Logger = getLogger("alligator")

Headers = list[tuple[str, str]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None
Write = Callable[[bytes], object]


class Unsettled:
    """A response, and the transactions that end with it."""

    _started: tuple[str, Headers] | None = None

    def __init__(
        self,
        middleware: Middleware[Any],
        transactions: list[Transaction],
        method: str,
        start_response: StartResponse,
    ) -> None:
        self.middleware = middleware
        self.transactions = transactions
        self.method = method
        self.start_response = start_response


class HeldResponse(Unsettled):
    """A response of which nothing leaves before its transactions are settled."""

    exc_info: ExcInfo = None
    replacement: Response | None = None
    is_settled: bool = False
    _write: Write | None = None

    def start(self, status: str, headers: Headers, exc_info: ExcInfo = None, /) -> Write:
        """Be the application's start_response."""
        if self.replacement is not None:
            if exc_info and exc_info[1]:
                raise exc_info[1].with_traceback(exc_info[2])  # as the headers are sent
        elif self.is_settled:
            self._write = self.start_response(status, headers, exc_info)
        elif self._started is not None and not exc_info:
            raise AssertionError("start_response was called a second time without exc_info.")
        else:
            self._started = (status, headers)
            self.exc_info = exc_info
        return self.write_through

    def write_through(self, data: bytes) -> None:
        """Send what an application of the old kind writes, once the response may begin."""
        if not self.is_settled:
            for chunk in self.settle():
                self._send(chunk)
        if self.replacement is None:
            self._send(data)

    def answer(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return what the server is to send: *body* as it is, whenever that is possible."""
        if self._started is None:
            body = self.begun(body)
        replacing = [] if self.is_settled else self.settle()
        if self.replacement is None:
            return body
        close_quietly(body)
        return replacing

    def settle(self) -> list[bytes]:
        """End the transactions and begin the response, or another, whose body is returned."""
        if self._started is None:
            raise AssertionError("write was called before start_response.")
        self.is_settled = True
        status, headers = self._started
        if self.middleware.has_work(self.transactions):
            code = int(status.partition(" ")[0])
            self.replacement = self.middleware.settle(self.transactions, code, headers)
        if self.replacement is not None:
            code, headers, content = self.replacement
            self._write = self.start_response(f"{code} {HTTPStatus(code).phrase}", headers[:])
            return [] if self.method == "HEAD" else [content]
        if self.exc_info is None:
            self._write = self.start_response(status, headers)
        else:
            self._write = self.start_response(status, headers, self.exc_info)
            self.exc_info = None
        return []

    def _send(self, data: bytes) -> None:
        if self._write is not None:
            self._write(data)

    def begun(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Pull from a lazy application until it has called start_response."""
        iterator = iter(body)
        chunks: list[bytes] = []
        while self._started is None:
            chunk = next(iterator, None)
            if self._started is None and chunk != b"":
                raise AssertionError("The application did not call start_response.")
            if chunk:
                chunks.append(chunk)
        return _Begun(body, chunks, iterator)


class _Begun:
    """A body of which the first chunks have been pulled."""

    def __init__(
        self, body: Iterable[bytes], chunks: list[bytes], iterator: Iterator[bytes]
    ) -> None:
        self._chunks = chain(chunks, iterator)
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        close(self._body)


class PassedResponse(Unsettled):
    """A response that leaves as it comes; its transactions are settled at its end."""

    _body: Iterable[bytes] = ()
    _iterator: Iterator[bytes] | None = None

    def start(self, status: str, headers: Headers, exc_info: ExcInfo = None, /) -> Write:
        """Be the application's start_response."""
        optional = (exc_info,) if exc_info else ()
        write = self.start_response(status, headers, *optional)
        self._started = (status, headers)
        return write

    def answer(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return what the server is to send: this, as the end is what has to be seen."""
        self._body = body
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        # Bound for one step only: between two of them the server is at work, for anybody.
        try:
            with self.transactions[0].active():
                if self._iterator is None:
                    self._iterator = iter(self._body)
                return next(self._iterator)
        except StopIteration:
            self.settle()
            raise
        except BaseException as error:
            self.middleware.discard(self.transactions, error)
            raise

    def close(self) -> None:
        """Close the body; a client that has left is no reason to undo what was declared."""
        try:
            with self.transactions[0].active():
                close(self._body)
        except BaseException as error:
            self.middleware.discard(self.transactions, error)
            raise
        self.settle()

    def settle(self) -> None:
        """End the transactions, unless that has been done."""
        if not self.middleware.has_work(self.transactions):
            return
        if self._started is None:
            self.middleware.discard(self.transactions)
            return
        status, headers = self._started
        self.middleware.settle_late(self.transactions, int(status.partition(" ")[0]), headers)


def close(body: Iterable[bytes]) -> None:
    """Tell *body* that no more of it will be asked for."""
    method = getattr(body, "close", None)
    if method is not None:
        method()


def close_quietly(body: Iterable[bytes]) -> None:
    """Close what is not sent; it has failed already, or does not matter any more."""
    try:
        close(body)
    except Exception:
        log.exception("a response that is not sent could not be closed")
