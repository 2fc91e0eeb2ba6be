"""One process of isolated tasks, as the worker sees it."""

import os
import select
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from math import inf
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic

from ...exceptions import NotRunnable
from .client import ForkServerClient, ForkServerEnded, is_readable
from .forkserver import KILL, NOT_STARTED, START, STATUS
from .messages import Message, MessageBuffer, send

SEND_SECONDS = 30.0
"""How long a process may take to receive a request."""

MAX_TRACE = 4_000
"""How many characters of the traceback of a crash are kept."""

MAX_POLL = 3600.0
"""The longest single wait, in seconds: the system allows no more than about 24 days."""

GO_ON_SECONDS = 0.1
"""Interval at which a process that may be given up is checked."""


class ProcessDied(Exception):
    """A process of isolated tasks has died, or was killed."""

    def __init__(
        self, how: str, *, has_started: bool, is_overdue: bool, is_garbled: bool, trace: str
    ) -> None:
        super().__init__(how)
        self.has_started = has_started
        """Whether it had started the task."""
        self.is_overdue = is_overdue
        """Whether it was killed because of the time limit."""
        self.is_garbled = is_garbled
        """Whether it was killed because it sent something that is not a message."""
        self.trace = trace
        """Where Python crashed; empty if unknown."""


class ChildProcess:
    """One process that runs isolated tasks, one after the other.

    Raises `OSError` if this process has no free file descriptor, `ForkServerEnded` without a server.
    """

    def __init__(self, server: ForkServerClient) -> None:
        self._server = server
        self.number: int = server.new_number()
        with ExitStack() as undo, ExitStack() as handed_over:
            self._channel, theirs = socket.socketpair()
            undo.callback(self._channel.close)
            handed_over.callback(theirs.close)
            self._status, status = os.pipe()
            undo.callback(os.close, self._status)
            handed_over.callback(os.close, status)
            self._trace = undo.enter_context(TemporaryFile())
            server.send(START, self.number, (status, theirs.fileno(), self._trace.fileno()))
            undo.pop_all()
        self._buffer = MessageBuffer()
        self._channel.settimeout(SEND_SECONDS)
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        self._poll.register(self._status, select.POLLIN)

    def has_died(self) -> bool:
        """Return whether it has died since its last task."""
        return bool(self._poll.poll(0))

    def ask(
        self, request: Message, seconds: float | None, go_on: Callable[[], bool] | None = None
    ) -> Message:
        """Send *request*, and return the answer; kill the process after *seconds*.

        It is killed as well when *go_on* returns False, which is called again and again.
        Raises `ProcessDied` if it dies or is killed, `NotRunnable` if it could not be started.
        """
        nonce = os.urandom(8).hex()
        replies: list[Message] = []  # the first says that the task starts, the second is the answer
        end = inf if seconds is None else monotonic() + seconds
        try:
            send(self._channel, {**request, "nonce": nonce})
        except OSError:
            raise self._death(has_started=False) from None
        while True:
            left = end - monotonic()
            ready = self._wait(left if go_on is None else min(left, GO_ON_SECONDS))
            if self._channel.fileno() in ready:
                has_died = not self._receive(nonce, replies)
                if len(replies) == 2:
                    return replies[1]
            else:
                has_died = bool(ready)
            if has_died:
                raise self._death(has_started=bool(replies))
            if left <= 0 or (go_on is not None and not go_on()):
                raise self._death(has_started=True, is_overdue=True)

    def close(self) -> None:
        """Close the channel: the process ends after its current task."""
        self._channel.close()
        self._trace.close()
        if self._status >= 0:
            os.close(self._status)
            self._status = -1

    def kill(self) -> None:
        """Kill the process and what its tasks have started; may raise `ForkServerEnded`."""
        self._server.send(KILL, self.number)

    def _wait(self, seconds: float) -> set[int]:
        """Wait until the channel or the status is readable; return their descriptors."""
        pause = max(0.0, min(seconds, MAX_POLL))
        return {fd for fd, _ in self._poll.poll(int(pause * 1000) + 1)}

    def _receive(self, nonce: str, replies: list[Message]) -> bool:
        """Append received replies until there are two; return whether the channel is open."""
        try:
            data = self._channel.recv(65536)
        except OSError:
            data = b""
        self._buffer.add(data)
        try:
            self._take_replies(nonce, replies)
        except (ValueError, RecursionError):
            raise self._death(has_started=bool(replies), is_garbled=True) from None
        return bool(data)

    def _take_replies(self, nonce: str, replies: list[Message]) -> None:
        for message in self._buffer.messages():
            # Another nonce: from a process that an earlier task has left behind.
            if message.get("nonce") == nonce:
                replies.append(message)
            if len(replies) == 2:
                break

    def _death(
        self, *, has_started: bool, is_overdue: bool = False, is_garbled: bool = False
    ) -> ProcessDied:
        """Collect the process, which is killed if necessary, and return the error to be raised."""
        code = self._exit_code(kill=is_overdue or is_garbled)
        self._trace.seek(0)
        return ProcessDied(
            describe_exit(code),
            has_started=has_started,
            is_overdue=is_overdue,
            is_garbled=is_garbled,
            trace=_without_own_frames(self._trace.read().decode(errors="replace")),
        )

    def _exit_code(self, *, kill: bool) -> int:
        """Return the exit code; kill the process first if *kill*, or if it does not end by itself.

        Raises `NotRunnable` if it was never started, and `ForkServerEnded`.
        """
        try:
            if kill or not is_readable(self._status, 1.0):
                self.kill()
            status = os.read(self._status, STATUS.size)
        except (ForkServerEnded, OSError):
            status = b""
        if len(status) < STATUS.size and self._server.has_ended():
            raise ForkServerEnded
        code: int = STATUS.unpack(status)[0] if len(status) == STATUS.size else NOT_STARTED
        if code == NOT_STARTED:
            raise NotRunnable(
                "no process for tasks can be started: the system has no free process, memory or file "
                "descriptor"
            )
        return code


def describe_exit(code: int) -> str:
    """Return how a process with this exit code has ended; a negative one is a signal."""
    if code >= 0:
        return f"its process ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    perhaps = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
    return f"its process was killed by {name}{perhaps}"


def _without_own_frames(trace: str) -> str:
    """Return the stack of a crash, innermost frame first, without the frames of Alligator."""
    own = f'File "{Path(__file__).parents[2]}{os.sep}'
    kept = []
    is_own = False
    for line in trace.splitlines():
        is_own = line.startswith("  File") and (is_own or own in line)
        if not is_own:
            kept.append(line)
    return "\n".join(kept)[:MAX_TRACE]
