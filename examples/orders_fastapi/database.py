"""Store the stock and the orders, by default in a SQLite file."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import CheckConstraint, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlalchemy_alligator import outbox_table

DATA = Path(os.environ.get("DATA", "data"))
"""The folder of the example's files."""

URL = os.environ.get("DATABASE_URL", f"sqlite+aiosqlite:///{DATA / 'orders.db'}")
"""The database, such as ``postgresql+asyncpg://user@host/shop``."""


class Base(DeclarativeBase):
    """The tables of the example."""


class Stock(Base):
    """What can be sold."""

    __tablename__ = "stock"
    __table_args__ = (CheckConstraint("pieces >= 0"),)
    item: Mapped[str] = mapped_column(primary_key=True)
    pieces: Mapped[int]


class Order(Base):
    """What was sold."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    pieces: Mapped[int]
    email: Mapped[str]


outbox_table(Base.metadata)  # a real project creates it by a migration

# One engine for all requests of a web process, and one for all tasks of a worker process.
engine = create_async_engine(URL)
Session = async_sessionmaker(engine, expire_on_commit=False)


async def create_tables() -> None:
    """Create the tables, and stock them."""
    DATA.mkdir(parents=True, exist_ok=True)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        if (await connection.execute(select(Stock.item))).first() is None:
            rows = [{"item": "apples", "pieces": 10}, {"item": "pears", "pieces": 3}]
            await connection.execute(insert(Stock), rows)


async def database() -> AsyncIterator[AsyncSession]:
    """Provide a session to a view: changes are committed if the view succeeds."""
    async with Session.begin() as session:
        yield session
