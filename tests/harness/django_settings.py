"""Settings of Django for a database, from its URL."""

from importlib.util import find_spec
from typing import Any

from sqlalchemy import make_url

ENGINES = {"postgresql": "postgresql", "mysql": "mysql", "sqlite": "sqlite3"}


def settings_of(url: str) -> dict[str, Any]:
    """Return the settings for a database, from its URL for SQLAlchemy."""
    parts = make_url(url)
    kind = parts.get_backend_name()
    # Otherwise SQLite refuses to write in a transaction that has read before another one wrote.
    options = {"transaction_mode": "IMMEDIATE", "timeout": 30} if kind == "sqlite" else {}
    return {
        "ENGINE": f"django.db.backends.{ENGINES[kind]}",
        "NAME": parts.database,
        "USER": parts.username or "",
        "HOST": parts.host or "",
        "PORT": parts.port or "",
        "OPTIONS": {**options, **parts.query},
    }


def use_pymysql() -> None:
    """Put PyMySQL in the place of mysqlclient, which Django supports, if that is not installed."""
    if find_spec("MySQLdb") is not None:
        return
    import pymysql  # type: ignore[import-untyped]

    pymysql.version_info = (2, 2, 7, "final", 0)
    pymysql.install_as_MySQLdb()
