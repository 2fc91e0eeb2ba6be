"""A proxy between client and server that cuts, stalls and delays connections."""

import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from time import sleep
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

CHUNK = 1 << 16


PAUSE = 0.005
"""How many seconds a delay lasts."""

What = Literal["cut", "stall", "delay"]


class Mishap(NamedTuple):
    """A fault of a connection after a number of bytes in one direction."""

    upwards: bool
    """From the client to the server, or back."""
    after: int
    what: What = "cut"
    """Cut: the connection ends. Stall, delay: it stays open, and the rest is lost or late."""

    @classmethod
    def somewhere(cls, random: Random) -> Self:
        """Return a cut at a random byte."""
        return cls(random.random() < 0.5, random.randrange(1500))

    def befall(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Forward the bytes before the fault, and the rest as far as the fault allows."""
        left = self.after
        if not left and self.what == "cut":
            return
        for data in pieces:
            yield data[:left]
            if len(data) < left:
                left -= len(data)
                continue
            if self.what == "delay":
                sleep(PAUSE)
                yield data[left:]
                yield from pieces
            if self.what == "stall":
                deque(pieces, maxlen=0)  # until the client has had enough
            return


class Proxy:
    """Forwards bytes in both directions, except for the faults that were requested."""

    def __init__(self, server: str, random: Random | None = None) -> None:
        parts = urlsplit(server)
        self._address = parts.hostname, parts.port
        self._random = random or Random()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.dsn = f"redis://127.0.0.1:{self.port}/0"
        self.mishaps: deque[Mishap | None] = deque()
        """The faults of the next connections, one each; None for no fault."""
        self._stalled = threading.Event()
        self.delay = 0.0
        """The maximum delay of a packet, in seconds."""
        self.bytes_a_second = 0
        """The bandwidth of a connection in one direction, in bytes a second; 0 for no limit."""
        self.passed = 0
        """How many packets have arrived from clients."""
        self.carried = {True: 0, False: 0}
        """How many bytes the last connection sent and received."""
        self._open: set[socket.socket] = set()
        self._forgotten: frozenset[socket.socket] = frozenset()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def leading_to(self, dsn: str) -> str:
        """Return *dsn* with this proxy in place of its server."""
        parts = urlsplit(dsn)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}").geturl()

    @contextmanager
    def stall(self) -> Iterator[None]:
        """Hold all data during the block, and deliver it afterwards."""
        self._stalled.set()
        try:
            yield
        finally:
            self._stalled.clear()

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._stalled.clear()
        self.cut_all()

    def cut_all(self) -> None:
        """Cut every connection."""
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def forget_connections(self) -> None:
        """Drop all data of the current connections without closing them, as a NAT does."""
        self._forgotten = frozenset(self._open)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                mishap = self.mishaps.popleft() if self.mishaps else None
                try:
                    server = socket.create_connection(self._address)
                except OSError:
                    client.close()
                    continue
                self.carried = carried = {True: 0, False: 0}
                ends = [client, server]
                ended: list[bool] = []
                for end in ends:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.update(ends)
                for upwards in (True, False):
                    threading.Thread(
                        target=self._carry,
                        args=(*ends, upwards, mishap, carried, ended),
                        daemon=True,
                    ).start()

    def _carry(
        self,
        client: socket.socket,
        server: socket.socket,
        upwards: bool,
        mishap: Mishap | None,
        carried: dict[bool, int],
        ended: list[bool],
    ) -> None:
        source, target = (client, server) if upwards else (server, client)
        pieces = self._pieces(source, upwards)
        if mishap is not None and mishap.upwards == upwards:
            pieces = mishap.befall(pieces)
        with suppress(OSError):
            for data in pieces:
                if target in self._forgotten:
                    continue
                carried[upwards] += len(
                    data
                )  # first, because the receiver may read this number at once
                target.sendall(data)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # so that the other direction ends as well
        ended.append(upwards)
        if len(ended) == 2:
            for end in (client, server):
                self._open.discard(end)
                end.close()

    def _pieces(self, source: socket.socket, upwards: bool) -> Iterator[bytes]:
        """Read data, delayed as configured at the moment."""
        while data := source.recv(CHUNK):
            self.passed += upwards
            while self._stalled.is_set():
                sleep(0.01)
            if self.bytes_a_second:
                sleep(len(data) / self.bytes_a_second)
            if self.delay:
                sleep(self._random.uniform(0, self.delay))
            yield data
