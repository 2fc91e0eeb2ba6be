"""Bring the tables of a file to the newest version, and reject a file of another program."""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain

from ...exceptions import BackendError


def migrate(
    connection: sqlite3.Connection,
    path: str,
    versions: Sequence[Iterable[str]],
    application_id: int,
) -> None:
    """Run the statements of all *versions* that the file does not have yet.

    The header of the file holds its *application_id* and the version of its tables. Raises
    `BackendError` when the file belongs to another program or to a newer Alligator; the file is then
    left unchanged.
    """
    newest = len(versions)
    if _header(connection) == (application_id, newest):
        return
    # One transaction: a process that is killed in it leaves the file as it was.
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again, because another process may have migrated the file meanwhile.
        owner, version = _header(connection)
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if owner != application_id and (owner or tables):
            raise BackendError(
                f"{path} is a database of another program and was left unchanged: name another file "
                "for the queue."
            )
        if owner != application_id:
            version = 0
        if version > newest:
            raise BackendError(
                f"{path} was made by a newer Alligator (its tables have version {version}, this "
                f"Alligator knows up to {newest}): upgrade Alligator here."
            )
        for statement in chain.from_iterable(versions[version:]):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {application_id}")
        connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _header(connection: sqlite3.Connection) -> tuple[int, int]:
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return owner, version
