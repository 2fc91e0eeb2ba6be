"""The tasks in a SQLite file that others have replaced, for an abort of these."""

from collections.abc import Callable
from sqlite3 import Cursor

from ...constants import COMMIT_MEMORY, READY, SCHEDULED
from ..unique import Unique
from . import batches
from . import schema as sql
from .clock import micros

FIND = """
    SELECT seq, state FROM task
    WHERE queue = ? AND unique_key = ? AND state IN ('ready', 'scheduled') AND token = 0
        AND until_start AND key_until <= ?
"""

# Its id is free for others.
PUT_ASIDE = """
    UPDATE task SET state = 'replaced', at = ?, alias_of = ifnull(alias_of, id),
        id = ifnull(alias_of, id) || char(31) || seq
    WHERE seq = ?
"""

LINK = "UPDATE task SET replaced_by = ? WHERE seq = ?"

FORGET = """
    DELETE FROM task WHERE seq IN (
        SELECT seq FROM task WHERE queue = ? AND state = 'replaced' AND at < ? ORDER BY at LIMIT 10
    )
"""

REPLACED_BY = "SELECT seq, queue, alias_of, due FROM task WHERE replaced_by = ?"

RESTORE = f"""
    UPDATE task SET state = :state, replaced_by = NULL,
        at = :due - CASE :state WHEN 'ready' THEN priority * {sql.LEVEL} ELSE 0 END
    WHERE seq = :seq
"""  # noqa: S608 - our own number

OF_COMMIT = """
    SELECT seq, queue, replaced_by FROM task WHERE seq > ? AND seq <= ? AND state = 'replaced'
"""

RELINK = "UPDATE task SET replaced_by = ? WHERE replaced_by = ?"

Execute = Callable[..., Cursor]
Count = Callable[..., None]


def put_aside(execute: Execute, count: Count, name: str, unique: Unique, now: int) -> int | None:
    """Replace the task that holds a key until its start, if it waits; return its row for `LINK`."""
    row = execute(FIND, (name, unique.key, now)).fetchone()
    if row is None:
        return None
    seq, state = row
    if batch := batches.leave(execute, seq):
        batches.settle(execute, count, batch, now, is_dead=True)
    execute(PUT_ASIDE, (now, seq))
    execute(FORGET, (name, now - micros(COMMIT_MEMORY)))
    count(name, **{state: -1, "canceled": 1})
    return int(seq)


def restore(execute: Execute, count: Count, by: int, now: int) -> None:
    """Put back the task that was replaced by an aborted one, which is deleted."""
    for seq, name, task_id, due in execute(REPLACED_BY, (by,)).fetchall():
        if execute(sql.FIND_WAITING, {"queue": name, "id": task_id}).fetchone() is not None:
            continue
        state = SCHEDULED if due > now else READY
        execute(RESTORE, {"seq": seq, "due": due, "state": state})
        count(name, **{state: 1, "canceled": -1})


def abort(execute: Execute, count: Count, after: int, last: int) -> None:
    """Delete the tasks of an aborted commit that were replaced."""
    for seq, name, by in execute(OF_COMMIT, (after, last)).fetchall():
        execute(RELINK, (by, seq))
        execute(sql.DELETE, (seq,))
        count(name, pushed=-1, canceled=-1)
