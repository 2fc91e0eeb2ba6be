"""The SQL statements of the SQLite store, and what they have in common.

The statements need SQLite 3.24. There is no RETURNING, because systems with SQLite 3.34 are in use.
"""

from typing import Final

from ...constants import LEVELS
from .tables import IN_LINE as IN_LINE
from .tables import VERSIONS as VERSIONS

LEVEL: Final = 2**60
"""For each level of priority, the `at` of a ready task is earlier by so much: so `task_order` has the
ready tasks in the order in which they are reserved. It is more than any time."""

OF_LINES: Final = IN_LINE - LEVEL
"""From this `at` on, ready tasks are in lines."""

NO_END: Final = 2**62
"""A queue that is paused until this time is paused without an end."""

COUNTS: Final = (
    *("ready", "scheduled", "leased", "dead"),
    *("pushed", "succeeded", "retried", "lost", "canceled", "dropped", "failed", "died"),
    "expired",
)

SAMPLED: Final = (
    *("ready", "scheduled", "leased", "dead"),
    *("pushed", "succeeded", "failed", "dropped"),
)

# Every write.

CLOCK = "SELECT now, turn FROM clock"

SET_CLOCK = "UPDATE clock SET now = ?, turn = ?"

PING = (
    "REPLACE INTO figure (queue, name, number) VALUES ('', 'ping', 0)",
    "DELETE FROM figure WHERE queue = '' AND name = 'ping'",
)

SHIFT = (
    "UPDATE task SET at = at - :by, due = due - :by WHERE state <> 'dead'",
    "UPDATE task SET key_until = key_until - :by WHERE key_until > 0 AND unique_key IS NOT NULL",
    "UPDATE held_key SET until = until - :by",
    "UPDATE worker SET seen = seen - :by, gone = gone - :by",
    "UPDATE schedule SET seen = seen - :by, gone = gone - :by",
    "UPDATE begun SET at = at - :by",
    f"UPDATE queue SET paused = paused - :by WHERE paused BETWEEN 1 AND {NO_END - 1}",  # noqa: S608
    f"UPDATE line SET until = until - :by WHERE until BETWEEN 1 AND {NO_END - 1}",  # noqa: S608
    "UPDATE key_begun SET at = at - :by",
)

COUNT = f"""
    INSERT INTO queue (name, {", ".join(COUNTS)}) VALUES (?{", ?" * len(COUNTS)})
    ON CONFLICT (name) DO UPDATE SET {", ".join(f"{c} = {c} + excluded.{c}" for c in COUNTS)}
"""  # noqa: S608 - names of our own columns

COUNT_AND_TURN = f"{COUNT}, turn_high = ?, turn_normal = ?, turn_low = ?"
"""Sets the keys that had the last turns, too."""

# Push.

PUSH = f"""
    INSERT INTO task (queue, id, state, due, data, priority, limit_key, at)
    SELECT queue, id, state, due, data, priority, limit_key, due - CASE state
        WHEN 'ready' THEN priority * {LEVEL} - (limit_key IS NOT NULL) * {IN_LINE} ELSE 0 END
    FROM (SELECT ? AS queue, ? AS id, ? AS state, ? AS due, ? AS data, ? AS priority, ? AS limit_key)
    WHERE true ON CONFLICT (queue, id) DO NOTHING
"""  # noqa: S608 - our own numbers

HAS_ALIASES = """
    SELECT EXISTS (SELECT 1 FROM task WHERE alias_of IS NOT NULL AND +state <> 'replaced')
"""

FIND_WAITING_ALIAS = """
    SELECT 1 FROM task WHERE queue = ? AND alias_of = ? AND state IN ('ready', 'scheduled')
"""

FIND_ID = "SELECT seq, state FROM task WHERE queue = ? AND id = ?"

# No task id contains a control character, so the new id is unique.
GIVE_ALIAS = "UPDATE task SET alias_of = id, id = id || char(31) || seq WHERE seq = ?"

UNDO_PUSH = "DELETE FROM task WHERE seq > ? AND +queue = ? AND +state = ?"

LAST_SEQ = "SELECT ifnull(max(seq), 0) FROM task"

FIND_COMMIT = "SELECT after, last, duplicates, batch FROM pushed WHERE id = ?"

REMEMBER_COMMIT = """
    REPLACE INTO pushed (id, at, after, last, duplicates, batch) VALUES (?, ?, ?, ?, ?, ?)
"""

FORGET_COMMITS = """
    DELETE FROM pushed WHERE id IN (SELECT id FROM pushed WHERE at < ? ORDER BY at LIMIT 10)
"""

# The last one first: it may have the id of a task that another one of them has replaced.
FIND_PUSHED = """
    SELECT seq, queue, state FROM task
    WHERE seq > ? AND seq <= ? AND state IN ('ready', 'scheduled') AND token = 0 ORDER BY seq DESC
"""

