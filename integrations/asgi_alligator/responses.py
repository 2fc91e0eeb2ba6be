"""What becomes of an ASGI response while its transactions are not settled."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from logging import Logger, getLogger
from typing import Any

from alligator import Transaction
from alligator.exceptions import BackendError
from alligator.http import Response
from alligator.middleware import Middleware, away

from .types import Message, Scope, Send

log: Logger = getLogger("alligator")


class Unsettled:
    """A response, and the transactions that end with it."""

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


class HeldResponse(Unsettled):
    """A response of which nothing leaves before its transactions are settled."""

    _held: Sequence[Message] = ()
    is_over: bool = False
    """Whether nothing is left to do at the end of the application."""
    _settling = False
    _settled: asyncio.Event | None = None
    """What another coroutine waits for that sends while they are being settled."""
    _is_settled = False
    _is_replaced = False
    _error: Exception | None = None
    _gone: OSError | None = None

    async def send(self, message: Message) -> None:
        """Be the application's send."""
        if self._is_settled:
            if not self._is_replaced:
                await self._send(message)
            elif message.get("more_body") and _tells_of_disconnects(self._scope):
                self._gone = OSError("the client has been answered: its tasks cannot be queued")
                raise self._gone
        elif message["type"] == "http.response.start":
            self._held = [*self._held, message]
        elif not self._held:
            await self._send(message)
        elif message["type"] == "http.response.debug":
            self._held = [*self._held, message]
        elif self._settling:  # another coroutine of the application sends as well
            if self._settled is None:
                self._settled = asyncio.Event()
            await self._settled.wait()
            await self.send(message)
        else:
            if self._middleware.has_work(self._transactions):
                await self._settle()
            else:
                self.is_over = self._is_settled = True
            if not self._is_replaced:
                for held in self._held:
                    await self._send(held)
                await self._send(message)

    async def end(self) -> None:
        """Note that the application has returned."""
        if not self._is_settled:
            if not self._held:
                await drop(self._middleware, self._transactions)
                return
            if self._middleware.has_work(self._transactions):
                await self._settle()
            if not self._is_replaced:
                for held in self._held:
                    await self._send(held)
        if self._error is not None:
            raise self._error

    def caused(self, error: BaseException) -> bool:
        """Whether the application fails only because it was told that nobody listens any more."""
        return self._gone is not None and self._gone in (error, error.__context__)

    async def _settle(self) -> None:
        """End the transactions, and send another response in place of this one if it has to be."""
        self._settling = True
        try:
            replacement = await self._middleware.asettle(self._transactions, *_read(self._held[0]))
            self._is_replaced = replacement is not None
        except Exception as error:
            # Of a task that ran here: it is raised at the end, where the application, for which
            # all went well, cannot take it for its own.
            self._error = error
            self._is_replaced = True
            return
        finally:
            self._is_settled = True
            if self._settled is not None:
                self._settled.set()
        if replacement is not None:
            for message in _messages(replacement, self._scope["method"]):
                await self._send(message)


class PassedResponse(Unsettled):
    """A response that leaves as it comes; its transactions are settled at its end."""

    is_over: bool = False
    _start: Message | None = None

    async def send(self, message: Message) -> None:
        """Be the application's send."""
        if message["type"] == "http.response.start":
            self._start = message
        await self._send(message)

    async def end(self) -> None:
        """Note that the application has returned."""
        if self._start is None:
            await drop(self._middleware, self._transactions)
        elif self._middleware.has_work(self._transactions):
            status, headers = _read(self._start)
            settle = partial(self._middleware.settle_late, self._transactions, status, headers)
            await away(self._transactions, settle)

    def caused(self, error: BaseException) -> bool:
        """Whether the application fails because of what it was told here: never."""
        return False


async def drop(middleware: Middleware[Any], transactions: Sequence[Transaction]) -> None:
    """Discard the tasks of an application that returned without an answer."""
    try:
        await away(transactions, partial(middleware.discard, transactions))
    except BackendError as error:
        log.error("tasks with always=True were lost: %s", error)


def _read(start: Message) -> tuple[int, Iterable[tuple[str, str]]]:
    return start["status"], map(_text, start.get("headers", ()))  # few want to know


def _text(header: tuple[bytes, bytes]) -> tuple[str, str]:
    name, value = header
    return name.decode("latin-1"), value.decode("latin-1")


def _messages(answer: Response, method: str) -> tuple[Message, ...]:
    headers = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in answer.headers]
    body = b"" if method == "HEAD" else answer.body
    return (
        {"type": "http.response.start", "status": answer.status, "headers": headers},
        {"type": "http.response.body", "body": body},
    )


def _tells_of_disconnects(scope: Scope) -> bool:
    """Whether the application expects an OSError when nobody listens any more: since ASGI 2.4."""
    version = scope.get("asgi", {}).get("spec_version", "2.0")
    return [int(part) for part in version.split(".")] >= [2, 4]
