"""Open a transaction for each ASGI request, and commit it when the response is a success."""

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from logging import Logger, getLogger
from typing import Any

from alligator import Transaction
from alligator.exceptions import BackendError, ResponseReplaced
from alligator.transaction.scope import no_transaction
from alligator.web.http import Response
from alligator.web.idempotency import RequestLine
from alligator.web.middleware import Middleware

from .types import ASGIApp, Message, Receive, Scope, Send

log: Logger = getLogger("alligator")

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


class PendingResponse:
    """A response and the transactions of its request."""

    def __init__(
        self,
        middleware: Middleware[Any],
        transactions: list[Transaction],
        scope: Scope,
        send: Send,
    ) -> None:
        self._middleware = middleware
        self._transactions = transactions
        self._scope = scope
        self._send = send

    is_over: bool = False
    """Whether the transactions have ended, or will end independently of the request."""


class CommitAtStart(PendingResponse):
    """A response whose start is sent after its transactions have ended."""

    _is_ending = False
    _ended: asyncio.Event | None = None
    """Set when the transactions have ended, for other coroutines that send meanwhile."""
    _replaced: ResponseReplaced | None = None
    """Raised by the application's send if another response is sent in place of its own."""
    _error: Exception | None = None
    """The error of a task that ran inline; `end` raises it."""

    def send(self, message: Message) -> Awaitable[None]:
        """The `send` callable of the application: end the transactions when the response starts."""
        if not self.is_over:
            if message["type"] != "http.response.start" or self._is_ending or self._replaced:
                return self._send_in_turn(message)
            for transaction in self._transactions:
                if not transaction.end_if_empty():
                    return self._send_in_turn(message)
            self.is_over = True
        # Returned, not awaited, which saves a coroutine in each request without tasks.
        return self._send(message)

    async def _send_in_turn(self, message: Message) -> None:
        """Send *message* after those before it; end the transactions when the response starts."""
        while self._is_ending:
            if self._ended is None:
                self._ended = asyncio.Event()
            await self._ended.wait()
        if self._replaced is not None:
            raise self._replaced
        if not self.is_over and message["type"] == "http.response.start":
            await self._respond(message)
            return
        await self._send(message)

    async def end(self) -> None:
        """Discard the tasks if the application returned without a response."""
        if self._replaced is None:
            await drop(self._middleware, self._transactions)
        if self._error is not None:
            raise self._error

    def caused(self, error: Exception) -> bool:
        """Return whether *error* of the application is a consequence of `ResponseReplaced`."""
        if self._replaced is None or not _comes_from(error, self._replaced):
            return False
        if not isinstance(error, OSError) and type(error).__name__ != "ClientDisconnect":
            log.warning(
                "the application raised %s after its response was replaced; the client got the "
                "replacement, and no task was queued",
                type(error).__name__,
                exc_info=error,
            )
        return True

    async def _respond(self, start: Message) -> None:
        """End the transactions, and start the response or send a replacement."""
        declared = _read(start)
        self._is_ending = True
        self._replaced = replaced = ResponseReplaced(
            "This response is not sent, because the tasks of its request could not be queued or run."
        )
        try:
            try:
                replacement = await self._middleware.aend(self._transactions, *declared)
            except Exception as error:
                # The error of a task that ran inline. It is raised at the end, so that the
                # application, which succeeded, does not handle it as its own.
                self._error = error
                raise replaced from None
            if replacement is None:
                self._replaced = None
                try:
                    await self._send(start)
                except OSError:  # the client disconnected: the declared status decides
                    raise
                except Exception:  # the server rejects the response, so the client sees a failure
                    await self._middleware.aundo(self._transactions)
                    raise
                return
            for message in _messages(replacement, self._scope["method"]):
                await self._send(message)
        finally:
            self._is_ending = False
            self.is_over = self._replaced is None
            if self._ended is not None:
                self._ended.set()
        raise replaced


class CommitAtEnd(PendingResponse):
    """A response that is sent without delay; its transactions end after it."""

    _start: Message | None = None

    def send(self, message: Message) -> Awaitable[None]:
        """The `send` callable of the application: remember the start of the response."""
        if message["type"] == "http.response.start":
            self._start = message
        return self._send(message)

    async def end(self) -> None:
        """End the transactions after the application has returned."""
        if self._start is None:
            await drop(self._middleware, self._transactions)
        elif self._middleware.has_work(self._transactions):
            declared = _read(self._start)
            self.is_over = True
            await self._middleware.aend_late(self._transactions, *declared)

    def caused(self, error: Exception) -> bool:
        """Return False: this class never raises in `send`."""
        return False


async def drop(middleware: Middleware[Any], transactions: Sequence[Transaction]) -> None:
    """Discard the tasks of an application that returned without a response."""
    try:
        await middleware.adiscard(transactions, answered=False)
    except BackendError as error:
        log.error(
            "tasks with always=True were lost, because the store did not accept them: %s", error
        )


def _read(start: Message) -> tuple[int, list[tuple[str, str]]]:
    # Check the headers in any case: a response that no server can send must fail before the commit.
    headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in start.get("headers", ())]
    for name, value in headers:
        if not name or _ends_a_line(name) or _ends_a_line(value):
            raise ValueError(
                f"No server can send the header {name!r}: the name must not be empty, and neither name "
                "nor value may contain a line break."
            )
    return start["status"], headers


def _ends_a_line(text: str) -> bool:
    return "\n" in text or "\r" in text or "\0" in text


def _messages(answer: Response, method: str) -> tuple[Message, ...]:
    headers = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in answer.headers]
    body = b"" if method == "HEAD" else answer.body
    return (
        {"type": "http.response.start", "status": answer.status, "headers": headers},
        {"type": "http.response.body", "body": body},
    )


def _comes_from(error: BaseException | None, origin: BaseException) -> bool:
    """Return whether *error* was raised because of *origin*; for a group, whether all errors were."""
    if error is None or error is origin:
        return error is not None
    if isinstance(error, BaseExceptionGroup):
        return all(_comes_from(each, origin) for each in error.exceptions)
    return _comes_from(error.__context__ if error.__cause__ is None else error.__cause__, origin)
