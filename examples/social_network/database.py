"""Store people, followers and posts, by default in a SQLite file."""

import os
from pathlib import Path

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, ForeignKey, Table, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.schema import CreateIndex, CreateTable

from sqlalchemy_alligator import outbox_table

DATA = Path(os.environ.get("DATA", "data")).absolute()
"""The folder of the example's files."""

URL = os.environ.get("DATABASE_URL", f"sqlite:///{DATA / 'social_network.db'}")
"""The database, such as ``postgresql+psycopg://user@host/network``."""


class Base(DeclarativeBase):
    """The tables of the example."""


follows = Table(
    "follows",
    Base.metadata,
    Column("follower", ForeignKey("people.id"), primary_key=True),
    Column("followed", ForeignKey("people.id"), primary_key=True),
)


class Person(Base):
    """Who posts, and reads the posts of others."""

    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str]
    readers: Mapped[list["Person"]] = relationship(
        secondary=follows,
        primaryjoin=id == follows.c.followed,
        secondaryjoin=id == follows.c.follower,
        order_by=name,
    )


class Post(Base):
    """What a person has written."""

    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    message: Mapped[str]
    form_key: Mapped[str] = mapped_column(unique=True)
    author: Mapped[Person] = relationship()


outbox_table(Base.metadata)  # a real project creates it by a migration

db = SQLAlchemy(metadata=Base.metadata)


def create_tables() -> None:
    """Create the tables that do not exist; the server and the worker do this at the same time."""
    DATA.mkdir(parents=True, exist_ok=True)
    with db.engine.begin() as connection:
        for table in Base.metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))


def find_person(name: str) -> Person | None:
    """Return the person of that name."""
    return db.session.scalar(select(Person).where(Person.name == name))


def find_post(form_key: str) -> Post | None:
    """Return the post that was made of the form with that key."""
    return db.session.scalar(select(Post).where(Post.form_key == form_key))
