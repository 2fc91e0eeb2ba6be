"""Load a web server: ``python -m tests.benchmarks.load PORT PATH SECONDS CONNECTIONS``.

Sockets and epoll, no more, for it shares two cores with what it measures. A connection is used again
unless the server closes it. The first fifth of the time is not counted.
"""

import json
import select
import socket
import sys
import time

WARM_UP = 0.25
"""The share of the time that is not counted."""


class Load:
    """Connections that send a request after each response."""

    def __init__(self, port: int, path: str, connections: int) -> None:
        self.request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self.address = ("127.0.0.1", port)
        self.poll = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.sent: dict[int, float] = {}
        self.read: dict[int, bytes] = {}
        self.answered = 0
        self.failed = 0
        self.waits: list[float] = []
        for _ in range(connections):
            self.open()

    def open(self) -> None:
        """Make a connection, and send a request on it."""
        made = socket.create_connection(self.address, timeout=10)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = made.fileno()
        self.sockets[number] = made
        self.poll.register(number, select.EPOLLIN)
        self.send(number)

    def send(self, number: int) -> None:
        """Send a request."""
        self.read[number] = b""
        self.sent[number] = time.perf_counter()
        self.sockets[number].sendall(self.request)

    def close(self, number: int) -> None:
        """Close a connection."""
        self.poll.unregister(number)
        self.sockets.pop(number).close()

    def run(self, seconds: float) -> None:
        """Run for *seconds*."""
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            for number, _ in self.poll.poll(max(0.001, end - now)):
                self.receive(number)

    def receive(self, number: int) -> None:
        """Read from a connection, and send the next request after a response."""
        try:
            data = self.sockets[number].recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            if self.read[number]:
                self.failed += 1
            self.close(number)
            self.open()
            return
        data = self.read[number] + data
        head, blank, body = data.partition(b"\r\n\r\n")
        if not blank or len(body) < 2:  # every answer has two bytes, or is a failure with more
            self.read[number] = data
            return
        self.waits.append(time.perf_counter() - self.sent[number])
        self.answered += 1
        if not head.startswith(b"HTTP/1.1 200"):
            self.failed += 1
        if b"onnection: close" in head:
            self.close(number)
            self.open()
        else:
            self.send(number)


def main() -> None:
    """Load a server, and print the result."""
    port, path, seconds, connections = sys.argv[1:]
    load = Load(int(port), path, int(connections))
    load.run(float(seconds) * WARM_UP)
    warming, load.answered, load.failed = load.answered, 0, 0
    load.waits.clear()
    start = time.perf_counter()
    load.run(float(seconds))
    took = time.perf_counter() - start
    waits = sorted(load.waits) or [float("inf")]
    found = {
        "rate": load.answered / took,
        "answered": warming + load.answered,
        "failed": load.failed,
        "p50": waits[len(waits) // 2] * 1e3,
        "p99": waits[len(waits) * 99 // 100] * 1e3,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
