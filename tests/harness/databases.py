"""The database of an application, with rows and an outbox, for the tests of enlisted sessions."""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, String, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from alligator import Gator
from sqlalchemy_alligator import outbox_table
from tests.harness.programs import eventually


class Base(DeclarativeBase):
    """The tables of the application."""


class Order(Base):
    """A row whose task must exist if, and only if, the row does."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64))


OUTBOX = outbox_table(Base.metadata)


class Shop:
    """A database, and a gator whose tasks follow its transactions."""

    def __init__(self, engine: Engine, gator: Gator, *, has_outbox: bool = True) -> None:
        self.engine = engine
        self.gator = gator
        self.has_outbox = has_outbox
        Base.metadata.create_all(engine)
        if not has_outbox:  # so that it cannot be used unnoticed
            OUTBOX.drop(engine)

    def rows(self) -> int:
        """Return the number of committed orders."""
        with self.engine.connect() as connection:
            return len(connection.execute(select(Order.id)).all())

    def waiting(self) -> int:
        """Return the number of commits in the outbox."""
        if not self.has_outbox:
            return 0
        with self.engine.connect() as connection:
            return int(
                connection.execute(text("SELECT count(*) FROM alligator_outbox")).scalar_one()
            )

    def tasks(self) -> list[str]:
        """Return the arguments of the tasks on the queue, once the outbox is empty."""
        eventually(lambda: not self.waiting())
        return sorted(
            json.loads(lease.data)["args"][0]
            for lease in self.gator.client.reserve("all", limit=1000)
        )

    def state(self) -> tuple[int, list[str]]:
        """Return the number of rows, and the tasks."""
        return self.rows(), self.tasks()


def note(name: str) -> None:
    """Do nothing: a task."""


Start = Callable[[str], Any]
