"""Create the tables and functions, in a schema of their own."""

from importlib.resources import files
from time import monotonic
from typing import Final

from .statements import statement
from .wire import Wire

VERSION: Final = 1
"""The version of the tables and functions."""

INSTALL_SECONDS: Final = 10.0
"""How long the first use of a database may take, beyond the time limit of its call."""

LOCK_KEY: Final = 1634494569
"""The advisory lock under which tables are created: "alli"."""

FIND = statement(
    "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'store'),"
    " EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)",
    "text",
)
LOCK = statement("SELECT pg_advisory_xact_lock($1)", "int8")


def quoted(schema: str) -> str:
    """Return the name of a schema as an SQL identifier."""
    return f'"{schema}"'


def script(schema: str, *, with_schema: bool = True) -> str:
    """Return the SQL that creates the tables and functions."""
    folder = files("alligator.backends.postgres_backend") / "sql"
    parts = [
        (folder / f"{name}_{VERSION}.sql").read_text("utf-8") for name in ("tables", "functions")
    ]
    if not with_schema:
        parts[0] = parts[0].replace("CREATE SCHEMA IF NOT EXISTS {s};\n", "")
    text = "\n".join(part.strip() for part in parts)
    # `{key}` is a part of a literal; a schema's name has no quotes.
    text = text.replace("{s}", quoted(schema)).replace("{key}", schema)
    return f"{text}\n\nINSERT INTO {quoted(schema)}.store (version) VALUES ({VERSION});\n"


def is_installed(wire: Wire, schema: str, deadline: float) -> bool:
    """Return whether the tables exist."""
    [(has_tables, _)] = wire.call(FIND, [schema], deadline)
    return bool(has_tables)


def install(wire: Wire, schema: str, deadline: float) -> None:
    """Create the tables unless they exist; programs that do so at once wait for each other.

    Where they exist this executes no DDL, which would lock tables that others use.
    """
    if is_installed(wire, schema, deadline):
        return
    deadline = max(deadline, monotonic() + INSTALL_SECONDS)
    wire.run_script("BEGIN", deadline)
    try:
        wire.run_script(f"SET LOCAL lock_timeout = {int(INSTALL_SECONDS * 1000)}", deadline)
        wire.call(LOCK, [LOCK_KEY], deadline)
        # Asked again, and not by to_regclass(): it may answer from the cache of this session.
        [(has_tables, has_schema)] = wire.call(FIND, [schema], deadline)
        if not has_tables:
            wire.run_script(script(schema, with_schema=not has_schema), deadline)
        wire.run_script("COMMIT", deadline)
    except BaseException:
        wire.close()  # which rolls back
        raise
