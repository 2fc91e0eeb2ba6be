"""The batches in a SQLite file: the tasks of a commit that has follow-ups."""

from collections import Counter
from collections.abc import Callable, Sequence
from sqlite3 import Cursor

from ...constants import READY
from ..base import Message
from ..follow_ups import with_numbers
from . import schema as sql

Execute = Callable[..., Cursor]
Count = Callable[..., None]
"""Records by how much the counts of a queue change."""

BEGIN = "INSERT INTO batch (tasks, left, dead) VALUES (0, 0, 0)"

# All tasks that were added since then are of the commit, because one transaction at a time writes.
JOIN = "UPDATE task SET batch = ? WHERE seq > ? AND state <> 'replaced'"

SET_SIZE = "UPDATE batch SET tasks = ?, left = ? WHERE id = ?"

ADD_FOLLOW_UP = """
    INSERT INTO follow_up (batch, place, queue, id, data, priority, limit_key)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""

BATCH_OF = "SELECT batch FROM task WHERE seq = ? AND token >= ? AND batch IS NOT NULL"

LEAVE = "UPDATE task SET batch = NULL WHERE seq = ?"

WAITING = """
    SELECT batch FROM task WHERE queue = ? AND state IN ('ready', 'scheduled') AND batch IS NOT NULL
"""

SETTLE = "UPDATE batch SET left = left - ?, dead = dead + ? WHERE id = ?"

SETTLED = "SELECT tasks, dead FROM batch WHERE id = ? AND left = 0"

FOLLOW_UPS = """
    SELECT queue, id, data, priority, limit_key FROM follow_up WHERE batch = ? ORDER BY place
"""

FOLLOW = "UPDATE task SET follows = ? WHERE queue = ? AND id = ?"

FORGET = ("DELETE FROM follow_up WHERE batch = ?", "DELETE FROM batch WHERE id = ?")

QUEUED = """
    SELECT seq, queue, state FROM task
    WHERE follows = ? AND state IN ('ready', 'scheduled') AND token = 0
"""


def begin(
    execute: Execute, count: Count, messages: Sequence[Message], after: int, now: int
) -> int | None:
    """Let a batch count the tasks above the row *after*, and keep the follow-ups among *messages*.

    Returns its number; None if there are no follow-ups.
    """
    follow_ups = [message for message in messages if message.follows]
    if not follow_ups:
        return None
    batch = execute(BEGIN).lastrowid
    assert batch is not None
    tasks = execute(JOIN, (batch, after)).rowcount
    execute(SET_SIZE, (tasks, tasks, batch))
    for place, each in enumerate(follow_ups):
        task = each.queue_name, each.task_id, each.data, each.priority, each.limit_key
        execute(ADD_FOLLOW_UP, (batch, place, *task))
    _queue_if_settled(execute, count, batch, now)
    return batch


def leave(execute: Execute, seq: int) -> int | None:
    """Return the number of the batch that counts a task, for `settle`; None if there is none."""
    row: tuple[int] | None = execute(BATCH_OF, (seq, 0)).fetchone()
    if row is None:
        return None
    execute(LEAVE, (seq,))
    return row[0]


def settle(
    execute: Execute, count: Count, batch: int, now: int, *, tasks: int = 1, is_dead: bool
) -> None:
    """Count *tasks* of a batch as settled; after the last one, queue the follow-ups."""
    execute(SETTLE, (tasks, tasks * is_dead, batch))
    _queue_if_settled(execute, count, batch, now)


def settle_done(execute: Execute, count: Count, runs: Sequence[tuple[int, int]], now: int) -> None:
    """Count tasks that are done, and are about to be deleted, as settled.

    *runs* are the rows of the tasks, and the lowest tokens that they may have.
    """
    found = {run[0]: row[0] for run in runs if (row := execute(BATCH_OF, run).fetchone())}
    for batch, tasks in Counter(found.values()).items():
        settle(execute, count, batch, now, tasks=tasks, is_dead=False)


def abort(execute: Execute, count: Count, batch: int) -> None:
    """Remove the follow-ups that no worker has had."""
    for seq, name, state in execute(QUEUED, (batch,)).fetchall():
        execute(sql.DELETE, (seq,))
        count(name, **{"pushed": -1, state: -1})
    _forget(execute, batch)


def _queue_if_settled(execute: Execute, count: Count, batch: int, now: int) -> None:
    row = execute(SETTLED, (batch,)).fetchone()
    if row is None:
        return
    for name, task_id, data, level, key in execute(FOLLOW_UPS, (batch,)).fetchall():
        if execute(sql.FIND_WAITING, {"queue": name, "id": task_id}).fetchone() is not None:
            continue
        if (found := execute(sql.FIND_ID, (name, task_id)).fetchone()) is not None:
            execute(sql.GIVE_ALIAS, found[:1])
        execute(sql.PUSH, (name, task_id, READY, now, with_numbers(data, *row), level, key))
        execute(FOLLOW, (batch, name, task_id))
        count(name, pushed=1, ready=1)
    _forget(execute, batch)


def _forget(execute: Execute, batch: int) -> None:
    for statement in FORGET:
        execute(statement, (batch,))
