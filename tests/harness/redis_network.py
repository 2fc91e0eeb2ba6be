"""Helpers of the tests of Redis: a network that loses bytes, threads that keep their errors."""

import asyncio
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from redis import Redis

from alligator.backends.base import (
    Commit,
    Message,
    Pushed,
)
from alligator.backends.redis_backend import Client

ABORTED_BY = "alligator-abort"
"""The name of the thread that undoes pushes later."""


def messages(*task_ids: str) -> list[Message]:
    return [Message("all", task_id, "{}") for task_id in task_ids]


def ids(leases: object) -> list[str]:
    assert isinstance(leases, list | tuple)
    return [lease.task_id for lease in leases]


earlier: WeakSet[threading.Thread] = WeakSet()
"""Threads of earlier tests: they run for as long as a stopped server may return."""


def undoing() -> bool:
    return any(
        thread.name == ABORTED_BY and thread not in earlier for thread in threading.enumerate()
    )


def keys(client: Client) -> set[str]:
    return {str(key).partition(":")[2] for key in client.conn.scan_iter()}


def is_waiting(redis: "Redis") -> bool:
    return any(info["cmd"] == "blpop" for info in redis.client_list())


class Thread(threading.Thread):
    """A thread that keeps the error that it raised."""

    def __init__(self, run: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = run
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error


class LossyNetwork:
    """A network between client and server that loses the messages in `lose`."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.lose: deque[str] = deque()
        """What happens to the next scripts: the "request" is lost, the "reply", or "nothing"; or the
        reply is "garbled"."""
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._carry, args=(ours,), daemon=True).start()

    def _carry(self, ours: socket.socket) -> None:
        lost = "nothing"
        with ours, socket.create_connection(self._server) as theirs, suppress(OSError):
            while True:
                for end in select.select([ours, theirs], [], [])[0]:
                    data = end.recv(1 << 20)
                    if end is ours and b"EVAL" in data:
                        lost = self.lose.popleft() if self.lose else "nothing"
                    if not data or lost == ("request" if end is ours else "reply"):
                        return
                    if end is theirs and lost == "garbled":
                        data = b"?" + data
                    (theirs if end is ours else ours).sendall(data)


def commits(*names: str) -> list[Commit]:
    return [Commit(messages(name), f"commit-{name}") for name in names]


def execute(client: Client, *words: str) -> None:
    conn: Any = client.conn  # redis-py does not type it
    conn.execute_command(*words)


def beside(pusher: Client, *trips: list[Commit]) -> list[list[Pushed]]:
    """Push several trips beside an event loop, one after the other."""

    async def push() -> list[list[Pushed]]:
        return [await pusher.apush_commits(trip) for trip in trips]

    return asyncio.run(push())
