"""Open a transaction for each request, and commit it when the response is a success."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.signals import got_request_exception
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from alligator import Gator, Transaction
from alligator.web import middleware as web
from alligator.web.http import is_websocket
from alligator.web.idempotency import RequestLine

from .configuration import middleware_settings
from .responses import CommitAtEnd, check, has_lazy_body, headers_of, read_first_chunk, replace
from .settings_gator import gator as settings_gator

KEY = "alligator.transaction"
"""The key of ``request.META``, and of an ASGI scope, for the transaction of the first gator."""

ERROR = "_alligator_error"
"""The attribute of a request with the exception for which Django has made a response."""

GetResponse = Callable[[HttpRequest], Any]


class Middleware(web.Middleware[GetResponse]):
    """Django's middleware, which queues the tasks of a request only if its response is a success.

    Ex::

        MIDDLEWARE = ["django_alligator.Middleware", ...]  # the first one

    The transaction of the request is ``request.alligator``. The gator and the arguments of
    `alligator.web.middleware.Middleware` are those of ``settings.ALLIGATOR``, unless a subclass or a
    function passes others. It is called with and without an event loop, and changes no thread.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self,
        get_response: GetResponse,
        gator: Gator | Sequence[Gator] | None = None,
        **settings: Any,
    ) -> None:
        self.awaits = iscoroutinefunction(get_response)
        if gator is None:
            gator, settings = settings_gator, {**middleware_settings(), **settings}
        super().__init__(get_response, gator, **settings)
        if self.awaits:
            markcoroutinefunction(self)
        got_request_exception.connect(_note_error, dispatch_uid="django_alligator")

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer the request."""
        return self._arespond(request) if self.awaits else self._respond(request)

    def _respond(self, request: HttpRequest) -> HttpResponseBase:
        transactions = self._begin(request)
        if not transactions:
            response: HttpResponseBase = self.app(request)
            return response
        try:
            try:
                response = self.app(request)
                if self.commit_at == "start" and has_lazy_body(response):
                    read_first_chunk(response, request, transactions)
            finally:
                self.leave(transactions)
        except BaseException as error:
            self.discard(transactions, error)
            raise
        cause = request.__dict__.pop(ERROR, None)
        if cause is not None:
            self.discard(transactions, cause)
        elif self.commit_at == "end":
            CommitAtEnd(self, transactions, response)
        elif self.has_work(transactions):
            check(response)
            replacement = self.end(transactions, response.status_code, headers_of(response))
            return replace(response, replacement, request)
        return response

    async def _arespond(self, request: HttpRequest) -> HttpResponseBase:
        """Asynchronous version of `_respond`; a stream is not read before it begins."""
        transactions = self._begin(request)
        if not transactions:
            response: HttpResponseBase = await self.app(request)
            return response
        try:
            try:
                response = await self.app(request)
            finally:
                self.leave(transactions)
        except BaseException as error:
            if isinstance(error, GeneratorExit):  # a closed coroutine cannot await
                self.discard(transactions, error)
            else:
                await self.adiscard(transactions, error)
            raise
        cause = request.__dict__.pop(ERROR, None)
        if cause is not None:
            await self.adiscard(transactions, cause)
        elif self.commit_at == "end":
            CommitAtEnd(self, transactions, response)
        elif self.has_work(transactions):
            check(response)
            replacement = await self.aend(transactions, response.status_code, headers_of(response))
            return replace(response, replacement, request)
        return response

    def _begin(self, request: HttpRequest) -> list[Transaction]:
        """Begin the transactions; none for a WebSocket over WSGI, which may be open for days."""
        is_wsgi = not hasattr(request, "scope")
        if is_wsgi and "HTTP_UPGRADE" in request.META and is_websocket(request.META):
            return []
        known = request.META.get(KEY)
        if known is None and not is_wsgi:  # one of ASGI around Django
            known = request.scope.get(KEY)  # type: ignore[attr-defined]
        transactions = self.begin(request, known)
        if transactions:
            request.META[KEY] = transactions[0]
            request.alligator = transactions[0]  # type: ignore[attr-defined]  # documented
        return transactions

    def request_line(self, raw: HttpRequest) -> RequestLine:
        """Return what the key of a request is read from."""
        return RequestLine(raw.method or "", raw.path, partial(_header, raw))


def _header(request: HttpRequest, name: str) -> str:
    value: str = request.headers.get(name, "")
    return value


def _note_error(*, request: HttpRequest | None = None, **_: Any) -> None:
    """Keep an exception that nothing has handled, for which Django makes a response now."""
    if request is not None and KEY in request.META:
        setattr(request, ERROR, sys.exc_info()[1])
