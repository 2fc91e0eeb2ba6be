"""Liveness and readiness of workers for container probes: a health file and a health port."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from json import dumps
from math import inf
from selectors import EVENT_READ, PollSelector
from threading import Thread
from time import monotonic, sleep
from typing import NamedTuple

from .._runtime.log import log
from ..constants import FAIL, HEALTH_JSON, PASS
from ..exceptions import ConfigurationError

TOUCH_SECONDS = 5.0
"""Interval at which a live worker touches its health file."""

MAX_CONNECTIONS = 16
"""Maximum of open connections. One more closes the oldest, so that a probe is always answered."""

MAX_SECONDS = 5.0
"""Maximum duration of a connection."""

MAX_REQUEST = 16 * 1024
"""Maximum size of a request, in bytes."""

RETRY_SECONDS = 0.1
"""Pause after a connection could not be accepted because no file descriptor was left."""

ANSWERS: dict[bool | None, tuple[str, dict[str, str]]] = {
    True: ("200 OK", {"status": PASS}),
    False: ("503 Service Unavailable", {"status": FAIL}),
    None: ("404 Not Found", {}),
}


class WorkerHealth(NamedTuple):
    """Liveness and readiness of a worker."""

    is_alive: bool
    """Whether it sends heartbeats and at least one thread is not stuck. If False, a restart helps."""
    store_answers: bool
    """Whether its store answered the latest heartbeat. If False, a restart does not help."""


class _Connection:
    __slots__ = ("ends_at", "is_answered", "received")

    def __init__(self) -> None:
        self.ends_at = monotonic() + MAX_SECONDS
        self.received = bytearray()
        self.is_answered = False


class Liveness:
    """The health file and the health port, both optional; *read_health* returns what they show.

    It has no thread, and no client can block it. Its owner calls `serve` and may fork between two
    calls. Raises `ConfigurationError` if the file or the port cannot be used.
    """

    def __init__(
        self,
        read_health: Callable[[], WorkerHealth],
        path: str | None = None,
        port: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._read = read_health
        self._path = None if path is None else os.path.abspath(path)  # a task may call chdir
        self._touch_at = inf if path is None else 0.0
        self._selector = PollSelector()
        self._listener: socket.socket | None = None
        self._open: dict[socket.socket, _Connection] = {}
        """The open connections, oldest first."""
        self.port: int = 0
        try:
            self._touch()
        except OSError as error:
            raise ConfigurationError(
                f"--health-file: {path} cannot be written ({error.strerror}). Name a file in a "
                "folder that this user may write to."
            ) from error
        if port is not None:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                self._listener = socket.create_server((host, port), family=family)
            except OSError as error:
                self.close()
                raise ConfigurationError(
                    f"--health-port {port}: {error.strerror}. Name another port; each of several "
                    "workers on one host needs its own."
                ) from error
            self._listener.setblocking(False)
            self._selector.register(self._listener, EVENT_READ, self._accept)
            self.port = self._listener.getsockname()[1]

    def serve(self, wake: socket.socket, seconds: float | None = None) -> bool:
        """Touch the file and answer clients until *wake* is readable; return False after *seconds*."""
        end = inf if seconds is None else monotonic() + seconds
        self._selector.register(wake, EVENT_READ)
        try:
            while True:
                with suppress(OSError):  # such as a full disk; the file ages, and the probe fails
                    self._touch()
                now = monotonic()
                self._drop_overdue(now)
                due = min(end, self._touch_at, *(state.ends_at for state in self._open.values()))
                found = self._selector.select(None if due == inf else max(0.0, due - now))
                for key, _ in found:
                    if key.data is not None:
                        key.data(key.fileobj)
                if any(key.fileobj is wake for key, _ in found):
                    return True
                if monotonic() >= end:
                    return False
        finally:
            self._selector.unregister(wake)

    @contextmanager
    def served(self) -> Iterator[None]:
        """Serve in a thread during the block; close at its end."""
        ours, theirs = socket.socketpair()
        thread = Thread(target=self.serve, args=(theirs,), name="alligator-liveness", daemon=True)
        with ours, theirs:
            thread.start()
            try:
                yield
            finally:
                ours.send(b"\0")
                thread.join()
                self.close()

    def release(self) -> None:
        """Close the sockets but keep the file; for a forked child, whose parent continues to serve."""
        for each in (*self._open, *([self._listener] if self._listener else ())):
            each.close()

    def close(self) -> None:
        """Stop serving: close the port and remove the file."""
        self.release()
        if self._path is not None:
            with suppress(OSError):
                os.unlink(self._path)

    def _read_health(self) -> WorkerHealth:
        try:
            return self._read()
        except Exception:
            log.exception("cannot determine the health of the worker; reporting it as not alive")
            return WorkerHealth(is_alive=False, store_answers=False)

    def _touch(self) -> None:
        if self._path is None or monotonic() < self._touch_at:
            return
        self._touch_at = monotonic() + TOUCH_SECONDS
        health = self._read_health()
        if health.is_alive:
            answers = "answers" if health.store_answers else "does not answer"
            _replace_text(self._path, f"the store {answers}\n")

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            sleep(RETRY_SECONDS)
            return
        connection.setblocking(False)
        self._open[connection] = _Connection()
        self._selector.register(connection, EVENT_READ, self._receive)
        if len(self._open) > MAX_CONNECTIONS:
            self._drop(next(iter(self._open)))

    def _drop_overdue(self, now: float) -> None:
        for each in [each for each, state in self._open.items() if state.ends_at <= now]:
            self._drop(each)

    def _drop(self, connection: socket.socket) -> None:
        del self._open[connection]
        self._selector.unregister(connection)
        connection.close()

    def _receive(self, connection: socket.socket) -> None:
        state = self._open.get(connection)
        if state is None:  # dropped after the selector reported it
            return
        try:
            data = connection.recv(MAX_REQUEST)
        except OSError:
            data = b""
        if not data or len(state.received) > MAX_REQUEST:
            self._drop(connection)
        elif not state.is_answered:
            state.received += data
            if b"\r\n\r\n" in state.received or b"\n\n" in state.received:
                state.is_answered = True
                with suppress(OSError):
                    # Closed when the client closes: an earlier close could discard the answer.
                    connection.send(self._answer(bytes(state.received)))
                    connection.shutdown(socket.SHUT_WR)

    def _answer(self, request: bytes) -> bytes:
        method, path = [*request.partition(b"\n")[0].split(), b"", b""][:2]
        health = self._read_health()
        passes = {
            b"/health/live": health.is_alive,
            b"/health/ready": health.is_alive and health.store_answers,
        }.get(path if method in (b"GET", b"HEAD") else b"")
        status, document = ANSWERS[passes]
        body = dumps(document).encode() + b"\n"
        head = (
            f"HTTP/1.1 {status}\r\n"
            f"Content-Type: {HEALTH_JSON}\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == b"HEAD" else body)


def _replace_text(path: str, text: str) -> None:
    """Replace a file as a whole: a probe that reads it meanwhile gets the old text or the new one."""
    draft = f"{path}.new"
    with open(draft, "w", encoding="utf-8", opener=_open_no_link) as file:
        file.write(text)
    os.replace(draft, path)


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)
