"""The outbox of the database of an engine."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, Pool
from sqlalchemy.util import greenlet_spawn

from alligator.commits.databases import check_dialect
from alligator.commits.outbox import Outbox


def is_in_memory(engine: Engine) -> bool:
    """Return whether the database lives in this process only, so that no relay could read it."""
    if engine.dialect.name != "sqlite":
        return False
    name = engine.url.database or ""
    return (
        name in ("", ":memory:")
        or "mode=memory" in name
        or engine.url.query.get("mode") == "memory"
    )


class EngineOutbox(Outbox):
    """An outbox that opens its connection as an engine does.

    *find* returns the engine; it is called when the outbox is first used.
    """

    def __init__(self, find: Callable[[], Engine], table: str) -> None:
        super().__init__(self._open, table=table, run=self._call)
        self._find = find
        self._pool: Pool | None = None
        self._is_async = False
        self._runner: asyncio.Runner | None = None

    def is_of(self, connection: Any) -> bool:
        """Return whether *connection* is one of the engine."""
        connection = getattr(connection, "sync_connection", connection)
        return getattr(connection, "engine", None) is self._find()

    def _call(self, function: Callable[[], Any]) -> Any:
        if self._pool is None:
            self._prepare()
        if not self._is_async:
            return function()
        if self._runner is None:
            # With a factory, Runner does not change the current loop of the thread.
            self._runner = asyncio.Runner(loop_factory=_new_loop)
        return self._runner.run(_spawn(function))

    def _prepare(self) -> None:
        engine = self._find()
        self._dialect = check_dialect(engine.dialect.name)
        self._paramstyle = engine.dialect.paramstyle
        self._is_async = engine.dialect.is_async
        # A pool of its own, which opens connections in the same way: that of the application may be
        # exhausted, or belong to another event loop.
        self._pool = engine.pool.recreate()

    def _open(self) -> Any:
        assert self._pool is not None
        return self._pool.connect()

    def close(self) -> None:
        """Close the connection, and the event loop that it needs."""
        with self._in_use:
            super().close()
            pool, self._pool = self._pool, None
            if pool is not None:
                with suppress(Exception):  # it is of no use any more
                    self._dispose(pool)
            runner, self._runner = self._runner, None
            if runner is not None:
                runner.close()

    def _dispose(self, pool: Pool) -> None:
        if self._runner is None:
            pool.dispose()
        else:
            self._runner.run(_spawn(pool.dispose))

    def forget(self) -> None:
        """Drop the connection and the event loop of the parent of this forked process."""
        super().forget()
        _of_parent.append((self._pool, self._runner))
        self._pool = self._runner = None


_of_parent: list[object] = []
"""What belongs to the parent of a forked process. If it were collected, it would be closed."""


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop that ignores what threads report to it after it was closed.

    A thread of aiosqlite does so if its database could not be opened; no code waits for that.
    """
    loop = asyncio.new_event_loop()
    schedule = loop.call_soon_threadsafe

    def call_soon_threadsafe(callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        try:
            return schedule(callback, *args, context=context)
        except RuntimeError:
            if not loop.is_closed():
                raise
            return asyncio.Handle(callback, args, loop)

    loop.call_soon_threadsafe = call_soon_threadsafe  # type: ignore[assignment, method-assign]
    return loop


async def _spawn(function: Callable[[], Any]) -> Any:
    return await greenlet_spawn(function)
