"""The application's database as the outbox sees it: the kinds of connections, and their SQL.

No database library is imported: a connection is recognised by the module of its class.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..exceptions import ConfigurationError

POSTGRESQL: Final = "postgresql"
MYSQL: Final = "mysql"
SQLITE: Final = "sqlite"
DIALECTS: Final = (POSTGRESQL, MYSQL, SQLITE)
ALIASES: Final = {"mariadb": MYSQL, "postgres": POSTGRESQL}

DRIVERS: Final = {
    "sqlite3": (SQLITE, "qmark"),
    "aiosqlite": (SQLITE, "qmark"),
    "psycopg": (POSTGRESQL, "format"),
    "psycopg2": (POSTGRESQL, "format"),
    "asyncpg": (POSTGRESQL, "numeric_dollar"),
    "pymysql": (MYSQL, "format"),
    "MySQLdb": (MYSQL, "format"),
    "aiomysql": (MYSQL, "format"),
}
"""The libraries whose connections can be used, with the dialect and the style of parameters."""

ASYNC_DRIVERS: Final = {"aiosqlite", "asyncpg", "aiomysql"}


class Kind(NamedTuple):
    """What kind of connection it is."""

    driver: str
    """The package of its class: ``sqlite3``, ``sqlalchemy``, …"""
    dialect: str
    paramstyle: str
    is_async: bool = False
    """Whether its methods return awaitables."""


def kind_of(connection: Any) -> Kind:
    """Return the kind of *connection*; raises `ConfigurationError` if it is of no known library."""
    for parent in type(connection).__mro__:
        driver = parent.__module__.partition(".")[0]
        is_async = driver in ASYNC_DRIVERS or parent.__name__.startswith("Async")
        if driver in DRIVERS:
            return Kind(driver, *DRIVERS[driver], is_async)
        if driver == "sqlalchemy" and hasattr(connection, "exec_driver_sql"):
            dialect = connection.dialect
            return Kind(driver, check_dialect(dialect.name), dialect.paramstyle, is_async)
        if driver == "django" and hasattr(connection, "vendor"):
            return Kind(driver, check_dialect(connection.vendor), "format")
    raise ConfigurationError(
        f"{type(connection).__module__}.{type(connection).__name__} is no connection that "
        f"Alligator can use: give one of SQLAlchemy, of Django, or of {', '.join(DRIVERS)}."
    )


def check_dialect(name: str) -> str:
    """Return the dialect of that name; raises `ConfigurationError` if the outbox cannot use it."""
    name = ALIASES.get(name, name)
    if name not in DIALECTS:
        raise ConfigurationError(
            f"The outbox cannot be in a database of the dialect {name!r}: it can be in "
            "PostgreSQL, MySQL, MariaDB or SQLite."
        )
    return name


def with_parameters(sql: str, paramstyle: str) -> str:
    """Return *sql*, whose parameters are ``?``, in the style of a driver.

    >>> with_parameters("VALUES (?, ?)", "numeric_dollar")
    'VALUES ($1, $2)'
    """
    if paramstyle == "qmark":
        return sql
    parts = sql.split("?")
    if paramstyle in ("format", "pyformat"):
        return "%s".join(parts)
    mark = {"numeric_dollar": "$", "numeric": ":"}.get(paramstyle)
    if mark is None:
        raise ConfigurationError(f"The outbox cannot use a driver of paramstyle {paramstyle!r}.")
    numbered = [f"{mark}{number}{part}" for number, part in enumerate(parts[1:], 1)]
    return "".join([parts[0], *numbered])


def is_in_transaction(connection: Any, driver: str) -> bool:
    """Return whether a transaction is open on *connection*; True if it cannot be known."""
    if driver == "psycopg":
        return bool(connection.info.transaction_status)  # 0 is IDLE
    if driver == "asyncpg":
        return bool(connection.is_in_transaction())
    if driver == "django":
        return bool(connection.in_atomic_block or not connection.get_autocommit())
    found = getattr(connection, "in_transaction", True)  # a method of SQLAlchemy's connections
    return bool(found() if callable(found) else found)


def execute(connection: Any, kind: Kind, sql: str, parameters: Sequence[Any]) -> Any:
    """Execute *sql* on *connection*, which may return an awaitable."""
    sql = with_parameters(sql, kind.paramstyle)
    if kind.driver == "sqlalchemy":
        return connection.exec_driver_sql(sql, tuple(parameters))
    if kind.driver == "asyncpg":
        return connection.execute(sql, *parameters)
    if hasattr(connection, "execute"):
        return connection.execute(sql, tuple(parameters))
    with connection.cursor() as cursor:
        return cursor.execute(sql, tuple(parameters))


def fetch(connection: Any, kind: Kind, sql: str, parameters: Sequence[Any] = ()) -> Any:
    """Return the only value that *sql* returns on *connection* to PostgreSQL, or an awaitable of it."""
    if kind.driver == "asyncpg":
        return connection.fetchval(with_parameters(sql, kind.paramstyle), *parameters)
    if kind.is_async:
        return _afetch(connection, kind, sql, parameters)
    if kind.driver == "sqlalchemy":
        return execute(connection, kind, sql, parameters).scalar_one()
    with _cursor(connection, kind) as cursor:
        cursor.execute(with_parameters(sql, kind.paramstyle), tuple(parameters))
        return _only(cursor.fetchone())


async def _afetch(connection: Any, kind: Kind, sql: str, parameters: Sequence[Any]) -> Any:
    if kind.driver == "sqlalchemy":
        return (await execute(connection, kind, sql, parameters)).scalar_one()
    async with _cursor(connection, kind) as cursor:
        await cursor.execute(with_parameters(sql, kind.paramstyle), tuple(parameters))
        return _only(await cursor.fetchone())


def _cursor(connection: Any, kind: Kind) -> Any:
    if kind.driver == "psycopg":  # the application may want rows of any class
        return connection.cursor(row_factory=lambda cursor: tuple)
    return connection.cursor()


def _only(row: Any) -> Any:
    return next(iter(row.values() if isinstance(row, Mapping) else row))


# The table.

TABLE: Final = "alligator_outbox"

NOW: Final[Mapping[str, str]] = {
    # Not now(), which is the start of the transaction.
    POSTGRESQL: "extract(epoch FROM clock_timestamp())::double precision",
    # Not unix_timestamp(now()), which is ambiguous when summer time ends.
    MYSQL: "timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6)) / 1e6",
    SQLITE: "(julianday('now') - 2440587.5) * 86400.0",
}
"""The Unix time of the database's clock, which is the only one that the outbox uses."""

DDL: Final[Mapping[str, str]] = {
    POSTGRESQL: """\
CREATE TABLE {table} (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    commit_id varchar(32) NOT NULL UNIQUE,
    at double precision NOT NULL,
    data text NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    not_before double precision NOT NULL DEFAULT 0,
    error text
);
""",
    MYSQL: """\
CREATE TABLE {table} (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    commit_id varchar(32) NOT NULL UNIQUE,
    at double NOT NULL,
    data longtext NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    not_before double NOT NULL DEFAULT 0,
    error text
) ENGINE = InnoDB;
""",
    SQLITE: """\
CREATE TABLE {table} (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    commit_id varchar(32) NOT NULL UNIQUE,
    at double NOT NULL,
    data text NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    not_before double NOT NULL DEFAULT 0,
    error text
);
""",
}


def ddl(dialect: str, table: str = TABLE) -> str:
    """Return the statement that creates the table of the outbox."""
    return DDL[check_dialect(dialect)].format(table=table)


def insert(dialect: str, table: str) -> str:
    """Return the statement that writes one commit; its parameters are the commit's id and data."""
    return f"INSERT INTO {table} (commit_id, at, data) VALUES (?, {NOW[dialect]}, ?)"  # noqa: S608
