"""What a transaction of the application needs of a store that is in the same database.

Such a transaction can write its tasks to the tables of the store, so that its commit queues them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from .base import Client, Duplicates, Message


class Query(NamedTuple):
    """A statement for a connection of the application, with ``?`` for its parameters.

    It returns one row with one text.
    """

    sql: str
    parameters: tuple[str, ...] = ()


class Written(NamedTuple):
    """Tasks that a transaction of the application has written, and that its commit queues."""

    transaction: str
    """The id that the server gave the transaction."""
    numbers: Mapping[str, int]
    """How many tasks each queue gets."""
    duplicates: Duplicates | None = None
    """The places of the tasks that were not written, because a task with their id is waiting already.

    No worker runs the waiting task before the transaction ends.
    """


class SharedDatabase(Protocol):
    """The database of a store, which may be that of the application."""

    def identify(self) -> str:
        """Ask the server of the store for its identity; raises `BackendError`."""
        ...

    def probe(self) -> Query:
        """Return a query that asks a connection of the application where it leads; it never fails."""
        ...

    def why_not(self, answer: str, identity: str) -> str:
        """Return why a connection cannot write to the tables of the store; empty if it can.

        *answer* is the result of the query `probe`, and *identity* what `identify` returned.
        """
        ...

    def enqueue(self, identity: str, messages: Sequence[Message]) -> Query:
        """Return a query that queues *messages* if it runs in the server with that *identity*."""
        ...

    def read(self, answer: str, messages: Sequence[Message]) -> Written | None:
        """Return what the query `enqueue` has written; None if it ran in another server."""
        ...

    def wake(self, written: Sequence[Written]) -> Sequence[int]:
        """Wake workers for transactions that have ended; return the places of those that have not.

        Raises `BackendError`.
        """
        ...


@runtime_checkable
class SharesDatabase(Protocol):
    """A client whose store may be in the database of the application."""

    shared_database: SharedDatabase


def shared_database_of(client: Client) -> SharedDatabase | None:
    """Return the database that *client* can share with the application; None for other stores."""
    return client.shared_database if isinstance(client, SharesDatabase) else None
