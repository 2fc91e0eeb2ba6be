"""Connect Django's responses with the transactions of their requests."""

from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from alligator import Transaction
from alligator.web import middleware as web
from alligator.web.http import Response
from wsgi_alligator.first_chunks import first_chunks
from wsgi_alligator.heads import check_head

Headers = list[tuple[str, str]]


def headers_of(response: HttpResponseBase) -> Headers:
    """Return the headers of a response, with those of its cookies."""
    cookies = [("Set-Cookie", each.OutputString()) for each in response.cookies.values()]
    return [*response.items(), *cookies]


def check(response: HttpResponseBase) -> None:
    """Raise `ValueError` if no server can send the head of the response."""
    check_head(f"{response.status_code} {response.reason_phrase}", headers_of(response))


def replace(
    response: HttpResponseBase, replacement: Response | None, request: HttpRequest
) -> HttpResponseBase:
    """Return the response to send: *response*, or what replaces it."""
    if replacement is None:
        return response
    status, headers, body = replacement
    sent = HttpResponse(
        b"" if request.method == "HEAD" else body, status=status, headers=dict(headers)
    )
    # Files and generators of the original; its close() would end the request for Django.
    sent._resource_closers += response._resource_closers  # type: ignore[attr-defined]
    return sent


def has_lazy_body(response: HttpResponseBase) -> bool:
    """Return whether code of the view has yet to make the body, in a thread."""
    if not isinstance(response, StreamingHttpResponse) or response.is_async:
        return False
    return not _is_file(response)


def _is_file(response: HttpResponseBase) -> bool:
    return getattr(response, "file_to_stream", None) is not None  # that of a FileResponse


def read_first_chunk(
    response: HttpResponseBase, request: HttpRequest, transactions: Sequence[Transaction]
) -> None:
    """Read a stream up to its first data, which is when servers send the headers."""
    assert isinstance(response, StreamingHttpResponse)
    waiting = _FirstChunk(request, transactions)
    first_chunks.begin(waiting)
    try:
        content: Any = response.streaming_content
        chunks: Iterator[bytes] = iter(content)
        first = next((chunk for chunk in chunks if chunk), b"")
    finally:
        first_chunks.end(waiting)
    response.streaming_content = chain((first,), chunks) if first else chunks


class _FirstChunk:
    """A stream without a first chunk, for the warning of `first_chunks`."""

    def __init__(self, request: HttpRequest, transactions: Sequence[Transaction]) -> None:
        self._request = request
        self._transactions = transactions

    def describe(self) -> str:
        """Return the name of its view for a log line."""
        found = self._request.resolver_match
        name = f"{self._request.method} {ascii(self._request.path)[1:-1]:.200}"
        return f"{name} ({found.view_name!a:.100})" if found else name

    def count(self) -> int:
        """Return the number of its deferred tasks."""
        return sum(len(transaction.tasks) for transaction in self._transactions)


class CommitAtEnd:
    """Ends the transactions when a response is closed, which Django does after it was sent."""

    def __init__(
        self,
        middleware: web.Middleware[Any],
        transactions: Sequence[Transaction],
        response: HttpResponseBase,
    ) -> None:
        check(response)  # a server may reject them without raising
        self._middleware = middleware
        self._transactions = transactions
        self._declared = response.status_code, headers_of(response)
        self._close: Callable[[], object] = response.close
        if isinstance(response, StreamingHttpResponse) and not _is_file(response):
            content: Any = response.streaming_content
            response.streaming_content = (
                self._read_async(content) if response.is_async else self._read(content)
            )
        response.close = self.close  # type: ignore[method-assign]

    # Active for one chunk only: between two chunks the thread or the task may do something else.

    def _read(self, content: Iterator[bytes]) -> Iterator[bytes]:
        chunks = iter(content)
        while True:
            try:
                with self._transactions[0].active():
                    chunk = next(chunks)
            except StopIteration:
                return
            except BaseException as error:
                self._middleware.discard(self._transactions, error)
                raise
            yield chunk

    async def _read_async(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        chunks = aiter(content)
        while True:
            try:
                with self._transactions[0].active():
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except CancelledError:  # the client disconnected: the declared status decides
                raise
            except BaseException as error:
                await self._middleware.adiscard(self._transactions, error)
                raise
            yield chunk

    def close(self) -> None:
        """Close the response and end the transactions."""
        try:
            with self._transactions[0].active():
                self._close()
        except BaseException as error:
            self._middleware.discard(self._transactions, error)
            raise
        if self._middleware.has_work(self._transactions):
            self._middleware.end_late(self._transactions, *self._declared)
