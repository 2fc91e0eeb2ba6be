"""A proxy for SQS that injects faults: it refuses, loses or delays requests, or fails messages."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

STATUS = {"AccessDenied": 403, "ExpiredToken": 403, "ThrottlingException": 400}
"""The HTTP status of some errors of SQS; other errors have 500."""


class Request(NamedTuple):
    """A request of a client."""

    operation: str
    """As in ``SendMessage``."""
    params: dict[str, Any]

    @property
    def queue(self) -> str:
        """The name of the queue in SQS."""
        url: str = self.params.get("QueueUrl", "")
        return str(self.params.get("QueueName", url.rpartition("/")[2]))

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The messages of a batch."""
        entries: list[dict[str, Any]] = self.params.get("Entries", [])
        return entries


class Refuse(NamedTuple):
    """Return an error without asking SQS."""

    code: str = "ThrottlingException"


class Lose(NamedTuple):
    """Close the connection without a reply, after or *before* SQS has processed the request."""

    before: bool = False


class Hold(NamedTuple):
    """Forward the request once *until* is set."""

    until: threading.Event
    seconds: float | None = None
    """Forward it after so many seconds in any case."""


class Fail(NamedTuple):
    """Do not forward the messages with these *ids* of a batch, and report them as failed."""

    ids: frozenset[str]
    code: str = "InternalError"
    is_senders: bool = False


Fault = Refuse | Lose | Hold | Fail | None
Rule = Callable[[Request], Fault]


class SqsProxy:
    """An HTTP proxy for the server at *dsn*. The first of its `rules` that returns a fault decides."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn.removeprefix("sqs+"))
        self._host, self._port = parts.hostname or "", parts.port
        self.rules: list[Rule] = []
        self.seen: list[Request] = []
        """All requests."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy._handle(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client has closed its connection

        self._server = Server(("127.0.0.1", 0), Handler)
        self.dsn = f"sqs+http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def rule(self, rule: Rule) -> Iterator[None]:
        """Apply *rule* during the block."""
        self.rules.insert(0, rule)
        try:
            yield
        finally:
            self.rules.remove(rule)

    def count(self, operation: str) -> int:
        """Return the number of requests for *operation*."""
        return sum(request.operation == operation for request in self.seen)

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        operation = handler.headers.get("X-Amz-Target", "").rpartition(".")[2]
        request = Request(operation, json.loads(body or b"{}"))
        self.seen.append(request)
        faults = (rule(request) for rule in self.rules)
        fault = next((fault for fault in faults if fault is not None), None)
        if isinstance(fault, Hold):
            fault.until.wait(fault.seconds)
        if isinstance(fault, Refuse):
            status = STATUS.get(fault.code, 500)
            self._answer(handler, status, {"__type": fault.code, "message": "by the proxy"})
        elif isinstance(fault, Lose) and fault.before:
            self._hang_up(handler)
        elif isinstance(fault, Fail):
            self._fail_some(handler, request, fault)
        else:
            status, reply = self._ask(handler, body)
            if isinstance(fault, Lose):
                self._hang_up(handler)
            else:
                self._answer(handler, status, reply)

    def _fail_some(self, handler: BaseHTTPRequestHandler, request: Request, fault: Fail) -> None:
        kept = [entry for entry in request.entries if entry["Id"] not in fault.ids]
        status = 200
        reply: dict[str, Any] = {"Successful": []}
        if kept:
            status, reply = self._ask(
                handler, json.dumps({**request.params, "Entries": kept}).encode()
            )
        failed = [
            {"Id": entry["Id"], "Code": fault.code, "SenderFault": fault.is_senders, "Message": ""}
            for entry in request.entries
            if entry["Id"] in fault.ids
        ]
        self._answer(handler, status, {**reply, "Failed": [*reply.get("Failed", []), *failed]})

    def _ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, Any]]:
        headers = {
            name: value
            for name, value in handler.headers.items()
            if name.lower() not in ("content-length", "connection", "expect")
        }
        server = HTTPConnection(self._host, self._port, timeout=60)
        try:
            server.request("POST", handler.path, body, headers)
            reply = server.getresponse()
            return reply.status, json.loads(reply.read() or b"{}")
        except (OSError, HTTPException):
            return 503, {"__type": "ServiceUnavailable"}
        finally:
            server.close()

    def _answer(self, handler: BaseHTTPRequestHandler, status: int, reply: dict[str, Any]) -> None:
        body = json.dumps(reply).encode()
        with suppress(OSError):
            handler.send_response(status)
            handler.send_header("Content-Type", "application/x-amz-json-1.0")
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

    def _hang_up(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        with suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)


def storm(
    random: Random, *, throttled: float = 0.2, lost: float = 0.05, failed: float = 0.1
) -> Rule:
    """Return a rule that refuses or loses requests, or fails single messages, at random."""

    def decide(request: Request) -> Fault:
        number = random.random()
        if number < throttled:
            return Refuse(random.choice(["ThrottlingException", "InternalError"]))
        if number < throttled + lost:
            return Lose(before=random.random() < 0.5)
        ids = frozenset(entry["Id"] for entry in request.entries if random.random() < failed)
        return Fail(ids) if ids else None

    return decide
