"""The unique keys in a SQLite file, and the tasks that hold them."""

from collections.abc import Callable, Sequence
from sqlite3 import Cursor

from ...constants import READY, SCHEDULED
from ..base import Duplicates, Message
from ..unique import Held, Unique
from . import replaced
from . import schema as sql
from .clock import micros

FIND_HOLDER = """
    SELECT ifnull(alias_of, id) FROM task
    WHERE queue = :queue AND unique_key = :key AND state NOT IN ('dead', 'replaced')
        AND (token = 0 OR NOT until_start OR key_until > :now)
    UNION ALL
    SELECT id FROM held_key WHERE queue = :queue AND unique_key = :key AND until > :now
    LIMIT 1
"""

SET_KEY = """
    UPDATE task SET unique_key = ?, until_start = ?, key_until = ? WHERE queue = ? AND id = ?
"""

KEEP_KEY = """
    REPLACE INTO held_key (queue, unique_key, id, until)
    SELECT queue, unique_key, ifnull(alias_of, id), key_until FROM task
    WHERE seq = ? AND token >= ? AND unique_key IS NOT NULL AND key_until > ?
"""

FORGET_KEYS = """
    DELETE FROM held_key WHERE (queue, unique_key) IN (
        SELECT queue, unique_key FROM held_key WHERE until <= ? ORDER BY until LIMIT 10
    )
"""


def push_each(
    execute: Callable[..., Cursor],
    count: Callable[..., None],
    messages: Sequence[Message],
    now: int,
) -> Duplicates | None:
    """Push *messages* one by one, because some have unique keys; return the duplicates."""
    duplicates: list[int] = []
    for place, message in enumerate(messages):
        name, task_id, data, delay, level, unique, follows, limit_key = message
        if follows:
            continue
        if execute(sql.FIND_WAITING, {"queue": name, "id": task_id}).fetchone() is not None:
            duplicates.append(place)
            continue
        old = None
        if unique is not None and (holder := _holder(execute, name, unique, now)) is not None:
            old = replaced.put_aside(execute, count, name, unique, now) if unique.replace else None
            if old is None:
                duplicates.append(Held(place, holder))
                continue
        due = now + micros(delay)
        state = SCHEDULED if due > now else READY
        if (found := execute(sql.FIND_ID, (name, task_id)).fetchone()) is not None:
            execute(sql.GIVE_ALIAS, found[:1])
        by = execute(sql.PUSH, (name, task_id, state, due, data, level, limit_key)).lastrowid
        if old is not None:
            execute(replaced.LINK, (by, old))
        if unique is not None:
            until = now + micros(unique.seconds) if unique.seconds > 0 else 0
            execute(SET_KEY, (unique.key, unique.until_start, until, name, task_id))
            execute(FORGET_KEYS, (now,))
        count(name, **{"pushed": 1, state: 1})
    return duplicates or None


def _holder(execute: Callable[..., Cursor], name: str, unique: Unique, now: int) -> str | None:
    """Return the id of the task that holds a key; None if it is free."""
    values = {"queue": name, "key": unique.key, "now": now}
    row: tuple[str] | None = execute(FIND_HOLDER, values).fetchone()
    return None if row is None else row[0]


def keep(executemany: Callable[..., object], runs: Sequence[tuple[int, int]], now: int) -> None:
    """Keep the keys of tasks that are done, and are about to be deleted, for as long as they are held.

    *runs* are the rows of the tasks, and the lowest tokens that they may have.
    """
    executemany(KEEP_KEY, [(*run, now) for run in runs])
