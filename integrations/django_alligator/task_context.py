"""Close old database connections before and after each task, as Django does for each request."""

from collections.abc import Callable

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections, reset_queries
from django.db.backends.signals import connection_created

from .inline_tasks import runs_inline


class TaskContext:
    """The context of one task.

    A task that runs in this process, for a request or a test, shares the connections of its thread
    with other code, so they stay as they are.
    """

    _is_inline = False

    def __enter__(self) -> None:
        self._is_inline = runs_inline() or is_in_transaction()
        if not self._is_inline:
            begin()

    def __exit__(self, *exc_info: object) -> None:
        if not self._is_inline:
            close_old_connections()

    # For the coroutines of a worker, whose queries Django runs in one thread for all.

    async def __aenter__(self) -> None:
        self._is_inline = runs_inline()
        if not self._is_inline:
            _running.number += 1
            await _call(begin if _running.number == 1 else close_broken)

    async def __aexit__(self, *exc_info: object) -> None:
        if not self._is_inline:
            _running.number -= 1
            # Another coroutine may be between two queries of one result.
            await _call(close_broken if _running.number else close_old_connections)


class _Running:
    """How many coroutines run on the event loop of the worker, and whether any used a database."""

    number = 0
    has_connected = False


_running = _Running()


async def _call(close: Callable[[], None]) -> None:
    if _running.has_connected:
        await sync_to_async(close)()


def _note_connection(**_: object) -> None:
    _running.has_connected = True


connection_created.connect(_note_connection, dispatch_uid="django_alligator")


def is_in_transaction() -> bool:
    """Return whether code around the task has begun a transaction, such as that of a TestCase."""
    return any(each.in_atomic_block for each in connections.all(initialized_only=True))


def begin() -> None:
    """Close old connections, and forget the queries that Django has recorded for debugging."""
    reset_queries()
    close_old_connections()


def close_broken() -> None:
    """Close the connections of this thread that have failed and do not work any more."""
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred and not connection.in_atomic_block:
            if not connection.is_usable():
                connection.close()
            connection.errors_occurred = False
