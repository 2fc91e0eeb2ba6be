"""The worker's side of its fork server."""

import os
import select
import socket
from contextlib import suppress
from threading import Lock

from .forkserver import COMMAND, SHUT_DOWN, Work, start_fork_server


class ForkServerEnded(Exception):
    """The fork server has ended, so no process can be started or killed any more."""

    def __init__(self) -> None:
        super().__init__("the fork server of this worker has ended")


class ForkServerClient:
    """Starts a fork server whose children do *work*, and sends it commands."""

    def __init__(self, work: Work) -> None:
        self.pid: int
        self.pid, self._socket = start_fork_server(work)
        self._lock = Lock()
        self._numbers = 0

    def new_number(self) -> int:
        """Return a number that no child of this server has."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def send(self, command: bytes, number: int = 0, fds: tuple[int, ...] = ()) -> None:
        """Send *command* about the child *number*; raise `ForkServerEnded` if it cannot arrive."""
        with self._lock:
            try:
                socket.send_fds(self._socket, [COMMAND.pack(command, number)], fds)
            except OSError as error:
                raise ForkServerEnded from error

    def has_ended(self) -> bool:
        """Return whether the fork server has ended."""
        return is_readable(self._socket.fileno(), 0)  # it never sends anything

    def close(self) -> None:
        """Shut the fork server down, and wait until it and its children have ended."""
        with suppress(ForkServerEnded):
            self.send(SHUT_DOWN)
        self._socket.close()
        with suppress(ChildProcessError):  # other code of the program has waited for it
            os.waitpid(self.pid, 0)


def is_readable(fd: int, seconds: float) -> bool:
    """Return whether *fd* can be read, or has reached its end, within *seconds*."""
    poll = select.poll()  # select() accepts no descriptor above 1023
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(int(seconds * 1000)))
