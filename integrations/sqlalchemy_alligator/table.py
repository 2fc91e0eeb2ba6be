"""The table of the outbox, for the migrations of a project."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import LONGTEXT

from alligator.commits.databases import TABLE


def outbox_table(metadata: MetaData, *, name: str = TABLE, schema: str | None = None) -> Table:
    """Add the table of the outbox to *metadata*, and return it.

    Then Alembic's ``--autogenerate`` finds it, and ``metadata.create_all`` creates it. A call for a
    table that *metadata* already has returns that one.
    """
    found = metadata.tables.get(f"{schema}.{name}" if schema else name)
    if found is not None:
        return found
    return Table(
        name,
        metadata,
        Column(
            "id",
            BigInteger().with_variant(Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        Column("commit_id", String(32), nullable=False),
        Column("at", Double(), nullable=False),
        Column("data", Text().with_variant(LONGTEXT(), "mysql", "mariadb"), nullable=False),
        Column("failures", Integer(), nullable=False, server_default="0"),
        Column("not_before", Double(), nullable=False, server_default="0"),
        Column("error", Text()),
        UniqueConstraint("commit_id"),
        schema=schema,
        sqlite_autoincrement=True,
    )
