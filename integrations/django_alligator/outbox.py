"""The outbox in a database of the project, and its relay."""

from typing import Any

from django.db import connections

from alligator import Gator
from alligator._runtime.failures import describe
from alligator.commits.databases import TABLE
from alligator.commits.outbox import Outbox
from alligator.commits.relay import Relay

from .configuration import is_in_test


class DjangoOutbox(Outbox):
    """The outbox of the database with the alias *using*, with a connection that Django opens."""

    def __init__(self, using: str) -> None:
        super().__init__(self._open, table=TABLE)
        self.using = using

    def is_needed(self) -> bool:
        """Return whether tasks are written: not in tests, nor where only this process could read."""
        connection: Any = connections[self.using]
        is_in_memory = connection.vendor == "sqlite" and connection.is_in_memory_db()
        return not (is_in_test() or is_in_memory)

    def is_of(self, connection: Any) -> bool:
        """Return whether *connection* is one of Django's to this database."""
        return getattr(connection, "alias", None) == self.using

    def missing(self, error: BaseException, dialect: str) -> str:
        """Return a message that says how to create the table."""
        return (
            f"The database {self.using!r} has no usable table {self.table} ({describe(error)}). "
            f"Create it: python manage.py migrate django_alligator --database {self.using}"
        )

    def _open(self) -> Any:
        wrapper = connections[self.using].copy()
        # A pool is for requests, which would wait for the connection that a relay keeps.
        wrapper.settings_dict["OPTIONS"].pop("pool", None)
        wrapper.set_autocommit(False)
        # That of the library below Django: what a relay executes is not logged as the project's.
        return wrapper.connection


class DjangoRelay(Relay):
    """The relay of a database with the alias *using*; in tests it has nothing to do."""

    outbox: DjangoOutbox

    def __init__(self, gator: Gator, using: str) -> None:
        super().__init__(gator.client, DjangoOutbox(using))

    def watch(self) -> None:
        """Start in a worker, unless nothing is written to the outbox."""
        if self.outbox.is_needed():
            super().watch()