# Apply outcomes and reserve.

NEXT = f"""
    SELECT
        (SELECT now FROM clock),
        ifnull((SELECT CAST(paused AS INTEGER) FROM queue WHERE name = :queue), 0),
        EXISTS (SELECT 1 FROM task WHERE queue = :queue AND state = 'ready' AND at < {OF_LINES})
            OR EXISTS (SELECT 1 FROM line WHERE queue = :queue AND until = 0),
        (SELECT min(at) FROM task WHERE queue = :queue AND state = 'scheduled'),
        (SELECT min(until) FROM line WHERE queue = :queue AND until > 0),
        (SELECT min(at) FROM task WHERE queue = :queue AND state = 'leased'),
        EXISTS (SELECT 1 FROM queue_limit WHERE queue = :queue)
"""  # noqa: S608 - our own number

# Whether any task has a unique key, any commit has follow-ups, and any queue or key has a limit.
IN_USE = """
    SELECT EXISTS (SELECT 1 FROM task WHERE unique_key IS NOT NULL),
        EXISTS (SELECT 1 FROM batch),
        EXISTS (SELECT 1 FROM queue_limit) OR EXISTS (SELECT 1 FROM key_limit)
"""

HELD_BACK = """
    SELECT CAST(paused AS INTEGER), EXISTS (SELECT 1 FROM queue_limit WHERE queue = name),
        EXISTS (SELECT 1 FROM task WHERE queue = name AND state = 'scheduled' AND at <= :now),
        turn_high, turn_normal, turn_low
    FROM queue WHERE name = :queue
"""

PAUSE = "UPDATE queue SET paused = ? WHERE name = ?"

FIND = "SELECT state, due, token, lost FROM task WHERE seq = ?"

# The newest task of that id. The + keeps SQLite from scanning all tasks of one state.
FIND_WAITING = """
    SELECT seq, state, data, lost FROM task
    WHERE queue = :queue AND id = :id AND +state IN ('ready', 'scheduled')
    UNION ALL
    SELECT seq, state, data, lost FROM task
    WHERE queue = :queue AND alias_of = :id AND +state IN ('ready', 'scheduled')
    ORDER BY seq DESC LIMIT 1
"""

FIND_LAST_LEASED = """
    SELECT seq, state, data, token FROM task
    WHERE queue = :queue AND id = :id AND +state = 'leased'
    UNION ALL
    SELECT seq, state, data, token FROM task
    WHERE queue = :queue AND alias_of = :id AND +state = 'leased'
    ORDER BY 1 DESC LIMIT 1
"""

# The markers of leases that were canceled, each with its token.
CANCELED = "SELECT substr(id, 10) FROM pushed WHERE id >= 'canceled ' AND id < 'canceled!'"

# The task of that id that died last.
FIND_DEAD = """
    SELECT seq, at FROM task WHERE queue = :queue AND id = :id AND +state = 'dead'
    UNION ALL
    SELECT seq, at FROM task WHERE queue = :queue AND alias_of = :id AND +state = 'dead'
    ORDER BY at DESC, seq DESC LIMIT 1
"""

FIND_EXPIRED = """
    SELECT seq, lost, alone FROM task
    WHERE queue = ? AND state = 'leased' AND at <= ? ORDER BY at, seq LIMIT ?
"""

_DUE = """
    SELECT seq FROM (
        SELECT seq FROM task INDEXED BY task_scheduled
        WHERE queue = :queue AND priority = {} AND state = 'scheduled' AND at <= :now
        ORDER BY at, seq LIMIT :limit
    )
"""

# Of each priority: a task must not wait for others that are reserved later.
MAKE_READY = f"""
    UPDATE task SET state = 'ready', at = at - priority * {LEVEL}
    WHERE seq IN ({" UNION ALL ".join(_DUE.format(level) for level in LEVELS.values())})
"""  # noqa: S608 - our own numbers

TASK: Final = "seq, ifnull(alias_of, id), data, lost, due, suspect OR lost > 0, -priority"
"""What a step has to know of a ready task."""

FIND_READY = f"""
    SELECT {TASK} FROM task
    WHERE queue = ? AND state = 'ready' AND at < {OF_LINES} ORDER BY at, seq LIMIT ?
"""  # noqa: S608 - our own number

# The same tasks that FIND_READY returned, in one statement.
TAKE_READY = f"""
    UPDATE task SET state = 'leased', at = ?, token = ?, alone = ? WHERE seq IN (
        SELECT seq FROM task WHERE queue = ? AND state = 'ready' AND at < {OF_LINES}
        ORDER BY at, seq LIMIT ?
    )
"""  # noqa: S608 - our own number

