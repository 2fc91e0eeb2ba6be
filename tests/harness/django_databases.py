"""Databases of Django with rows and an outbox, for the tests of enlisted databases."""

import asyncio
import json
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from alligator import Gator
from django_alligator.enlisting import DatabaseEnlister, enlist
from tests.harness import django_project  # noqa: F401 - it makes the settings
from tests.harness.programs import eventually

USING = "shop"
"""The alias of the database."""


def add_database(using: str, **given: Any) -> BaseDatabaseWrapper:
    """Add a database to the project, and return this thread's connection to it."""
    configured = connections.configure_settings({"default": {}, using: given})
    connections.settings[using] = configured[using]
    if hasattr(connections._connections, using):  # type: ignore[attr-defined]
        del connections[using]
    return connections[using]


def create_outbox(using: str) -> None:
    """Create the table of the outbox, as the migration does."""
    model = apps.get_model("django_alligator", "OutboxCommit")
    with connections[using].schema_editor() as editor:
        editor.create_model(model)


class Shop:
    """A database, and a gator whose tasks follow its transactions."""

    def __init__(self, gator: Gator, using: str = USING) -> None:
        self.gator = gator
        self.using = using
        connection = connections[using]
        with connection.cursor() as cursor:
            for table in ("alligator_outbox", "orders"):
                cursor.execute(f"DROP TABLE IF EXISTS {table}")
            cursor.execute("CREATE TABLE orders (name varchar(64))")
        create_outbox(using)
        enlist(gator, using)

    @property
    def enlister(self) -> DatabaseEnlister:
        """What was appended to the gator."""
        [enlister] = self.gator.enlisters
        assert isinstance(enlister, DatabaseEnlister)
        return enlister

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The connection of this thread."""
        return connections[self.using]

    def order(self, name: str) -> None:
        """Insert a row, and start its task."""
        self.insert(name)
        self.gator.task(note, name)

    def insert(self, name: str) -> None:
        """Insert a row."""
        with self.connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders VALUES (%s)", [name])

    def count(self, table: str) -> int:
        """Return the number of rows that are committed."""
        other = self.connection.copy()
        with other.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            [number] = cursor.fetchone()
        other.close()
        return int(number)

    def tasks(self) -> list[str]:
        """Return the arguments of the tasks on the queue, once the outbox is empty."""
        eventually(lambda: not self.count("alligator_outbox"))
        return sorted(
            json.loads(lease.data)["args"][0]
            for lease in self.gator.client.reserve("all", limit=1000)
        )

    def state(self) -> tuple[int, list[str]]:
        """Return the number of committed orders, and the tasks on the queue."""
        return self.count("orders"), self.tasks()


class Broken(Exception):
    """Ends a block or a task."""


NOTED: list[str] = []
"""The arguments of the tasks that ran in this process."""


def note(name: str) -> None:
    """Note that this task ran."""
    NOTED.append(name)


async def note_later(name: str) -> None:
    """Asynchronous version of `note`."""
    await asyncio.sleep(0)
    NOTED.append(name)


def fail() -> None:
    """Fail: a task."""
    raise Broken
