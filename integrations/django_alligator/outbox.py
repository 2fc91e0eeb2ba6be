"""The outbox in a database of the project."""

from typing import Any

from django.db import connections

from alligator._runtime.failures import describe
from alligator.commits.databases import TABLE
from alligator.commits.outbox import Outbox


class DjangoOutbox(Outbox):
    """The outbox of the database with the alias *using*, with a connection that Django opens."""

    def __init__(self, using: str) -> None:
        super().__init__(self._open, table=TABLE)
        self.using = using

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
