"""Tell statements that only read from those that may write."""

import re
from typing import Final

READS: Final = {
    *("SELECT", "VALUES", "TABLE", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "PRAGMA", "SET"),
    *("BEGIN", "START", "SAVEPOINT", "RELEASE", "ROLLBACK", "COMMIT"),
}
WORD: Final = re.compile(r"(?:\s+|--[^\n]*\n|/\*.*?\*/|\()*(\w+)", re.S)
WRITES: Final = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE)\b", re.I)


def may_write(statement: str) -> bool:
    """Return whether *statement* may change rows.

    >>> may_write("SELECT 1"), may_write("WITH a AS (SELECT 1) SELECT 2"), may_write("DELETE FROM a")
    (False, False, True)
    """
    found = WORD.match(statement)
    word = found[1].upper() if found else ""
    if word == "WITH":
        return WRITES.search(statement) is not None
    return word not in READS
