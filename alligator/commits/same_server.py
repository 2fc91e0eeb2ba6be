"""Commits of the application that write the tables of the store, because both are in one database."""

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from time import monotonic
from typing import Any, Final, TypeAlias

from .._runtime.coroutines import complete
from ..backends.base import Client, Message
from ..backends.shared_database import Query, Written, shared_database_of
from ..exceptions import BackendError
from .databases import POSTGRESQL
from .wakeups import Wakeups

ASK_AGAIN_SECONDS: Final = 10.0
"""Seconds after which it is checked again whether a database is that of the store."""

Execute: TypeAlias = Callable[[Query], Any]
"""Executes a query on a connection of the application; returns its text, or an awaitable of it."""

Ask: TypeAlias = Callable[[Callable[[], str]], str | Awaitable[str]]
"""Calls a function that waits for the store; returns its result, or an awaitable of it."""


class SameServer:
    """Writes tasks in transactions of one database of the application, if the store is in it.

    Each process checks this with its first commit. Later statements carry the identity of the store,
    which the server compares; after a restart of the server, the process checks again.
    """

    def __init__(self, client: Client) -> None:
        self._database = shared_database_of(client)
        self._identity = ""
        """The identity of the server of the store; empty until a connection is known to lead there."""
        self._asks_at = 0.0
        self.reason: str = ""
        """Why tasks cannot be written; empty if that is not known, or if they can."""
        if self._database is not None:
            self._wakeups = Wakeups(self._database.wake)

    def is_possible(self, dialect: str) -> bool:
        """Return whether a database of that dialect may be that of the store."""
        return self._database is not None and dialect == POSTGRESQL

    def write(self, messages: Sequence[Message], execute: Execute) -> Written | None:
        """Write *messages* in the transaction in which *execute* executes a query.

        Returns None, and writes nothing, if that transaction is not in the database of the store. Call
        `wake` after the commit, or shortly before it.
        """
        return complete(self.awrite(messages, execute, _call))

    async def awrite(
        self, messages: Sequence[Message], execute: Execute, ask: Ask
    ) -> Written | None:
        """Asynchronous version of `write`; its callables may return awaitables."""
        database = self._database
        if database is None:
            return None
        for _ in range(2):
            identity = await self._find_out(execute, ask)
            if not identity:
                return None
            try:
                answer = await _result(execute(database.enqueue(identity, messages)))
            except BaseException:
                self._identity = ""
                raise
            written = database.read(answer, messages)
            if written is not None:
                return written
            # The server was restarted, or this connection leads to another one.
            self._identity, self._asks_at = "", 0.0
        self._refuse("the store is in another database")
        return None

    def is_same(self, execute: Execute) -> bool:
        """Return whether the connection of *execute* leads to the database of the store."""
        return bool(complete(self._find_out(execute, _call)))

    async def _find_out(self, execute: Execute, ask: Ask) -> str:
        """Return the identity of the server; empty if the connection does not lead to it."""
        known = self._identity  # another thread may reset it
        if known:
            return known
        if self._database is None or monotonic() < self._asks_at:
            return ""
        try:
            identity = await _result(ask(self._database.identify))
        except BackendError as error:
            return self._refuse(f"the store could not say where it is: {error}")
        answer = await _result(execute(self._database.probe()))
        reason = self._database.why_not(answer, identity)
        if reason:
            return self._refuse(reason)
        self._identity, self.reason = identity, ""
        return str(identity)

    def _refuse(self, reason: str) -> str:
        self._asks_at = monotonic() + ASK_AGAIN_SECONDS
        self.reason = reason
        return ""

    def wake(self, written: Written) -> None:
        """Wake workers as soon as the transaction has ended; this does not wait for it."""
        self._wakeups.add(written)

    def close(self) -> None:
        """Wake workers for the last commits, and end the thread that does so."""
        if self._database is not None:
            self._wakeups.finish()


def _call(function: Callable[[], str]) -> str:
    return function()


async def _result(value: Any) -> Any:
    return await value if isawaitable(value) else value
