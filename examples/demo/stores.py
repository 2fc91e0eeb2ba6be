"""The store of the demo's queue, and ways to make it unavailable for a while."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from secrets import token_hex
from threading import Thread
from typing import Protocol
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from alligator.backends.redis_backend import Client


class Store(Protocol):
    """The store of the demo's tasks."""

    name: str
    dsn: str
    """The DSN for the server and the worker."""
    direct: str
    """The DSN for the demo itself, which works also during an outage."""
    why_away: str

    def away(self) -> AbstractContextManager[None]:
        """Make the store unavailable to the server and the worker during the block."""
        ...

    def close(self) -> None:
        """Remove the demo's data."""
        ...


class SqliteStore:
    """A temporary file, which the demo locks."""

    name = "SQLite"
    why_away = "another process has locked the file of the queue (BEGIN EXCLUSIVE)"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "queue.db"
        self.dsn = self.direct = f"sqlite://{self._path}"

    @contextmanager
    def away(self) -> Iterator[None]:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        pass


class RedisStore:
    """A server that others may use too: with its own prefix, through a proxy that the demo can stop."""

    name = "Redis"
    why_away = "the connections between it and the server and worker are cut"

    def __init__(self, dsn: str) -> None:
        url = urlsplit(dsn)
        if url.scheme != "redis":
            raise ValueError(
                f"The demo can only cut the line to a redis:// server, not {url.scheme}:"
            )
        self._namespace = f"demo-{token_hex(4)}"
        credentials, at, _ = url.netloc.rpartition("@")
        query = f"{url.query}&" if url.query else ""
        mine = url._replace(query=f"{query}ns={self._namespace}")
        self.direct = mine.geturl()
        self._client = Client(self.direct)
        self._client.ping()
        self._line = Line(url.hostname or "localhost", url.port or 6379)
        self.dsn = mine._replace(netloc=f"{credentials}{at}127.0.0.1:{self._line.port}").geturl()

    @contextmanager
    def away(self) -> Iterator[None]:
        self._line.cut()
        try:
            yield
        finally:
            self._line.mend()

    def close(self) -> None:
        self._line.close()
        try:
            for key in self._client.conn.scan_iter(f"{{{self._namespace}}}*"):
                self._client.conn.delete(key)
        except RedisError as error:
            print(f"Keys of {self._namespace} are left in Redis, which went away: {error}")
        self._client.close()


class Line:
    """A TCP proxy to a server that can be stopped."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self.port = 0
        self._pumps: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="line", daemon=True)
        self._thread.start()
        self.mend()

    def mend(self) -> None:
        """Accept connections, always on the same port."""
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()

    def close(self) -> None:
        """Close the proxy."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        self._server.close()
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _connect(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        pump = asyncio.current_task()
        assert pump is not None
        self._pumps.add(pump)
        try:
            far, to_far = await asyncio.open_connection(*self._target)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(near, to_far))
                    both.create_task(_pump(far, to_near))
            finally:
                to_far.transport.abort()
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass
        finally:
            self._pumps.discard(pump)
            to_near.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Forward bytes from one socket to the other, until one of them closes."""
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    raise ConnectionResetError