TAKE = """
    UPDATE task SET state = 'leased', at = ?, token = ?, alone = 1,
        is_limited = EXISTS (SELECT 1 FROM key_limit WHERE queue = task.queue)
    WHERE seq = ?
"""

EXTEND = "UPDATE task SET at = ? WHERE seq = ? AND state = 'leased' AND token = ?"

PUT_BACK = f"""
    UPDATE task SET state = :state, due = :due, lost = :lost, reason = '', traceback = '',
        at = :due - CASE :state WHEN 'ready' THEN priority * {LEVEL} ELSE 0 END,
        data = ifnull(:data, data), suspect = ifnull(:suspect, suspect)
    WHERE seq = :seq
"""  # noqa: S608 - our own number

MAKE_DEAD = """
    UPDATE task SET state = 'dead', at = ?, lost = ?, reason = ?, traceback = ?,
        data = ifnull(?, data), unique_key = NULL
    WHERE seq = ?
"""

FIND_OLDEST_DEAD = """
    SELECT seq, at, (SELECT dead FROM queue WHERE name = :queue) FROM task
    WHERE queue = :queue AND state = 'dead' ORDER BY at, seq LIMIT :most
"""

# Delete.

DELETE = "DELETE FROM task WHERE seq = ?"

# A lower token belongs to an older, deleted file of this path, because tokens never decrease.
DELETE_LEASED = "DELETE FROM task WHERE seq = ? AND state = 'leased' AND token >= ?"

DROP_ALL = "DELETE FROM task WHERE queue = ? AND state = ?"

# Queries.

MOST_COUNTED: Final = 10_000
"""How many due tasks that no step has made ready yet are counted at most."""

OLDEST_READY = "SELECT min(at) FROM task WHERE queue = :queue AND state = 'ready'"

IN_LINES = ", ".join(
    f"ifnull(({OLDEST_READY} AND at >= {IN_LINE + rank * LEVEL} AND at < {IN_LINE + (rank + 1) * LEVEL})"
    f" - {IN_LINE + rank * LEVEL}, :now)"
    for rank in LEVELS.values()
)

STATS = f"""
    SELECT {", ".join(COUNTS)},
        (SELECT count(*) FROM (
            SELECT 1 FROM task
            WHERE queue = :queue AND state = 'scheduled' AND at <= :now LIMIT {MOST_COUNTED}
        )),
        min(
            ifnull(({OLDEST_READY} AND at < 0) + {LEVEL}, :now),
            ifnull(({OLDEST_READY} AND at BETWEEN 0 AND {LEVEL}), :now),
            ifnull(({OLDEST_READY} AND at BETWEEN {LEVEL} AND {OF_LINES}) - {LEVEL}, :now),
            {IN_LINES},
            ifnull((SELECT min(at) FROM task WHERE queue = :queue AND state = 'scheduled'), :now)
        ),
        CAST(paused AS INTEGER)
    FROM queue WHERE name = :queue
"""  # noqa: S608 - names of our own columns

QUEUE_NAMES = "SELECT name FROM queue ORDER BY name"

SCHEDULED_TASKS = """
    SELECT ifnull(alias_of, id), data, at FROM task
    WHERE queue = ? AND state = 'scheduled' AND at > ? ORDER BY at, seq LIMIT ?
"""

PEEK = """
    SELECT seq, ifnull(alias_of, id), data, state FROM task
    WHERE queue = ? AND state NOT IN ('leased', 'replaced') AND seq > ? ORDER BY seq LIMIT ?
"""

DEAD_LETTERS = """
    SELECT queue, ifnull(alias_of, id), data, reason, traceback, at FROM task
    WHERE queue = ? AND state = 'dead' ORDER BY at DESC, seq DESC LIMIT ?
"""

BEAT = """
    REPLACE INTO worker (name, seen, gone, started_at, queues, running, said)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""

FORGET_WORKERS = "DELETE FROM worker WHERE gone <= ?"

WORKERS = "SELECT seen, said FROM worker WHERE gone > ? AND said <> '' ORDER BY name"

NOTE = """
    INSERT INTO figure (queue, name, number) VALUES (?, ?, ?)
    ON CONFLICT (queue, name) DO UPDATE SET number = number + excluded.number
"""

FIGURES = "SELECT name, number FROM figure WHERE queue = ?"

FIND_SAMPLE = "SELECT at FROM sample WHERE queue = ? AND place = ?"

SAMPLE = f"""
    REPLACE INTO sample (queue, place, at, {", ".join(SAMPLED)})
    VALUES (?, ?, ?{", ?" * len(SAMPLED)})
"""  # noqa: S608 - names of our own columns

HISTORY = f"""
    SELECT at, {", ".join(SAMPLED)} FROM sample WHERE queue = ? AND at > ? AND at <= ? ORDER BY at
"""  # noqa: S608 - names of our own columns
