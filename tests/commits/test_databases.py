"""Connections of many libraries are recognised, and each gets the SQL of its database."""

import sqlite3
from contextlib import closing

import pytest

from alligator.commits.databases import (
    DIALECTS,
    Kind,
    ddl,
    execute,
    insert,
    is_in_transaction,
    kind_of,
    with_parameters,
)
from alligator.exceptions import ConfigurationError


class OwnConnection(sqlite3.Connection):
    """A connection of an application, such as one that records its statements."""


def test_subclass_of_a_connection_is_recognised() -> None:
    with closing(OwnConnection(":memory:")) as connection:
        assert kind_of(connection) == Kind("sqlite3", "sqlite", "qmark")


def test_connection_of_sqlalchemy_has_the_dialect_of_its_engine() -> None:
    from sqlalchemy import create_engine

    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        assert kind_of(connection) == Kind("sqlalchemy", "sqlite", "qmark")
    engine.dispose()


@pytest.mark.parametrize(
    ("paramstyle", "expected"),
    [
        ("qmark", "VALUES (?, ?)"),
        ("format", "VALUES (%s, %s)"),
        ("pyformat", "VALUES (%s, %s)"),
        ("numeric", "VALUES (:1, :2)"),
        ("numeric_dollar", "VALUES ($1, $2)"),
    ],
)
def test_parameters_are_written_in_the_style_of_the_driver(paramstyle: str, expected: str) -> None:
    assert with_parameters("VALUES (?, ?)", paramstyle) == expected


def test_unknown_style_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="paramstyle 'named'"):
        with_parameters("VALUES (?)", "named")


@pytest.mark.parametrize("name", ["oracle", "mssql", ""])
def test_database_that_cannot_have_an_outbox_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="PostgreSQL, MySQL, MariaDB or SQLite"):
        ddl(name)


def test_mariadb_has_the_table_of_mysql() -> None:
    assert ddl("mariadb") == ddl("mysql")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_table_may_have_another_name(dialect: str) -> None:
    assert ddl(dialect, "shared.mail_outbox").startswith("CREATE TABLE shared.mail_outbox (")
    assert insert(dialect, "shared.mail_outbox").startswith("INSERT INTO shared.mail_outbox (")


def test_connection_knows_whether_a_transaction_is_open() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        kind = kind_of(connection)
        execute(connection, kind, "CREATE TABLE a (b)", ())
        before = is_in_transaction(connection, kind.driver)
        execute(connection, kind, "INSERT INTO a VALUES (?)", (1,))

        assert (before, is_in_transaction(connection, kind.driver)) == (False, True)
