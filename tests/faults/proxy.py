"""A network of our own between a client and its server, which cuts, stalls and delays."""

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
    """What becomes of a connection after so many bytes in one direction."""

    upwards: bool
    """From the client to the server, or back."""
    after: int
    what: What = "cut"
    """It ends there; or it stays open, and the rest of that direction is lost or comes late."""

    @classmethod
    def somewhere(cls, random: Random) -> Self:
        """Choose at random where a connection is cut."""
        return cls(random.random() < 0.5, random.randrange(1500))

    def befall(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Let through what comes before it, and what it leaves of the rest."""
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
    """Carry bytes both ways, but for what it was told to do to them."""

    def __init__(self, server: str, random: Random | None = None) -> None:
        parts = urlsplit(server)
        self._address = parts.hostname, parts.port
        self._random = random or Random()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.dsn = f"redis://127.0.0.1:{self.port}/0"
        self.mishaps: deque[Mishap | None] = deque()
        """What becomes of the next connections, one each; None lets one pass."""
        self._stalled = threading.Event()
        self.delay = 0.0
        """Up to how many seconds a piece takes on its way."""
        self.passed = 0
        """How many pieces have arrived here from clients."""
        self.carried = {True: 0, False: 0}
        """How many bytes the last connection carried, upwards and back."""
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    @contextmanager
    def stall(self) -> Iterator[None]:
        """Keep what arrives during the block, and deliver it then."""
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
                carried[upwards] += len(data)  # first, for whoever gets it may look here at once
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
        """Read what comes, as late as all is late just now."""
        while data := source.recv(CHUNK):
            self.passed += upwards
            while self._stalled.is_set():
                sleep(0.01)
            if self.delay:
                sleep(self._random.uniform(0, self.delay))
            yield data
