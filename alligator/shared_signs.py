"""Show one sign for several workers: all of them live, or somebody has to look."""

import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from math import inf
from mmap import mmap
from threading import Event, Thread
from time import monotonic

from .exceptions import ConfigurationError
from .signs import HealthFile, Sign

POST_SECONDS = 1.0
"""How often each worker says how it is."""

SILENT_SECONDS = 15.0
"""A worker that has said nothing for so long does not live; one that died is replaced by then."""

_SIGN = struct.Struct("d??")
_SIZE = _SIGN.size


class SharedSigns:
    """The signs of *count* worker processes, in memory that they share with those that fork them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._memory = mmap(-1, count * _SIZE)
        for place in range(count):
            self.post(place, Sign(lives=True, store=False))  # it has yet to start

    def post(self, place: int, sign: Sign) -> None:
        """Note how the worker at that *place* is."""
        self._write(place, monotonic(), sign)

    def _write(self, place: int, moment: float, sign: Sign) -> None:
        _SIGN.pack_into(self._memory, place * _SIZE, moment, *sign)

    def sign(self) -> Sign:
        """Say how all of them are: as the worst of them."""
        now = monotonic()
        found = [_SIGN.unpack_from(self._memory, place * _SIZE) for place in range(self._count)]
        lives = all(lives and now - posted < SILENT_SECONDS for posted, lives, _ in found)
        return Sign(lives, all(store for *_, store in found))

    @contextmanager
    def posting(self, place: int, ask: Callable[[], Sign]) -> Iterator[None]:
        """Post what *ask* says every second, from a thread, during the block.

        Of a worker that has ended well after it nothing more is expected.
        """
        ended = Event()

        def run() -> None:
            while not ended.is_set():
                self.post(place, ask())
                ended.wait(POST_SECONDS)

        thread = Thread(target=run, name="alligator-sign", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        self._write(place, inf, Sign(lives=True, store=True))

    @contextmanager
    def shown(self, path: str | None, port: int | None, host: str) -> Iterator[None]:
        """Show the sign by a file and over HTTP during the block.

        That is done by a process of its own, for who forks must have no threads; should it end, the
        probes fail. Raises `ConfigurationError` when the file or the port cannot be used.
        """
        if path is None and port is None:
            yield
            return
        here, there = socket.socketpair()
        pid = os.fork()
        if not pid:
            here.close()
            self._be_shower(there, path, port, host)
        there.close()
        try:
            trouble = here.recv(4096).decode().strip()
            if trouble:
                raise ConfigurationError(trouble)
            yield
        finally:
            with suppress(OSError):
                # To close it would not do: what the workers have left behind may have it, too.
                here.shutdown(socket.SHUT_WR)
            here.close()
            os.waitpid(pid, 0)

    def _be_shower(
        self, parent: socket.socket, path: str | None, port: int | None, host: str
    ) -> None:
        # Those that are told to end may take their time, and are to be seen meanwhile.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        try:
            with ExitStack() as stack:
                try:
                    if path is not None:
                        stack.enter_context(closing(HealthFile(self.sign, path)))
                    if port is not None:
                        from .health_server import HealthServer

                        stack.enter_context(closing(HealthServer(self.sign, port, host)))
                except ConfigurationError as error:
                    parent.sendall(f"{error}\n".encode())
                    return
                parent.sendall(b"\n")
                parent.recv(1)  # nothing is ever sent: it has ended, or is gone, and its workers
        finally:
            os._exit(0)
